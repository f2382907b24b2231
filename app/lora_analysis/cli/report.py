"""``lora report``: one HTML page about one adapter."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import complain
from .shared_options import Force, Threads


def report(
    path: Annotated[str, typer.Argument(metavar="FILE", help="One file or adapter folder.", show_default=False)],
    output: Annotated[str, typer.Option("--output", "-o", metavar="OUT", help="Ends in .html.", show_default=False)],
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Write a page to attach to a model: metadata, findings, figures, spectra, and the rank it seems to need.

    The page is one file without scripts, and loads nothing from anywhere. Needs the plot extra (exit code 5 without).
    """
    from ..reporting.report import write_report

    keep_freed_memory()
    with layers_bar(os.path.basename(path)) as progress:
        write_report(path, output, overwrite=force, workers=threads, progress=progress)
    complain(f"{output}: report written", kind="done")
