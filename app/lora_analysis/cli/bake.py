"""``lora bake``: add adapters to a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from . import wording
from .exits import Exit
from .facts import page
from .memory import keep_freed_memory
from .merge import parse_weighted
from .output import emit_json, show
from .progress import bytes_bar
from .shared_options import AsJson, BaseModel, DryRun, Force, Threads, output_option, require_output

SCHEMA = "lora-analysis/bake/1"


def bake(
    base: Annotated[
        str, typer.Argument(metavar="BASE", help="A checkpoint: file, folder or index.", show_default=False)
    ],
    adapters: Annotated[
        list[str], typer.Argument(metavar="ADAPTER[:WEIGHT]...", help="Files or folders.", show_default=False)
    ],
    output: Annotated[str | None, output_option("A file; a folder for shards.")] = None,
    base_model: BaseModel = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out what has no weight there or is no delta, and list it.")
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Write a checkpoint with the deltas of adapters added to its weights; DoRA exactly."""
    from ..baking.api import bake as run

    require_output(output, dry_run=dry_run)
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
        show(page(_rows(document), document, document["skipped"]))
    raise typer.Exit(Exit.OK)


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "base", f"{document['base']} ({document['base_model']}, {wording.size(document['size'])})"
    for item in document["adapters"]:
        matched = f"{item['layers_matched']:,} of {item['layers']:,} layers"
        yield "adapter", f"{item['path']} × {item['weight']:.4g}: {matched}"
    yield "tensors", f"{document['tensors_changed']:,} of {document['tensors']:,} change; the others keep their bytes"
    if "rounding" in document:
        yield "rounding", f"{document['rounding']:.2g} of what was added, by the base's types"
