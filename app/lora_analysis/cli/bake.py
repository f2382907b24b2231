"""``lora bake``: add adapters to a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import wording
from .exits import Exit
from .memory import keep_freed_memory
from .merge import parse_weighted
from .output import emit_json, show, shown
from .progress import bytes_bar

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = "lora-analysis/bake/1"


def bake(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A checkpoint: file, folder or index.", show_default=False)
    ],
    adapters: Annotated[
        list[str], typer.Argument(metavar="ADAPTER[:WEIGHT]...", help="Files or folders.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A file; a folder for shards.", show_default=False),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="FAMILY", help="The base model, where not recognised.", show_default=False)
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out what has no weight there or is no delta, and list it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what matches; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Tensors at once; one per core unless you say.", show_default=False)
    ] = None,
) -> None:
    """Write a checkpoint with the deltas of adapters added to its weights; DoRA exactly."""
    from ..baking.api import bake as run

    if output is None and not dry_run:
        raise typer.BadParameter("name the output with -o OUT, or ask for --dry-run")
    weighted = [parse_weighted(argument) for argument in adapters]
    keep_freed_memory()
    with bytes_bar(output or base, wanted=not dry_run) as progress:
        result = run(
            base, [one.path for one in weighted], [one.weight for one in weighted], output,
            family=base_model, drop=drop, dry_run=dry_run, overwrite=force, workers=threads, progress=progress,
        )  # fmt: skip
    document = result.to_dict()
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
    for label, value in _rows(document):
        table.add_row(label, shown(value))
    parts: list[RenderableType] = [table]
    by_reason: dict[str, list[str]] = {}
    for one in document["skipped"]:
        by_reason.setdefault(one["reason"], []).append(one["name"])
    parts += [
        shown(f"left out: {len(names):,}, e.g. {names[0]}: {reason}", "yellow", limit=300)
        for reason, names in by_reason.items()
    ]
    if "output" in document:
        parts.append(shown(f"written: {document['output']['path']}", "green", limit=300))
    return Group(*parts)


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "base", f"{document['base']} ({document['base_model']}, {wording.size(document['size'])})"
    for item in document["adapters"]:
        matched = f"{item['layers_matched']:,} of {item['layers']:,} layers"
        yield "adapter", f"{item['path']} × {item['weight']:.4g}: {matched}"
    yield "tensors", f"{document['tensors_changed']:,} of {document['tensors']:,} change; the others keep their bytes"
    if "rounding" in document:
        yield "rounding", f"{document['rounding']:.2g} of what was added, by the base's types"
