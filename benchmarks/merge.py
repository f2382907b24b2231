"""How fast `lora merge` is, method by method, on adapters of full size.

    python benchmarks/merge.py [--keep FOLDER] [--only NAME] [--repeat 2] [--write-docs]

Whole processes from start to the renamed file, files in the page cache; wall clock, CPU seconds of all threads, peak
memory, and the measured relative error of what was stored. Machines that do other things stretch the wall clock: then
look at CPU seconds divided by the number of cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from full_size import LLAMA, SDXL, FullSize, llama3_8b, low_rank, sdxl
from resize import PAGE, fastest, machine_line, shown, warm_up

BEGIN, END = "<!-- merging: begin -->", "<!-- merging: end -->"
HEADINGS = ("two adapters", "command", "wall s", "CPU s", "peak MiB", "error %")
SDXL_PAIR = tuple(
    replace(SDXL, name=f"sdxl-r128-{seed}.safetensors", tensors=lambda s=seed: low_rank(sdxl(), 128, "F16", seed=s))
    for seed in (1, 2)
)
LLAMA_PAIR = tuple(
    replace(
        LLAMA,
        name=f"llama-3-8b-r16-{seed}",
        label="Llama-3-8B PEFT rank 16",
        rank=16,
        tensors=lambda s=seed: low_rank(llama3_8b(), 16, "BF16", ("lora_A.weight", "lora_B.weight"), seed=s),
        config={**(LLAMA.config or {}), "r": 16, "lora_alpha": 32},
    )
    for seed in (1, 2)
)
CASES: tuple[tuple[tuple[FullSize, ...], str], ...] = (
    (SDXL_PAIR, ""),
    (SDXL_PAIR, "--rank 128"),
    (LLAMA_PAIR, "--method svd --rank 16"),
    (LLAMA_PAIR, "--method karcher"),
    (LLAMA_PAIR, "--method tsv"),
    (LLAMA_PAIR, "--method iso_cts"),
    (LLAMA_PAIR, "--method knots_ties"),
    (LLAMA_PAIR, "--method core_ties"),
    (LLAMA_PAIR, "--method ctm --rank 16"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="write the adapters into this folder, use those that are there")
    parser.add_argument("--only", default="", help="cases whose line holds this text")
    parser.add_argument("--repeat", type=int, default=2, help="runs of each command; the fastest counts")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table in {PAGE.name}")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="lora-benchmark-"))
    try:
        lines = list(table(folder, asked.only, asked.repeat))
    finally:
        if not asked.keep:
            shutil.rmtree(folder)
    if asked.write_docs:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")


def table(folder: Path, only: str, repeat: int) -> Iterator[str]:
    """Lines of Markdown, printed as they come."""
    columns = f"| {' | '.join(HEADINGS)} |"
    head = [f"{machine_line()}; best of {repeat}:", "", columns, "| --- | --- |" + " ---: |" * 4]
    for line in head:
        print(line, flush=True)
        yield line
    for pair, options in CASES:
        label = f"{pair[0].label} | `lora merge {options}".rstrip() + "`"
        if only in label:
            line = f"| {label} | {' | '.join(measure(pair, options, folder, repeat))} |"
            print(line, flush=True)
            yield line


def measure(pair: tuple[FullSize, ...], options: str, folder: Path, repeat: int) -> list[str]:
    """The cells of one line."""
    paths = [adapter.write(folder) for adapter in pair]
    warm_up(paths)
    out = folder / "merged"
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "lora_analysis", "merge", *map(str, paths), *options.split()]
    found = fastest([*command, "-o", str(out / paths[0].name), "--force", "--json"], repeat)
    shutil.rmtree(out)
    error = json.loads(found.output)["relative_error"]
    return [f"{found.wall:.1f}", f"{found.cpu:.1f}", f"{found.peak_mib:.0f}", shown(100 * error, ".3g")]


if __name__ == "__main__":
    main()
