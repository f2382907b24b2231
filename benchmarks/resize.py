"""How fast `lora resize`, `spectrum`, `pca`, `compare` and `merge` are, on adapters of full size.

    python benchmarks/resize.py [--keep FOLDER] [--only TEXT] [--no-dense] [--repeat 3] [--write-docs]

About nine minutes on two free cores, four without the dense baseline. ``--only 'Llama' `` or ``--only spectrum`` runs
the lines that hold the text; with ``--keep`` the adapters are written once and found again.

Writes the adapters of ``full_size.py`` (about 4 GB), runs whole processes on them, files in the page cache, and prints
wall clock, CPU seconds and peak memory of the fastest of a few runs, beside ``baselines.py``. On a machine that does
other things too, CPU seconds say more than the wall clock.

a. a dense SVD per layer, in float32 on all cores, extrapolated from one layer of each shape;
b. the same stream with QR of both factors;
c. the floor: the same stream with nothing but reading, Gram products, one eigenproblem and writing.

``--write-docs`` puts the table, with the machine and its load, into ``docs/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from full_size import FLUX, LLAMA, LOCON, LOKR, SDXL, SDXL_SMALL, FullSize

from lora_analysis.doctor import usable_cores

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
# Settings of some machines that make numpy slower, or Python compile every module at every start.
LEFT_OUT = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE")
BEGIN, END = "<!-- resizing: begin -->", "<!-- resizing: end -->"
HEADINGS = (
    "adapter", "command", "wall s", "CPU s", "peak MiB", "(c) floor s", "× floor", "floor CPU s", "× floor CPU",
    "(b) QR s", "(a) dense SVD s", "dense / ours",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One finished process."""

    wall: float  # seconds
    cpu: float  # seconds, of all threads
    peak_mib: float
    output: str


@dataclass(frozen=True)
class Case:
    """One command on one adapter, and which baselines do the same."""

    inputs: tuple[FullSize, ...]
    command: tuple[str, ...]  # without the paths
    rank: int | None = None  # of the baselines; None where there is none
    ways: tuple[str, ...] = ()


FACTORED = ("floor", "qr", "dense")
CASES = (
    Case((SDXL,), ("spectrum", "--json")),
    Case((SDXL,), ("resize", "--rank", "32"), 32, FACTORED),
    Case((SDXL,), ("resize", "--size", "230MB")),
    Case((SDXL,), ("resize", "--error", "0.05")),
    Case((LOCON,), ("resize", "--rank", "16"), 16, ("floor", "qr")),
    Case((FLUX,), ("spectrum", "--json")),
    Case((FLUX,), ("resize", "--rank", "8"), 8, FACTORED),
    Case((LLAMA,), ("resize", "--rank", "16"), 16, FACTORED),
    Case((LOKR,), ("resize", "--rank", "16"), 16, ("dense",)),
    Case((SDXL,), ("pca", "-n", "8", "--json")),
    Case(SDXL_SMALL, ("compare", "--json")),
    Case(SDXL_SMALL, ("merge",)),
    Case(SDXL_SMALL, ("merge", "--rank", "32")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--keep", type=Path, help="write the adapters into this folder, use those that are there, keep them"
    )
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    parser.add_argument("--no-dense", action="store_true", help="leave out the dense baseline, which takes minutes")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each command; the fastest counts")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table in {PAGE.name}")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="lora-benchmark-"))
    try:
        lines = list(table(folder, asked.only, repeat=asked.repeat, with_dense=not asked.no_dense))
    finally:
        if not asked.keep:
            shutil.rmtree(folder)
    if asked.write_docs:
        write_docs(lines)


def table(folder: Path, only: str, *, repeat: int, with_dense: bool) -> Iterator[str]:
    """Lines of Markdown, printed as they come."""
    machine = f"{machine_line()}; best of {repeat}:"
    head = [machine, "", f"| {' | '.join(HEADINGS)} |", "| --- | --- |" + " ---: |" * (len(HEADINGS) - 2)]
    for line in head:
        print(line, flush=True)
        yield line
    for case in CASES:
        label = (
            f"{case.inputs[0].label}{' + another' if len(case.inputs) > 1 else ''} | `lora {' '.join(case.command)}`"
        )
        if only in label:
            cells = measure(case, folder, repeat, with_dense=with_dense)
            line = f"| {label} | {' | '.join(cells)} |"
            print(line, flush=True)
            yield line


def measure(case: Case, folder: Path, repeat: int, *, with_dense: bool) -> list[str]:
    """The cells of one line."""
    paths = [adapter.write(folder) for adapter in case.inputs]
    warm_up(paths)
    ours = fastest(lora_command(case, paths, folder), repeat)
    floor, qr, dense = (None, None, None)
    if "floor" in case.ways:
        floor, qr = (fastest(baseline(way, paths[0], case, folder), min(repeat, 2)) for way in ("floor", "qr"))
    if "dense" in case.ways and with_dense:
        dense = float(run(baseline("dense", paths[0], case, folder)).output)
    shutil.rmtree(folder / "out", ignore_errors=True)
    return [
        f"{ours.wall:.2f}",
        f"{ours.cpu:.2f}",
        f"{ours.peak_mib:.0f}",
        shown(floor and floor.wall, ".2f"),
        shown(floor and ours.wall / floor.wall, ".2f"),
        shown(floor and floor.cpu, ".2f"),
        shown(floor and ours.cpu / floor.cpu, ".2f"),
        shown(qr and qr.wall, ".2f"),
        shown(dense, ".0f"),
        shown(dense and dense / ours.wall, ".0f"),
    ]


def shown(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def lora_command(case: Case, paths: Sequence[Path], folder: Path) -> list[str]:
    """The command as a user types it. Each run writes to the same place, which the last one left."""
    name, *options = case.command
    command = [sys.executable, "-m", "lora_analysis", name, *map(str, paths), *options]
    if name in ("spectrum", "pca", "compare"):
        return command
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return [*command, "-o", str(out / paths[0].name), "--force", "--json"]


def baseline(way: str, path: Path, case: Case, folder: Path) -> list[str]:
    (folder / "out").mkdir(exist_ok=True)
    return [sys.executable, str(HERE / "baselines.py"), way, str(path), str(case.rank), str(folder / "out" / way)]


def fastest(command: list[str], repeat: int) -> Run:
    """Other programs only ever add time."""
    return min((run(command) for _ in range(repeat)), key=lambda one: one.wall)


def run(command: list[str]) -> Run:
    """Run a process, as a plain installation would, and see what it took."""
    surroundings = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, env=surroundings)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")
        output.seek(0)
        return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output.read())


def warm_up(paths: Sequence[Path]) -> None:
    """Read the files once, so that every run finds them in the page cache."""
    for path in paths:
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            with file.open("rb") as stream:
                while stream.read(1 << 24):
                    pass


# -- the page ----------------------------------------------------------------------------------------


def machine_line() -> str:
    """What the numbers depend on, the load at the start included: a busy machine shows."""
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    python = f"Python {platform.python_version()}, numpy {np.__version__}"
    return ", ".join(filter(None, (f"{usable_cores()} cores of {processor()}", python, load)))


def processor() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_docs(lines: Sequence[str]) -> None:
    """Put the table between its marks in the page."""
    before, begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE} has no {BEGIN} and {END} to put the table between")
    PAGE.write_text(before + begin + "\n" + "\n".join(lines) + "\n" + end + after, encoding="utf-8")


if __name__ == "__main__":
    main()
