"""``lora plot``: figures of adapters as PNG, SVG or PDF."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import complain
from .shared_options import Force, Threads


class Kind(StrEnum):
    """What is drawn."""

    HEATMAP = "heatmap"
    DISTRIBUTION = "distribution"
    RANKS = "ranks"
    LAYERS = "layers"
    COMPARISON = "comparison"
    SIMILARITY = "similarity"


def plot(
    kind: Annotated[
        Kind,
        typer.Argument(
            metavar="KIND",
            help="heatmap, distribution, ranks or layers of one adapter; comparison or similarity of several.",
            show_default=False,
        ),
    ],
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files or adapter folders.", show_default=False)
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="OUT", help="Ends in .png, .svg or .pdf.", show_default=False)
    ],
    layer: Annotated[
        str | None,
        typer.Option(
            "--layer",
            metavar="GLOB",
            help="Only layers whose name matches; of a heatmap: draw this one layer's delta.",
            show_default=False,
        ),
    ] = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="layers: colours in weight units, not relative to each layer.")
    ] = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Draw an adapter: where it acts, how large it is, what ranks it needs; or several beside each other.

    Needs the plot extra; without it the exit code is 5 and the message is the line that installs it.
    """
    from ..figures import FigureRequest, write

    keep_freed_memory()
    with layers_bar(f"{kind.value} of {len(paths)} adapters" if len(paths) > 1 else kind.value) as progress:
        request = FigureRequest(layer, absolute, threads, progress)
        write(kind.value, paths, output, request, overwrite=force)
    complain(f"{output}: {kind.value} drawn", kind="done")
