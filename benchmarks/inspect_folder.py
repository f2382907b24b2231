"""How fast `lora inspect` is: a folder of 1,000 adapters, and one of 1 GB.

    python benchmarks/inspect_folder.py [--files 1000] [--keep FOLDER]

Writes adapters with the tensor counts, names, shapes and headers of real ones (SD 1.5 kohya: 264 modules, 792 tensors;
SDXL kohya: 722 modules, 2166 tensors). Their data are holes but for the alphas, so that a thousand of them need
little disk; inspecting reads headers and alphas only, so the holes are never touched. Times are of whole processes,
wall clock, files in the page cache. "After start-up" subtracts the time of `lora version`; so does the processor time
per adapter, which counts all processes and hardly depends on what else the machine does. SDXL: a fifth of the files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lora_analysis.demo.headers import kohya
from lora_analysis.demo.layouts import Layout, clip, sd15_unet, sdxl_unet
from lora_analysis.doctor import usable_cores
from lora_analysis.formats.layout import TensorPlan, header_bytes

ALPHA = struct.pack("<e", 8.0)


@dataclass(frozen=True)
class Run:
    """One finished command."""

    seconds: float
    cpu_seconds: float  # of all its processes
    peak_mib: float  # of the largest single process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="write into this folder and leave it there")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="lora-benchmark-"))
    try:
        measure(folder, arguments.files)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def measure(folder: Path, files: int) -> None:
    start = best_of(5, "version")
    print(f"{usable_cores()} cores, Python {sys.version.split()[0]}; `lora version` takes {start.seconds:.2f} s\n")
    print("| what | adapters | seconds | after start-up | adapters/s | CPU ms/adapter | peak RSS of a process |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    kinds = (("SD 1.5 kohya, 792 tensors", sd15(), files), ("SDXL kohya, 2166 tensors", sdxl(), max(files // 5, 1)))
    for name, layout, count in kinds:
        home = folder / name.split(",")[0].replace(" ", "-").lower()
        home.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            write_hollow(home / f"{index:04d}.safetensors", layout, rank=16)
        report(f"{name}, --jsonl", count, best_of(3, "inspect", str(home), "--jsonl"), start)
    giant = folder / "giant.safetensors"
    write_hollow(giant, sdxl(), rank=176)
    size = giant.stat().st_size / 1e9
    report(f"one SDXL of {size:.2f} GB, --json", 1, best_of(5, "inspect", str(giant), "--json"), start)
    report(f"one SDXL of {size:.2f} GB, for reading", 1, best_of(5, "inspect", str(giant)), start)


def report(what: str, files: int, run: Run, start: Run) -> None:
    net = run.seconds - start.seconds
    per_file = 1000 * (run.cpu_seconds - start.cpu_seconds) / files
    print(
        f"| {what} | {files} | {run.seconds:.2f} | {net:.2f} | {files / net:.0f} | {per_file:.1f} "
        f"| {run.peak_mib:.0f} MiB |",
        flush=True,
    )


def best_of(repetitions: int, *arguments: str) -> Run:
    """The fastest run: other programs only ever add time."""
    return min((lora(*arguments) for _ in range(repetitions)), key=lambda run: run.seconds)


def lora(*arguments: str) -> Run:
    """Run the command in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "lora_analysis", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"lora {' '.join(arguments)} exited with {process.returncode}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def sd15() -> Layout:
    """All 264 modules that kohya trains in SD 1.5."""
    layout = dict(sd15_unet())
    for name in [name for name in layout if name.endswith("attn1_to_q")]:
        block, width = name.removesuffix("_attn1_to_q"), layout[name][0]
        attention = block.removesuffix("_transformer_blocks_0")
        layout[f"{block}_ff_net_0_proj"] = (8 * width, width)
        layout[f"{block}_ff_net_2"] = (width, 4 * width)
        layout[f"{attention}_proj_in"] = layout[f"{attention}_proj_out"] = (width, width, 1, 1)
    layout |= clip("lora_te", 768, range(12))
    assert len(layout) == 264
    return layout


def sdxl() -> Layout:
    """All 722 modules that kohya trains in the SDXL UNet."""
    blocks = [(f"lora_unet_input_blocks_{index}_1", 640, 2) for index in (4, 5)]
    blocks += [(f"lora_unet_input_blocks_{index}_1", 1280, 10) for index in (7, 8)]
    blocks += [("lora_unet_middle_block_1", 1280, 10)]
    blocks += [(f"lora_unet_output_blocks_{index}_1", 1280, 10) for index in (0, 1, 2)]
    blocks += [(f"lora_unet_output_blocks_{index}_1", 640, 2) for index in (3, 4, 5)]
    layout = sdxl_unet(blocks)
    for block, width, _ in blocks:
        layout |= {f"{block}_proj_in": (width, width), f"{block}_proj_out": (width, width)}
    assert len(layout) == 722
    return layout


def write_hollow(path: Path, layout: Layout, rank: int) -> None:
    """An adapter whose header is real and whose data, but for the alphas, are holes."""
    plans = []
    for name, (out, width, *kernel) in layout.items():
        ones = tuple(1 for _ in kernel)
        plans.append(TensorPlan(f"{name}.alpha", "F16", ()))
        plans.append(TensorPlan(f"{name}.lora_down.weight", "F16", (rank, width, *kernel)))
        plans.append(TensorPlan(f"{name}.lora_up.weight", "F16", (out, rank, *ones)))
    metadata = kohya(path.stem, module="networks.lora", base="sd_v1", rank=str(rank), alpha="8.0", resolution=512)
    header = header_bytes(plans, metadata)
    with path.open("wb") as file:
        file.write(header)
        position = len(header)
        for plan in plans:
            if not plan.shape:
                file.seek(position)
                file.write(ALPHA)
            position += plan.nbytes
        file.truncate(position)


if __name__ == "__main__":
    main()
