"""``lora compare``: how two to eight adapters of one base model lie to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .complaints import Missing, complain_of_layers
from .exits import Exit
from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import complain, emit, show, to_json
from .shared_options import Force, Threads

if TYPE_CHECKING:
    from ..comparing.values import Comparison

SCHEMA = "lora-analysis/compare/1"
TABLE_ROWS = 20


def compare(
    adapters: Annotated[
        list[str], typer.Argument(metavar="PATH PATH...", help="Two to eight files or folders.", show_default=False)
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="GLOB", help="Only layers whose name matches; repeatable.", show_default=False),
    ] = None,
    top: Annotated[
        int, typer.Option(min=0, help="Layers to list, those that agree least first; 0 for all.")
    ] = TABLE_ROWS,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A figure too: .png, .svg or .pdf.", show_default=False),
    ] = None,
    force: Force = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, every layer in it.")] = False,
    grids: Annotated[
        bool, typer.Option("--grids", help="With --json: overlap grids and principal angles of every layer too.")
    ] = False,
    threads: Threads = None,
) -> None:
    """Compare adapters: cosines of their deltas, shared subspaces, interference, what differs and what came of what.

    Exit code 1: a layer that should have been compared could not be (NaN, factors that do not fit). The others are
    shown all the same.
    """
    keep_freed_memory()
    if output is not None:
        _check(output, adapters, force=force)
    found = _calculate(adapters, layer, threads)
    if output is not None:
        _draw(found, output, force=force)
    if json:
        emit(to_json({"schema": SCHEMA, **found.to_dict(grids=grids)}))
    else:
        from .compare_view import compare_view

        show(compare_view(found, top or None))
    missing = [Missing(one.name, one.reason, found.adapters[one.adapter].name) for one in found.errors]
    complain_of_layers(missing, "that could not be compared")
    raise typer.Exit(Exit.OK if found.is_complete else Exit.FAILURE)


def _check(output: str, adapters: list[str], *, force: bool) -> None:
    """Refuse what cannot be drawn before the work."""
    from ..formats.target import check_target
    from ..plots.saving import SUFFIXES
    from ..plots.style import require_matplotlib

    require_matplotlib()
    check_target(output, adapters, overwrite=force, suffixes=SUFFIXES)


def _draw(found: Comparison, output: str, *, force: bool) -> None:
    from ..plots.pages import comparison_page, heading_of
    from ..plots.saving import save

    names = [adapter.name for adapter in found.adapters]
    save(comparison_page(found, heading_of(names[:2], [f"{len(names)} adapters"])), output, overwrite=force)
    complain(f"{output}: drawn", kind="done")


def _calculate(paths: list[str], layers: list[str] | None, threads: int | None) -> Comparison:
    from ..comparing.calculation import compare as calculate

    with layers_bar("comparing") as progress:
        return calculate(paths, layers=layers, workers=threads, progress=progress)
