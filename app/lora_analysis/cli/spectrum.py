"""``lora spectrum``: the singular values of every layer, and what they say."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ..spectra.order import Order
from .complaints import Missing, complain_of_layers
from .exits import Exit
from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import complain, emit, show, to_json
from .shared_options import Force, Threads

if TYPE_CHECKING:
    from ..spectra.recommendation import Recommendation
    from ..spectra.values import Spectrum

SCHEMA = "lora-analysis/spectrum/1"
TABLE_ROWS = 40


class By(StrEnum):
    """What a line of the summary stands for."""

    COMPONENT = "component"
    BLOCK = "block"
    STAGE = "stage"
    ROLE = "role"


def spectrum(
    path: Annotated[str, typer.Argument(metavar="FILE", help="One file or adapter folder.", show_default=False)],
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="GLOB", help="Only layers whose name matches; repeatable.", show_default=False),
    ] = None,
    sort: Annotated[
        Order | None,
        typer.Option(help="Largest first; norm for the table, file elsewhere, unless you say.", show_default=False),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=0,
            help=f"Only the first N layers, 0 for all; {TABLE_ROWS} in the table, all elsewhere, unless you say.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        By, typer.Option(help="Summarise per part: stage is down, mid, up; role attention, mlp, conv.")
    ] = By.COMPONENT,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT",
            help="The base model: sizes, amplification, alignment and intruder dimensions beside its weights.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document, every singular value in it.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="One line of measures per layer, for a spreadsheet.")] = False,
    npz: Annotated[
        str | None,
        typer.Option("--npz", metavar="OUT", help="Write measures and singular values for numpy.", show_default=False),
    ] = None,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Show the singular values of every layer's delta: norms, effective ranks, how much each rank keeps.

    Exit code 1: a layer that should have a spectrum has none (NaN, factors that do not fit), or no layer has one. The
    others are shown all the same.
    """
    if sum((json, csv, npz is not None)) > 1:
        raise typer.BadParameter("choose one of --json, --csv and --npz")
    if npz is not None:
        _check_npz(npz, path, force=force)
    found = _calculate(path, layer, base, threads)
    machine = json or csv or npz is not None
    order = sort or (Order.FILE if machine else Order.NORM)
    limit = (None if machine else TABLE_ROWS) if top is None else top or None
    if json:
        advice = _advice(path, found, layer)
        document = {"schema": SCHEMA, **found.to_dict(order, limit)}
        document["recommendation"] = None if advice is None else advice.to_dict()
        emit(to_json(document))  # one line: a value a line would be 100,000
    elif machine:
        _export(found, order, limit, npz, force=force)
    else:
        from .spectrum_view import spectrum_view

        show(spectrum_view(found, order, limit, by=by.value, advice=_advice(path, found, layer)))
    _complain(found)
    raise typer.Exit(Exit.OK if found.is_complete else Exit.FAILURE)


def _check_npz(target: str, path: str, *, force: bool) -> None:
    """Refuse what cannot be written before the work."""
    from ..formats.target import check_target

    check_target(target, [path], overwrite=force, suffixes=(".npz",))


def _advice(path: str, found: Spectrum, layers: list[str] | None) -> Recommendation | None:
    """A rank to resize to; None where only some layers were asked for, or none has a spectrum."""
    if layers or not found.layers:
        return None
    from ..spectra.recommendation import recommend

    return recommend(path, found)


def _calculate(path: str, layers: list[str] | None, base: str | None, threads: int | None) -> Spectrum:
    from ..spectra.calculation import spectrum as calculate

    keep_freed_memory()
    with layers_bar(os.path.basename(path)) as progress:
        return calculate(path, layers=layers, base=base, workers=threads, progress=progress)


def _export(found: Spectrum, order: Order, limit: int | None, npz: str | None, *, force: bool) -> None:
    from ..spectra.export import csv_text, write_npz

    layers = found.ordered(order, limit)
    if npz is None:
        emit(csv_text(layers))
        return
    write_npz(layers, npz, overwrite=force)
    complain(f"{npz}: {len(layers)} spectra written", kind="done")


def _complain(found: Spectrum) -> None:
    complain_of_layers([Missing(one.name, one.reason) for one in found.errors], "without a spectrum")
    if not found.layers:
        complain(f"{found.path}: no layer has a spectrum; {_most_common_reason(found)}")


def _most_common_reason(found: Spectrum) -> str:
    from collections import Counter

    reasons = Counter(skipped.reason for skipped in found.skipped)
    if not reasons:
        return "the file holds no adapter layer"
    reason, count = reasons.most_common(1)[0]
    return f"{count} of {len(found.skipped)}: {reason}"
