"""Draw docs/images/ again: real commands over a fresh demo library, as SVG.

python docs/draw_pictures.py        (or: make pictures)
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from pathlib import Path

from rich.console import Console, RenderableType

from lora_analysis.cli.inputs import resolve
from lora_analysis.cli.looking import Options, look
from lora_analysis.cli.rows import rich_table, row_of
from lora_analysis.cli.view import view
from lora_analysis.demo import write_demo_library
from lora_analysis.figures import write as write_figure

IMAGES = Path(__file__).resolve().parent / "images"

# Drawn by ``lora plot KIND``: the pictures of docs/plots.md.
SDXL = ("sdxl-character-kohya.safetensors", "sdxl-style-loha.safetensors")
FIGURES = {
    "ranks": SDXL[:1],
    "heatmap": SDXL[:1],
    "layers": SDXL[:1],
    "distribution": SDXL[:1],
    "comparison": SDXL,
    "similarity": SDXL,
}


def main() -> None:
    """Write one picture per command."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_demo_library("demo-library")
        one = look("demo-library/sdxl-character-kohya.safetensors", Options()).document
        assert one is not None
        draw("inspect", "demo-library/sdxl-character-kohya.safetensors", view(one), width=100)
        rows = [row_of(look(path, Options())) for path in resolve(["demo-library"]).paths]
        draw("library", "demo-library", rich_table(rows), width=124)
        for kind, names in FIGURES.items():
            paths = [f"demo-library/{name}" for name in names]
            write_figure(kind, paths, IMAGES / f"plot-{kind}.png", overwrite=True)


def draw(name: str, argument: str, page: RenderableType, *, width: int) -> None:
    """Save what ``lora inspect argument`` prints as ``images/name.svg``."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(f"[bold]$[/] lora inspect {argument}\n")
    console.print(page)
    # A fixed identifier: the default one is a hash that changes with every version of rich.
    picture = console.export_svg(title="lora inspect", unique_id=f"lora-{name}")
    # No fonts from elsewhere: any monospace font does, because every letter has its place.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (IMAGES / f"{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
