"""Kill a process that rewrites a file, again and again, and count the torn files.

Run as a program, in an interpreter of its own: it forks, and a process with threads should not.
``python kills.py WRITER FOLDER KILLS SEED`` prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

TENSORS = 64
TENSOR_BYTES = 128 * 1024  # 8 MiB in all
# A few rewrites; not from 0, for on a busy machine the new process may not have begun its first one by then.
DELAY_SECONDS = (0.01, 0.05)


def naive(target: Path, byte: int) -> None:
    """What the harness has to catch: the target itself is truncated and filled, each tensor hashed before its write.

    Never after: from the last write on the file is whole, and a kill then finds nothing wrong.
    """
    digest = hashlib.sha256()
    with target.open("wb", buffering=0) as file:
        for _ in range(TENSORS):
            data = bytes([byte]) * TENSOR_BYTES
            for _ in range(8):  # a writer that calculates: the time between two writes, not after the last
                digest.update(data)
            file.write(data)


def _with(write: Callable[..., object]) -> Callable[[Path, int], None]:
    from lora_analysis.formats.layout import TensorPlan

    plan = [TensorPlan(f"t{i}", "U8", (TENSOR_BYTES,)) for i in range(TENSORS)]
    metadata = {"sshs_model_hash": "?" * 64}

    def rewrite(target: Path, byte: int) -> None:
        chunks = (bytes([byte]) * TENSOR_BYTES for _ in plan)
        write(target, plan, chunks, metadata, overwrite=True)

    return rewrite


def writer(name: str) -> Callable[[Path, int], None]:
    if name == "naive":
        return naive
    if name == "safetensors":
        from lora_analysis.formats.writer import write_safetensors

        return _with(write_safetensors)
    from lora_analysis.formats.torch_writer import write_torch

    return _with(write_torch)


def kill_once(rewrite: Callable[[Path, int], None], target: Path, delay: float) -> None:
    """Start a process that rewrites ``target`` without end, and kill it ``delay`` seconds into that."""
    ready, started = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(started, b"!")
            for byte in cycle((1, 2, 3)):
                rewrite(target, byte)
        finally:
            os._exit(70)
    os.close(started)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the writer ended by itself: {status}"


def main(name: str, folder: str, kills: int, seed: int) -> dict[str, int]:
    rewrite, target = writer(name), Path(folder) / "adapter.bin"
    whole = set()
    for byte in (1, 2, 3):
        rewrite(target, byte)
        whole.add(target.read_bytes())
    moments = random.Random(seed)
    torn = most_debris = debris = 0
    for _ in range(kills):
        kill_once(rewrite, target, moments.uniform(*DELAY_SECONDS))
        torn += target.read_bytes() not in whole
        left = [path for path in Path(folder).iterdir() if path != target]
        most_debris = max(most_debris, len(left))
        debris += len(left)
        for path in left:
            assert path.name.startswith("."), path
            path.unlink()
    return {"kills": kills, "torn": torn, "debris": debris, "most_debris": most_debris}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
