"""``lora extract``: the adapter between two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import wording
from .convert import Dialect
from .exits import Exit
from .facts import page
from .memory import keep_freed_memory
from .output import emit_json, show
from .progress import bytes_bar
from .quantities import bytes_of
from .shared_options import (
    AsJson,
    BaseModel,
    Component,
    DryRun,
    Energy,
    Force,
    Size,
    Threads,
    WholeError,
    output_option,
    require_output,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = "lora-analysis/extract/1"


def extract(
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="The changed checkpoint.", show_default=False)],
    base: Annotated[str, typer.Argument(metavar="BASE", help="What it was made from.", show_default=False)],
    output: Annotated[str | None, output_option("A file; for PEFT a folder.")] = None,
    to: Annotated[Dialect, typer.Option(help="The dialect to write.")] = Dialect.KOHYA,
    rank: Annotated[int | None, typer.Option(metavar="K", help="This rank.", show_default=False)] = None,
    energy: Energy = None,
    error: WholeError = None,
    size: Size = None,
    max_rank: Annotated[int, typer.Option(metavar="K", help="No layer gets more.")] = 256,
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp16",
    full_norms: Annotated[bool, typer.Option("--full-norms", help="Also norms and biases, whole.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random range finder.")] = 0,
    power: Annotated[int, typer.Option(help="Power iterations of the range finder.")] = 3,
    component: Component = None,
    base_model: BaseModel = None,
    dry_run: DryRun = False,
    json: AsJson = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Write the adapter that turns BASE into TUNED: truncated SVDs, with the error measured."""
    from ..extracting.api import extract as run

    require_output(output, dry_run=dry_run)
    keep_freed_memory()
    with bytes_bar(output or tuned, wanted=not dry_run) as progress:
        report = run(
            tuned, base, output, to=to.value, rank=rank, energy=energy, error=error,
            size=None if size is None else bytes_of(size), max_rank=max_rank, dtype=dtype, full_norms=full_norms,
            seed=seed, power=power, component=component, family=base_model, dry_run=dry_run, overwrite=force,
            workers=threads, progress=progress,
        )  # fmt: skip
    document = report.to_dict()
    if json:
        emit_json({"schema": SCHEMA, **document, "dry_run": dry_run})
    else:
        show(_view(document))
    raise typer.Exit(Exit.OK)


def _view(document: dict[str, Any]) -> RenderableType:
    rows = _planned(document) if "size_least" in document else _done(document)
    return page(rows, document, document["skipped"], reason_of=lambda reason: reason.partition(":")[0])


def _spread(document: dict[str, Any], key: str) -> str:
    ranks: dict[str, int] = {}
    for layer in document["layers"]:
        if layer[key] is not None:
            ranks[str(layer[key])] = ranks.get(str(layer[key]), 0) + 1
    return wording.spread(ranks)


def _done(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    size = document["output"]["size"]
    unchanged = f"; {document['unchanged']:,} are equal in both" if document["unchanged"] else ""
    yield "base model", document["base_model"]
    yield "layers", f"{document['layers_extracted']:,}{unchanged}"
    yield "rank", _spread(document, "rank")
    yield "size", f"{wording.size(size)} ({size:,} bytes)"
    yield "error", f"{100 * document['relative_error']:.3g} % of ‖Δ‖ as stored, measured"


def _planned(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    least, most = document["size_least"], document["size_most"]
    sizes = f"{most:,} bytes" if least == most else f"{least:,} to {most:,} bytes"
    yield "base model", document["base_model"]
    yield "layers", f"{document['layers_compared']:,} at most; weights that are equal in both are left out"
    yield "rank", f"{_spread(document, 'max_rank')} at most"
    yield "size", f"{sizes} where every weight differs"
