"""``lora merge``: the weighted sum of adapters, or another merge of them, exact or truncated."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ..errors import OptionError
from ..formats.digest_ahead import DigestAhead
from .exits import Exit
from .layers_bar import layers_bar
from .memory import keep_freed_memory
from .output import emit_json, show
from .progress import bytes_bar
from .quantities import StoredType, bytes_of
from .shared_options import (
    Absolute,
    AsJson,
    ConvRank,
    DryRun,
    Energy,
    Force,
    Knee,
    LayerError,
    MaxRank,
    MinRank,
    Norm,
    Params,
    RankFor,
    Ratio,
    Size,
    Sum,
    SvCumulative,
    SvFro,
    SvRatio,
    Threads,
    WholeError,
    output_option,
    ranks_by_pattern,
    require_output,
)

if TYPE_CHECKING:
    from ..merging.options import MergeOptions
    from ..merging.plan import MergePlan
    from ..merging.writing import MergeReport

SCHEMA = "lora-analysis/merge/1"
METHODS_SCHEMA = "lora-analysis/merge-methods/1"


class HeaderPolicy(StrEnum):
    """``--metadata``."""

    FRESH = "fresh"
    FIRST = "first"
    UNION = "union"
    FULL = "full"


class Weighted(NamedTuple):
    """One argument of the command."""

    path: str
    weight: float


def merge(
    adapters: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH[:WEIGHT]...", help="Files or adapter folders.", show_default=False),
    ] = None,
    output: Annotated[str | None, output_option("What to write.")] = None,
    rank: Annotated[int | None, typer.Option(help="Truncate to this rank.", show_default=False)] = None,
    energy: Energy = None,
    norm: Norm = None,
    sum_: Sum = None,
    ratio: Ratio = None,
    absolute: Absolute = None,
    layer_error: LayerError = None,
    knee: Knee = False,
    size: Size = None,
    params: Params = None,
    error: WholeError = None,
    sv_ratio: SvRatio = None,
    sv_fro: SvFro = None,
    sv_cumulative: SvCumulative = None,
    conv_rank: ConvRank = None,
    rank_for: RankFor = None,
    min_rank: MinRank = None,
    max_rank: MaxRank = None,
    method: Annotated[str, typer.Option(help="How deltas are merged; see --list-methods.")] = "weighted_sum",
    list_methods: Annotated[bool, typer.Option("--list-methods", help="Name every method and stop.")] = False,
    density: Annotated[float | None, typer.Option(help="Fraction of entries kept.", show_default=False)] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="della: range of probabilities around the density.", show_default=False)
    ] = None,
    threshold: Annotated[
        str | None, typer.Option(help="Trim within a layer or globally: layer, global.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of random numbers; 0 unless you say.", show_default=False)] = None,
    lambda_: Annotated[
        float | None, typer.Option("--lambda", help="Factor on the merged delta.", show_default=False)
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="tsv, iso: factor on the formula, not the matched norm.", show_default=False),
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="iso_c, ctm: how far to draw values to the mean.", show_default=False)
    ] = None,
    common: Annotated[
        float | None, typer.Option(help="iso_cts: fraction of shared directions.", show_default=False)
    ] = None,
    core_rule: Annotated[str | None, typer.Option(help="ctm: ties, dare_linear or sum.", show_default=False)] = None,
    pico: Annotated[bool, typer.Option("--pico", help="Damp shared output directions first.")] = False,
    svc: Annotated[bool, typer.Option("--svc", help="Calibrate singular values afterwards.")] = False,
    svc_floor: Annotated[float | None, typer.Option(help="svc: smallest share of a task.", show_default=False)] = None,
    layer_weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N:WEIGHTS",
            help="For adapter N: 12, 17, 20 or 26 block weights, or PATTERN=FACTOR,...",
            show_default=False,
        ),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option("--normalize/--no-normalize", help="Divide the weights by their sum. [default: yes]"),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="CHECKPOINT", help="Base of DoRA adapters: file, folder, index, pipeline.", show_default=False
        ),
    ] = None,
    metadata: Annotated[
        HeaderPolicy, typer.Option(help="Header: fresh, first, union (of tag counts), full (all headers).")
    ] = HeaderPolicy.FRESH,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="MERGED", help="Repeat the merge that made this file.", show_default=False),
    ] = None,
    dtype: Annotated[
        StoredType, typer.Option(help="Type of stored values; keep: the most precise of a layer's holders.")
    ] = StoredType.KEEP,
    allow_disjoint: Annotated[
        bool, typer.Option("--allow-disjoint", help="Merge adapters that share no layer.")
    ] = False,
    drop_unsupported: Annotated[
        bool, typer.Option("--drop-unsupported", help="Leave out what has no sum, and say so.")
    ] = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Merge adapters: every layer becomes the weighted sum of its deltas, or what --method makes of them.

    A weight is 1 unless you say. Exact unless --rank, --size, --error or another rule of lora resize asks for less;
    then the best approximation.
    """
    from ..merging.options import MergeOptions, merge_options

    if list_methods:
        _list_methods(json)
    if not adapters and from_ is None:
        raise typer.BadParameter("name the adapters to merge")
    require_output(output, dry_run=dry_run)
    options = merge_options(
        rank=rank,
        energy=energy,
        norm=norm,
        sum=sum_,
        ratio=ratio,
        absolute=absolute,
        layer_error=layer_error,
        knee=knee or None,
        size=None if size is None else bytes_of(size),
        parameters=params,
        error=error,
        sv_ratio=sv_ratio,
        sv_fro=sv_fro,
        sv_cumulative=sv_cumulative,
        conv_rank=conv_rank,
        rank_for=ranks_by_pattern(rank_for or ()) or None,
        min_rank=min_rank,
        max_rank=max_rank,
        normalize=normalize,
        dtype=dtype.value,
        metadata=metadata.value,
        method=method,
        density=density,
        epsilon=epsilon,
        threshold=threshold,
        seed=seed,
        lambda_=lambda_,
        alpha=alpha,
        beta=beta,
        common=common,
        core_rule=core_rule,
        pico=pico or None,
        svc=svc or None,
        svc_floor=svc_floor,
        allow_disjoint=allow_disjoint,
        drop_unsupported=drop_unsupported,
    )
    weighted = [parse_weighted(argument) for argument in adapters or ()]
    factors: list[Any] = list(parse_layer_weights(layer_weights or [], len(weighted)))
    if from_ is not None:
        if options != MergeOptions(words={}) or layer_weights or any(weight != 1 for _, weight in weighted):
            raise OptionError("--from repeats a merge as it was: it takes paths, -o, --force and --dry-run")
        weighted, factors, options, base = _recipe(from_, [path for path, _ in weighted], base)
    result = _run(
        weighted, factors, options, output, base=base, dry_run=dry_run, force=force, threads=threads, with_hashes=json
    )
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


