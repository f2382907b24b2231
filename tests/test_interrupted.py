"""Ctrl-C at a random moment of the analysis commands, and the bar they show meanwhile: the real command, as it ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from interrupting import AS_ON_A_TERMINAL, Ended
from lora_analysis.formats.layout import TensorPlan
from lora_analysis.formats.writer import write_safetensors

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'lora-analysis[plot]'")
pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'lora-analysis[pca]'")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals are different there")

LAYERS, RANK, SIDE = 220, 256, 512  # 115 MB; a spectrum of it takes seconds of one core, a layer hundredths
MOMENTS = 3  # interrupted runs of every command
# The line says that Python itself has started, which takes long on a busy machine; before, it has no say in its end.
PROGRAM = f"""{AS_ON_A_TERMINAL}
from lora_analysis.__main__ import main
print("started", flush=True)
main()
"""
EARLIEST = 0.001  # seconds later

COMMANDS = {
    "spectrum-base": ["spectrum", "A", "--base", "BASE", "--json"],
    "pca": ["pca", "A", "-n", "8", "-o", "OUT.npz"],
    "pca-figure": ["pca", "A", "-o", "OUT.png"],
    "compare": ["compare", "A", "B", "-o", "OUT.png"],
    "plot-ranks": ["plot", "ranks", "A", "-o", "OUT.pdf"],
    "plot-heatmap": ["plot", "heatmap", "A", "-o", "OUT.png"],
    "plot-similarity": ["plot", "similarity", "A", "B", "-o", "OUT.svg"],
    "report": ["report", "A", "-o", "OUT.html"],
}


def _write(path: Path, layers: int, rank: int, side: int) -> Path:
    """An SDXL-like adapter; every layer has the same values, turned by one place, so that writing it is quick."""
    rng = np.random.default_rng(0)
    down, up = (rng.standard_normal(shape).astype(np.float16) for shape in ((rank, side), (side, rank)))
    plan, chunks = [], []
    for number in range(layers):
        name = f"lora_unet_input_blocks_4_1_transformer_blocks_{number}_attn1_to_q"
        for key, value in (("lora_down.weight", down), ("lora_up.weight", up)):
            plan.append(TensorPlan(f"{name}.{key}", "F16", value.shape))
            chunks.append(np.roll(value, number).data)
    write_safetensors(path, plan, iter(chunks), {"ss_network_module": "networks.lora"})
    return path


def _write_base(path: Path, layers: int, side: int) -> None:
    """The weights under that adapter, in the names of an original checkpoint."""
    weight = np.random.default_rng(1).standard_normal((side, side)).astype(np.float16)
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.{}.attn1.to_q.weight"
    plan = [TensorPlan(key.format(number), "F16", weight.shape) for number in range(layers)]
    write_safetensors(path, plan, (weight.data for _ in plan), {})


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two adapters that keep a core busy for seconds. Shared: outputs go elsewhere."""
    folder = tmp_path_factory.mktemp("big")
    first = _write(folder / "a.safetensors", LAYERS, RANK, SIDE)
    os.link(first, folder / "b.safetensors")
    _write_base(folder / "base.safetensors", LAYERS, SIDE)
    return folder


def _command(words: list[str], folder: Path, outputs: Path) -> list[str]:
    places = {word: str(folder / f"{word.lower()}.safetensors") for word in ("A", "B", "BASE")}
    return [str(outputs / word.lower()) if word.startswith("OUT.") else places.get(word, word) for word in words]


def _interrupted_after(seconds: float, arguments: list[str]) -> Ended | None:
    """The command, sent SIGINT after some seconds; None where it had ended by itself."""
    command = [sys.executable, "-c", PROGRAM, *arguments, "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(seconds)
            is_running = child.poll() is None
            child.send_signal(signal.SIGINT)
            sent = time.monotonic()
            out, err = child.communicate(timeout=20.0)
        except BaseException:
            child.kill()  # leaving the block closes the pipes and waits
            raise
    return Ended(child.returncode, out, err, time.monotonic() - sent) if is_running and child.returncode else None


def _came_too_late(ended: Ended, made: list[Path], arguments: list[str]) -> bool:
    """Whether the result was there, whole, and the process about to end: then Python itself may answer the signal."""
    if made:
        return [str(path) for path in made] == arguments[-1:]
    return ended.code == -signal.SIGINT and ended.out.endswith("}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_at_a_random_moment_ends_with_130_one_line_and_no_file(name: str, big: Path, tmp_path: Path) -> None:
    moments, latest = random.Random(name), 3.0
    arguments = _command(COMMANDS[name], big, tmp_path)
    before = sorted(path.name for path in big.iterdir())
    seconds = []
    while len(seconds) < MOMENTS:
        ended = _interrupted_after(moments.uniform(EARLIEST, latest), arguments)
        made = list(tmp_path.iterdir())
        if ended is None or _came_too_late(ended, made, arguments):  # a fast machine: the work was done by then
            latest *= 0.7
            assert latest > EARLIEST
            for path in made:
                path.unlink()
            continue
        assert ended.code == 130
        assert ended.out == ""
        assert len(ended.err.splitlines()) == 1
        assert ended.err.startswith("interrupted: ")
        assert made == []  # no output, and no temporary file beside it
        seconds.append(ended.seconds)
    assert sorted(path.name for path in big.iterdir()) == before
    assert sorted(seconds)[MOMENTS // 2] < 2.0  # 0.1 to 0.4 on a quiet machine; one of them may meet a busy one


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_sees_layers_done_out_of_how_many(name: str, tmp_path: Path) -> None:
    import pty

    first = _write(tmp_path / "a.safetensors", 7, 4, 32)
    os.link(first, tmp_path / "b.safetensors")
    _write_base(tmp_path / "base.safetensors", 7, 32)
    reader, terminal = pty.openpty()
    command = [sys.executable, "-m", "lora_analysis", *_command(COMMANDS[name], tmp_path, tmp_path)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, env=environment) as child:
        os.close(terminal)
        seen = b""
        while chunk := _read(reader):
            seen += chunk
        assert child.stdout is not None
        assert b"7/7" not in child.stdout.read()
    os.close(reader)
    assert child.returncode == 0
    assert b"7/7" in seen


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 4096)
    except OSError:  # Linux: the other end is closed
        return b""
