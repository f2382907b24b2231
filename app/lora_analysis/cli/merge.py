"""``lora merge``: the weighted sum of adapters, exact or truncated."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from ..errors import OptionError
from .exits import Exit
from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import emit_json, show
from .progress import bytes_bar
from .quantities import StoredType, bytes_of

if TYPE_CHECKING:
    from ..merging.options import MergeOptions
    from ..merging.plan import MergePlan
    from ..merging.writing import MergeReport

SCHEMA = "lora-analysis/merge/1"


class Weighted(NamedTuple):
    """One argument of the command."""

    path: str
    weight: float


def merge(
    adapters: Annotated[
        list[str], typer.Argument(metavar="PATH[:WEIGHT]...", help="Files or adapter folders.", show_default=False)
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="OUT", help="What to write.", show_default=False)
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Truncate to this rank.", show_default=False)] = None,
    energy: Annotated[
        float | None, typer.Option(help="Keep this fraction of every layer's energy.", show_default=False)
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Fit the file into this: 50MB, 48MiB.", show_default=False)
    ] = None,
    error: Annotated[
        float | None, typer.Option(help="Relative error of the whole, 0 to 1.", show_default=False)
    ] = None,
    normalize: Annotated[bool, typer.Option(help="Divide the weights by their sum.")] = True,
    dtype: Annotated[
        StoredType, typer.Option(help="Type of stored values; keep: the most precise of a layer's holders.")
    ] = StoredType.KEEP,
    allow_disjoint: Annotated[
        bool, typer.Option("--allow-disjoint", help="Merge adapters that share no layer.")
    ] = False,
    drop_unsupported: Annotated[
        bool, typer.Option("--drop-unsupported", help="Leave out what has no sum, and say so.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Layers at once; one per core unless you say.", show_default=False)
    ] = None,
) -> None:
    """Merge adapters: every layer becomes the weighted sum of its deltas. A weight is 1 unless you say.

    Exact unless one of --rank, --energy, --size and --error asks for less; then the best approximation.
    """
    from ..merging.options import merge_options

    if output is None and not dry_run:
        raise typer.BadParameter("name the output with -o OUT, or ask for --dry-run")
    options = merge_options(
        rank=rank,
        energy=energy,
        size=None if size is None else bytes_of(size),
        error=error,
        normalize=normalize,
        dtype=dtype.value,
        allow_disjoint=allow_disjoint,
        drop_unsupported=drop_unsupported,
    )
    weighted = [parse_weighted(argument) for argument in adapters]
    result = _run(weighted, options, output, dry_run=dry_run, force=force, threads=threads)
    if json:
        emit_json({"schema": SCHEMA, **result.to_dict(), "dry_run": dry_run})
    else:
        from .merge_view import merge_view

        show(merge_view(result))
    raise typer.Exit(Exit.OK)


def parse_weighted(argument: str) -> Weighted:
    """``path:0.7`` as a path and a weight; without a weight it is 1.

    A path may hold colons: what exists under the whole name is a path, and only what follows the last colon is read
    as a weight. Raises: OptionError where the path is there and the weight is no number.
    """
    path, colon, text = argument.rpartition(":")
    if not colon or not path or os.path.lexists(argument):
        return Weighted(argument, 1.0)
    try:
        return Weighted(path, float(text))
    except ValueError:
        if os.path.lexists(path):
            raise OptionError(f"{argument}: {text!r} is no weight; write {path}:0.7") from None
        return Weighted(argument, 1.0)


def _run(
    weighted: list[Weighted],
    options: MergeOptions,
    output: str | None,
    *,
    dry_run: bool,
    force: bool,
    threads: int | None,
) -> MergePlan | MergeReport:
    """The plan, or what came of it."""
    from ..formats import open_adapter
    from ..merging.planning import plan_merge
    from ..merging.writing import check_merge_output, write_merge

    keep_freed_memory()
    with ExitStack() as stack:
        opened = [stack.enter_context(open_adapter(path)) for path, _ in weighted]
        weights = [weight for _, weight in weighted]
        with layers_bar("singular values") as progress:
            plan = plan_merge(opened, weights, options, predict=dry_run, workers=threads, progress=progress)
        if output is not None:
            check_merge_output(plan, output, overwrite=force)
        if dry_run or output is None:
            return plan
        with bytes_bar(os.path.basename(output), wanted=True) as written:
            return write_merge(plan, output, overwrite=force, workers=threads, progress=written)