def _recipe(
    merged: str, given: list[str], base: str | None
) -> tuple[list[Weighted], list[Any], MergeOptions, str | None]:
    """Inputs, layer weights, options and base checkpoint of the merge that made a file."""
    from ..formats import open_adapter
    from ..merging.recipe import find_base, find_inputs, read_recipe

    with open_adapter(merged, lenient_metadata=True) as adapter:
        recipe = read_recipe(adapter)
    folders = dict.fromkeys((os.path.dirname(os.path.abspath(merged)), os.getcwd()))
    found = find_inputs(recipe, given, folders)
    weighted = [Weighted(os.fspath(path), weight) for path, weight in zip(found, recipe.weights, strict=True)]
    checkpoint = find_base(recipe, base, folders)
    options = replace(recipe.merge_options(), base=recipe.base)
    return weighted, recipe.layer_weights, options, None if checkpoint is None else os.fspath(checkpoint)


def parse_layer_weights(arguments: list[str], count: int) -> list[str | None]:
    """``2:0.5,1,...`` as the layer weights of the second adapter.

    Raises: OptionError where no adapter is named, or there is none of that number.
    """
    found: list[str | None] = [None] * count
    for argument in arguments:
        number, colon, text = argument.partition(":")
        if not colon or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= count:
            raise OptionError(f"{argument}: say which of the {count} adapters is meant, e.g. 1:1,0.5,...")
        found[int(number) - 1] = text
    return found


def _list_methods(json: bool) -> None:
    from ..merging.methods import METHODS

    if json:
        emit_json({"schema": METHODS_SCHEMA, "methods": [method.to_dict() for method in METHODS.values()]})
    else:
        from .merge_view import methods_view

        show(methods_view(METHODS.values()))
    raise typer.Exit(Exit.OK)


def _run(
    weighted: list[Weighted],
    factors: list[Any],
    options: MergeOptions,
    output: str | None,
    *,
    base: str | None,
    dry_run: bool,
    force: bool,
    threads: int | None,
    with_hashes: bool,
) -> MergePlan | MergeReport:
    """The plan, or what came of it."""
    keep_freed_memory()
    with ExitStack() as stack:
        # Before the libraries are loaded.
        ahead = [] if dry_run else [stack.enter_context(DigestAhead(path)) for path, _ in weighted]
        from ..formats import open_adapter
        from ..formats.checkpoint import open_checkpoint
        from ..merging.planning import plan_merge
        from ..merging.with_base import merged_beside
        from ..merging.writing import check_merge_output, write_merge

        opened = [stack.enter_context(open_adapter(path)) for path, _ in weighted]
        if base is not None:
            checkpoint = stack.enter_context(open_checkpoint(base))
            opened, options = merged_beside(opened, checkpoint, options)
        weights = [weight for _, weight in weighted]
        with layers_bar("singular values") as progress:
            plan = plan_merge(
                opened, weights, options,
                layer_weights=factors, predict=dry_run, workers=threads, progress=progress,
            )  # fmt: skip
        if output is not None:
            check_merge_output(plan, output, overwrite=force)
        if dry_run or output is None:
            return plan
        with bytes_bar(os.path.basename(output), wanted=True) as written:
            return write_merge(
                plan, output,
                overwrite=force, workers=threads, progress=written, digests_ahead=ahead, with_hashes=with_hashes,
            )  # fmt: skip
