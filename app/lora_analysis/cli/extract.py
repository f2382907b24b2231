"""``lora extract``: the adapter between two checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import wording
from .convert import Dialect
from .exits import Exit
from .memory import keep_freed_memory
from .output import emit_json, show, shown
from .progress import bytes_bar
from .quantities import bytes_of

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = "lora-analysis/extract/1"


def extract(
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="The changed checkpoint.", show_default=False)],
    base: Annotated[str, typer.Argument(metavar="BASE", help="What it was made from.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A file; for PEFT a folder.", show_default=False),
    ] = None,
    to: Annotated[Dialect, typer.Option(help="The dialect to write.")] = Dialect.KOHYA,
    rank: Annotated[int | None, typer.Option(metavar="K", help="This rank.", show_default=False)] = None,
    energy: Annotated[
        float | None, typer.Option(metavar="E", help="Keep this fraction of Σσ² per layer.", show_default=False)
    ] = None,
    error: Annotated[
        float | None, typer.Option(metavar="E", help="Relative error of the whole, 0 to 1.", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Fit the file into this: 50MB, 48MiB.", show_default=False)
    ] = None,
    max_rank: Annotated[int, typer.Option(metavar="K", help="No layer gets more.")] = 256,
    dtype: Annotated[str, typer.Option(help="fp32, fp16 or bf16.")] = "fp16",
    full_norms: Annotated[bool, typer.Option("--full-norms", help="Also norms and biases, whole.")] = False,
    seed: Annotated[int, typer.Option(help="Of the random range finder.")] = 0,
    power: Annotated[int, typer.Option(help="Power iterations of the range finder.")] = 3,
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="This one only: unet, text_encoder, ...", show_default=False)
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="FAMILY", help="The base model, where not recognised.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is compared; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Layers at once; one per core unless you say.", show_default=False)
    ] = None,
) -> None:
    """Write the adapter that turns BASE into TUNED: truncated SVDs, with the error measured."""
    from ..extracting.api import extract as run

    if output is None and not dry_run:
        raise typer.BadParameter("name the output with -o OUT, or ask for --dry-run")
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
    from rich.console import Group
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label, value in _planned(document) if "size_least" in document else _done(document):
        table.add_row(label, shown(value))
    parts: list[RenderableType] = [table, *(shown(note, "yellow", limit=300) for note in document.get("notes", ()))]
    by_reason: dict[str, list[str]] = {}
    for one in document["skipped"]:
        by_reason.setdefault(one["reason"].partition(":")[0], []).append(one["name"])
    parts += [
        shown(f"left out: {len(names):,}, e.g. {names[0]}: {reason}", "yellow", limit=300)
        for reason, names in by_reason.items()
    ]
    if "output" in document:
        parts.append(shown(f"written: {document['output']['path']}", "green", limit=300))
    return Group(*parts)


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
