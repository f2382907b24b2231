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
from .shared_options import AsJson, BaseModel, Component, DryRun, Force, Threads, output_option, require_output

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
    output: Annotated[str | None, output_option("A file; for PEFT a folder.")] = None,
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
    component: Component = None,
    base_model: BaseModel = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Leave out what the dialect cannot express, and list it.")
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Write an adapter for another program, and measure that its deltas are the same."""
    from ..converting.options import convert_options

    require_output(output, dry_run=dry_run)
    options = convert_options(
        to=to.value, rank=rank, plain=plain, uniform_rank=uniform_rank, bake_scale=bake_scale, dtype=dtype.value,
        component=component, family=base_model, drop=drop,
    )  # fmt: skip
    keep_freed_memory()
    result = _run(path, options, output, dry_run=dry_run, force=force, threads=threads, with_hashes=json)
    if json:
        emit_json({"schema": SCHEMA, **result.to_dict(), "dry_run": dry_run})
    else:
        from .convert_view import convert_view

        show(convert_view(result))
    raise typer.Exit(Exit.OK)


def _run(
    path: str,
    options: ConvertOptions,
    output: str | None,
    *,
    dry_run: bool,
    force: bool,
    threads: int | None,
    with_hashes: bool,
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
            return write_conversion(
                plan, output, overwrite=force, workers=threads, progress=written, with_hashes=with_hashes
            )
