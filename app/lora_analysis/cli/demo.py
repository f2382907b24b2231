"""``lora demo``: write a small library of invented adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import complain, emit


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to write; made if it does not exist.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace files of an earlier demo library.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other values in the same files.")] = 0,
) -> None:
    """Write a small library of invented adapters to try things on.

    Sixteen adapters of the kinds found in the wild, about 15 MB, three of them with something wrong.
    Prints the path of each.
    """
    from ..demo import write_demo_library

    paths = write_demo_library(folder, seed=seed, overwrite=force)
    emit("\n".join(str(path) for path in paths))
    complain(f"{len(paths)} adapters written; look at them with: lora inspect {folder}", kind="done")
