"""Kill a process that writes, again and again, and count what is torn.

Run as a program, in an interpreter of its own: it forks, and a process with threads should not.
``python kills.py WRITER FOLDER KILLS SEED`` prints one JSON object.

A writer makes one of three generations of a file or folder, 1, 2 or 3, and is killed at a random moment. What then
lies at the target has to be one of the three, to the byte; or nothing, for a writer that makes its target new.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

TENSORS = 64
TENSOR_BYTES = 128 * 1024  # 8 MiB in all
# Seconds. A few writes; not from 0, for on a busy machine the new process may not have begun its first one by then.
FILE_DELAYS = (0.01, 0.05)
RESIZE_DELAYS = (0.01, 0.15)
Rewrite = Callable[[Path, int], None]


class Writer(NamedTuple):
    """What is killed."""

    rewrite: Rewrite  # to the target, one of the generations
    target: str  # its name
    delays: tuple[float, float]
    is_new: bool = False  # each time the target is made anew, and not there before


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


def writer(name: str, folder: Path) -> Writer:
    if name == "naive":
        return Writer(naive, "adapter.bin", FILE_DELAYS)
    if name == "safetensors":
        from lora_analysis.formats.writer import write_safetensors

        return Writer(_with(write_safetensors), "adapter.bin", FILE_DELAYS)
    if name == "torch":
        from lora_analysis.formats.torch_writer import write_torch

        return Writer(_with(write_torch), "adapter.bin", FILE_DELAYS)
    if name == "naive resize":
        return Writer(_naive_resize(_kohya(folder)), "adapter.safetensors", RESIZE_DELAYS)
    if name == "resize":
        return Writer(_resize(_kohya(folder)), "adapter.safetensors", RESIZE_DELAYS)
    assert name == "resize folder"
    return Writer(_resize(_peft(folder)), "adapter", RESIZE_DELAYS, is_new=True)


# -- resizing ----------------------------------------------------------------------------------------


def _pair(rng: object, names: tuple[str, str]) -> dict[str, object]:
    down, up = names
    return {down: rng.standard_normal((32, 640)), up: rng.standard_normal((640, 32))}  # type: ignore[attr-defined]


def _save(path: Path, arrays: dict[str, object], metadata: dict[str, str]) -> Path:
    import numpy as np

    from lora_analysis.formats.layout import TensorPlan
    from lora_analysis.formats.writer import write_safetensors

    halves = {key: np.asarray(value, np.float16) for key, value in arrays.items()}
    plan = [TensorPlan(key, "F16", value.shape) for key, value in halves.items()]
    write_safetensors(path, plan, (value.data for value in halves.values()), metadata)
    return path


def _kohya(folder: Path) -> Path:
    import numpy as np

    rng, arrays = np.random.default_rng(0), {}
    for number in range(24):
        name = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_{number}_attn1_to_q"
        arrays |= _pair(rng, (f"{name}.lora_down.weight", f"{name}.lora_up.weight"))
    header = {"ss_network_module": "networks.lora", "ss_network_dim": "32", "sshs_model_hash": "0" * 64}
    return _save(folder / ".input.safetensors", arrays, header)


def _peft(folder: Path) -> Path:
    import numpy as np

    rng, arrays = np.random.default_rng(0), {}
    for number in range(24):
        name = f"base_model.model.model.layers.{number}.self_attn.q_proj"
        arrays |= _pair(rng, (f"{name}.lora_A.weight", f"{name}.lora_B.weight"))
    adapter = folder / ".input"
    adapter.mkdir()
    config = {"peft_type": "LORA", "r": 32, "lora_alpha": 32, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    _save(adapter / "adapter_model.safetensors", arrays, {"format": "pt"})
    return adapter


def _resize(source: Path) -> Rewrite:
    """The command itself, in this process: everything is imported before the fork."""
    from lora_analysis.cli import main as lora

    def rewrite(target: Path, generation: int) -> None:
        command = ["lora", "resize", source, "-o", target, "--rank", 8 * generation, "--force", "--threads", 2]
        sys.argv = list(map(str, command))
        with suppress(SystemExit):
            lora()
        assert target.exists()

    return rewrite


def _naive_resize(source: Path) -> Rewrite:
    """What the harness has to catch here: the finished resize copied over the target, tensor by tensor."""
    resize = _resize(source)

    def rewrite(target: Path, generation: int) -> None:
        made = target.with_name(f".made-{generation}.safetensors")
        if not made.exists():
            resize(made, generation)
        naive_copy(made, target)

    return rewrite


def naive_copy(source: Path, target: Path) -> None:
    data = source.read_bytes()
    with target.open("wb", buffering=0) as file:
        for start in range(0, len(data), 16384):
            for _ in range(8):
                hashlib.sha256(data[start : start + 16384] * 4).digest()
            file.write(data[start : start + 16384])


# -- killing -----------------------------------------------------------------------------------------


def kill_once(one: Writer, target: Path, delay: float) -> None:
    """Start a process that rewrites ``target`` without end, and kill it ``delay`` seconds into that."""
    ready, started = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the command prints
            os.write(started, b"!")
            for generation in cycle((1, 2, 3)):
                if one.is_new:
                    remove(target)
                one.rewrite(target, generation)
        finally:
            os._exit(70)
    os.close(started)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the writer ended by itself: {status}"


def remove(target: Path) -> None:
    """Take a folder away in one step, so that a kill meanwhile leaves all of it or nothing at its name."""
    if target.exists():
        away = target.with_name(".removed")
        shutil.rmtree(away, ignore_errors=True)
        target.rename(away)


def content(target: Path) -> object:
    """Every byte of a file or of the files in a folder; None where there is nothing."""
    if target.is_dir():
        return {path.name: path.read_bytes() for path in target.iterdir()}
    return target.read_bytes() if target.exists() else None


def main(name: str, place: str, kills: int, seed: int) -> dict[str, int]:
    folder = Path(place)
    one = writer(name, folder)
    target, whole = folder / one.target, []
    with open(os.devnull, "w") as nowhere:
        out, sys.stdout = sys.stdout, nowhere
        for generation in (1, 2, 3):
            if one.is_new:
                remove(target)
            started = time.monotonic()
            one.rewrite(target, generation)
            seconds = time.monotonic() - started
            whole.append(content(target))
        sys.stdout = out
    own = {path.name for path in folder.iterdir()} | {".removed"}
    moments = random.Random(seed)
    earliest, latest = one.delays
    latest = max(latest, min(3 * seconds, 0.8))  # a busy machine gets further in more time
    torn = most_debris = debris = 0
    for _ in range(kills):
        kill_once(one, target, moments.uniform(earliest, latest))
        found = content(target)
        torn += found not in whole and not (one.is_new and found is None)
        left = [path for path in folder.iterdir() if path.name not in own]
        most_debris = max(most_debris, len(left))
        debris += len(left)
        for path in left:
            assert path.name.startswith(".lora-analysis-"), path
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {"kills": kills, "torn": torn, "debris": debris, "most_debris": most_debris}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
