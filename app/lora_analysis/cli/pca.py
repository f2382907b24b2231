"""``lora pca``: principal components of the factors, or the singular directions of the deltas."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated, Any

import typer

from .complaints import Missing, complain_of_layers
from .exits import Exit
from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import complain, emit, show, to_json
from .shared_options import AsJson, Force, Threads

SCHEMA = "lora-analysis/pca/1"
TABLE_ROWS = 40
DATA_SUFFIXES = (".json", ".csv", ".npz")
FIGURE_SUFFIXES = (".png", ".svg", ".pdf")


class Target(StrEnum):
    """What is decomposed."""

    FACTORS = "factors"
    DELTA = "delta"


def pca(
    path: Annotated[str, typer.Argument(metavar="FILE", help="One file or adapter folder.", show_default=False)],
    components: Annotated[int, typer.Option("--components", "-n", min=1, help="How many, of every matrix.")] = 8,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Data to write, .json, .csv or .npz; or a figure, .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="GLOB", help="Only layers whose name matches; repeatable.", show_default=False),
    ] = None,
    target: Annotated[Target, typer.Option(help="Stored factors, standardised; or the deltas, as they are.")] = (
        Target.FACTORS
    ),
    top: Annotated[int, typer.Option(min=0, help="Matrices to list, 0 for all.")] = TABLE_ROWS,
    json: AsJson = False,
    arrays: Annotated[
        bool, typer.Option("--arrays", help="Components and transformed data too, in JSON or OUT.")
    ] = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Show the principal components of every factor matrix: how much of its variance each explains.

    Exit code 1: a layer that should have components has none (NaN, factors that do not fit), or no layer has any. The
    others are shown all the same.
    """
    if output is not None:
        _check(output, path, force=force)
    keep_freed_memory()
    found = _calculate(path, components, layer, target, threads, arrays=arrays or _needs_arrays(output))
    if json:
        emit(to_json({"schema": SCHEMA, **(found if arrays else _without_arrays(found))}))
    if output is not None:
        _write(found, output, force=force)
    if not json and output is None:
        from .pca_view import pca_view

        show(pca_view(found, top or None))
    raise typer.Exit(_complain(found))


def _check(output: str, path: str, *, force: bool) -> None:
    """Refuse what cannot be written before the work."""
    from ..formats.target import check_target

    if output.lower().endswith(FIGURE_SUFFIXES):
        from ..plots.style import require_matplotlib

        require_matplotlib()
    check_target(output, [path], overwrite=force, suffixes=DATA_SUFFIXES + FIGURE_SUFFIXES)


def _needs_arrays(output: str | None) -> bool:
    """An .npz is where arrays go; in text they are asked for."""
    return output is not None and output.lower().endswith(".npz")


def _calculate(
    path: str, components: int, layers: list[str] | None, target: Target, threads: int | None, *, arrays: bool
) -> dict[str, Any]:
    from ..pca import analyze_pca

    with layers_bar(os.path.basename(path)) as progress:
        return analyze_pca(
            path,
            components,
            layers=layers,
            target=target.value,
            include_arrays=arrays,
            workers=threads,
            progress=progress,
        )


def _without_arrays(found: dict[str, Any]) -> dict[str, Any]:
    bare = {
        name: {**entry, "components": None, "transformed_data": None} for name, entry in found["pca_results"].items()
    }
    return {**found, "pca_results": bare}


def _write(found: dict[str, Any], output: str, *, force: bool) -> None:
    if output.lower().endswith(FIGURE_SUFFIXES):
        from ..plots.pca import draw_pca

        draw_pca(found, output, overwrite=force)
        complain(f"{output}: drawn", kind="done")
        return
    from ..pca_export import write_results

    write_results(found, output, overwrite=force)
    complain(f"{output}: {found['total_matrices']} matrices written", kind="done")


def _complain(found: dict[str, Any]) -> Exit:
    errors = [skipped for skipped in found["skipped"] if skipped["is_error"]]
    complain_of_layers([Missing(one["name"], one["reason"]) for one in errors], "without components")
    if not found["pca_results"]:
        complain(f"{found['path']}: no layer has a matrix to decompose")
        return Exit.FAILURE
    return Exit.FAILURE if errors else Exit.OK
