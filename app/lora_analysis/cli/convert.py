"""``lora convert``: the same deltas under the names of another dialect."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import Exit
from .memory import keep_freed_memory
from .output import emit_json, show
from .progress import bytes_bar
from .quantities import StoredType

if TYPE_CHECKING:
    from ..converting.options import ConvertOptions
    from ..converting.plan import ConvertPlan
    from ..converting.writing import ConvertReport

SCHEMA = "lora-analysis/convert/1"


class Dialect(StrEnum):
    """``--to``."""

    KOHYA = "kohya"
    PEFT = "peft"
    DIFFUSERS = "diffusers"
    COMFYUI = "comfyui"


def convert(
    path: Annotated[str, typer.Argument(metavar="FILE", help="A file or an adapter folder.", show_default=False)],
    to: Annotated[Dialect, typer.Option(help="The dialect to write.", show_default=False)],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="A file; for PEFT a folder.", show_default=False),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(metavar="K", help="Rank of LoHa, LoKr, ... that become LoRA; else exact.", show_default=False),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Make plain LoRA of every kind.")] = False,
    uniform_rank: Annotated[
        int | None, typer.Option(metavar="K", help="One rank for all layers: pad, truncate.", show_default=False)
    ] = None,
    bake_scale: Annotated[
        bool, typer.Option("--bake-scale", help="Multiply scales into the factors; alpha becomes the rank.")
    ] = False,
    dtype: Annotated[StoredType, typer.Option(help="Type of the factors.")] = StoredType.KEEP,
    component: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Write this one only: unet, text_encoder, ...", show_default=False),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(metavar="FAMILY", help="The base model, where not recognised.", show_default=False)
    ] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out what the dialect cannot express, and list it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Layers at once; one per core unless you say.", show_default=False)
    ] = None,
) -> None:
    """Write an adapter for another program, and measure that its deltas are the same."""
    from ..converting.options import convert_options

    if output is None and not dry_run:
        raise typer.BadParameter("name the output with -o OUT, or ask for --dry-run")
    options = convert_options(
        to=to.value, rank=rank, plain=plain, uniform_rank=uniform_rank, bake_scale=bake_scale, dtype=dtype.value,
        component=component, family=base_model, drop=drop,
    )  # fmt: skip
    keep_freed_memory()
    result = _run(path, options, output, dry_run=dry_run, force=force, threads=threads)
    if json:
        emit_json({"schema": SCHEMA, **result.to_dict(), "dry_run": dry_run})
    else:
        from .convert_view import convert_view

        show(convert_view(result))
    raise typer.Exit(Exit.OK)


def _run(
    path: str, options: ConvertOptions, output: str | None, *, dry_run: bool, force: bool, threads: int | None
) -> ConvertPlan | ConvertReport:
    """The plan, or what came of it."""
    from ..converting.planning import plan_conversion
    from ..converting.writing import check_convert_output, write_conversion
    from ..formats import open_adapter

    with open_adapter(path, lenient_metadata=True) as adapter:
        plan = plan_conversion(adapter, options)
        if output is not None:
            check_convert_output(plan, output, overwrite=force)
        if dry_run or output is None:
            return plan
        with bytes_bar(os.path.basename(output), wanted=True) as written:
            return write_conversion(plan, output, overwrite=force, workers=threads, progress=written)
