"""Make a merge plan: match the layers, choose the ranks of their sums, predict the output's size exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..adapter import Adapter, LowRank
from ..errors import OptionError
from ..formats.layout import TensorPlan, aligned, predicted_size
from ..resizing.candidate import Candidate, shares_one_rank
from ..resizing.configuration import output_config
from ..resizing.options import ResizeOptions
from ..resizing.plan import LayerPlan, ResizePlan, rank_limit
from .configuration import summed_config
from .extras import sort_extras
from .factored import Run
from .header import output_metadata
from .inputs import MergeInput
from .layer_weights import layer_weights_of
from .matching import match_layers
from .notes import layer_weight_notes, method_notes
from .options import MergeOptions, effective_weights
from .plan import MergePlan
from .summed import Summed, SummedLayer, sum_adapters
from .thresholds import Thresholds

if TYPE_CHECKING:
    from ..resizing.calculation import Norms

Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]
_EXACT = MergeOptions()


def plan_merge(
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None = None,
    options: MergeOptions = _EXACT,
    *,
    layer_weights: Sequence[Any] | None = None,
    predict: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> MergePlan:
    """What merging open adapters will make of every layer. Nothing is written.

    ``weights``: one per adapter, all equal where left out. ``layer_weights``: per adapter, factors on its weight for
    some layers, or None; see ``layer_weights.layer_weights_of``. Keep the adapters open until the plan is carried out.
    ``predict=False`` skips the singular values where no rank depends on them; the plan then has no errors.

    Raises: OptionError for a request that cannot be met; OpaqueUpdateError, ShapeError, UnknownDialectError for
    adapters that cannot be merged; NonFiniteError naming the layer; CancelledError.
    """
    inputs = _weighted(adapters, weights, layer_weights, options)
    matched = match_layers(inputs, options)
    extras = sort_extras(inputs, options)
    config = summed_config(inputs, matched.layers)
    run = Run(options, Thresholds(options), {})
    summed = sum_adapters(inputs, matched, extras.carried, config, run=run)
    candidates = [_candidate(made) for made in summed.layers.values() if made.spelling is not None]
    truncation = options.truncation
    vectors: dict[str, Norms] = {}
    if predict or (truncation is not None and not truncation.is_fixed):
        run.thresholds.find(workers=workers, cancel=cancel)
        is_whole = truncation is None and options.is_plain_sum and options.how.rank == "exact"
        with run.reading_in_float32():
            candidates = _looked_at(run, candidates, workers, progress, cancel, is_whole=is_whole)
        vectors = {} if is_whole else dict(_norms_of_vectors(summed, workers, cancel))
    build = partial(_build, inputs, options, summed, candidates, vectors)
    size_of = lambda ranks: build(ranks).size_after  # noqa: E731
    others = [norm for norms in vectors.values() for norm in norms if norm is not None]
    rewriting = build(_ranks(summed, options, candidates, size_of, others))
    dropped = (*matched.dropped, *extras.dropped)
    notes = (*method_notes(options), *matched.notes, *layer_weight_notes(inputs))
    return MergePlan(inputs, options, summed.layers, rewriting, dropped, notes, run)


def _weighted(
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None,
    layer_weights: Sequence[Any] | None,
    options: MergeOptions,
) -> tuple[MergeInput, ...]:
    if not adapters:
        raise OptionError("no adapter was given; a merge needs at least one")
    asked = [1.0] * len(adapters) if weights is None else list(weights)
    if len(asked) != len(adapters):
        raise OptionError(f"{len(adapters)} adapters and {len(asked)} weights were given; each needs one")
    most = options.how.most
    if most is not None and len(adapters) > most:
        raise OptionError(f"{options.method} merges {most} adapters, {len(adapters)} were given; karcher takes more")
    factors = [None] * len(adapters) if layer_weights is None else [layer_weights_of(one) for one in layer_weights]
    if len(factors) != len(adapters):
        raise OptionError(
            f"{len(adapters)} adapters and layer weights for {len(factors)} were given; use None for none"
        )
    acting = effective_weights(asked, normalize=options.normalizes)
    inputs = tuple(map(MergeInput, adapters, acting, asked, factors))
    for item in inputs:
        idle = [] if item.layer_weights is None else item.layer_weights.unused(item.adapter.layers.values())
        if idle:
            raise OptionError(f"{item.name}: {idle[0]} matches none of its layers")
    return inputs


def _looked_at(
    run: Run,
    candidates: Sequence[Candidate],
    workers: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
    *,
    is_whole: bool,
) -> list[Candidate]:
    """The layers with their singular values, unless their sums stay whole; what is seen on the way is in the run."""
    from ..linalg.streams import map_together, together

    groups = together(candidates, lambda candidate: candidate.layer.rank or 0)
    look = partial(_look, run, is_whole=is_whole)
    return map_together(look, groups, len(candidates), workers=workers, progress=progress, cancel=cancel)


def _look(run: Run, group: Sequence[Candidate], *, is_whole: bool) -> list[Candidate]:
    from ..linalg.factor_spectrum import begin, finish
    from ..linalg.svd import frobenius_norm
    from ..resizing.calculation import spectrum_of
    from .lookahead import analysed
    from .storage import naming

    seen = [analysed(candidate.layer, run, None) for candidate in group]
    later = iter([] if is_whole else finish([begin(update, one.grams) for update, one in seen if one is not None]))
    found: list[Candidate] = []
    for candidate, (update, one) in zip(group, seen, strict=True):
        with naming(candidate.layer.name):
            if is_whole:
                if one is not None:
                    assert isinstance(update, LowRank)  # whose Gram matrices these are
                    frobenius_norm(update, one.grams)  # says where it is no number
                found.append(candidate)
            else:
                found.append(replace(candidate, spectrum=spectrum_of(update) if one is None else next(later)().values))
    return found


def _norms_of_vectors(summed: Summed, workers: int | None, cancel: Cancel | None) -> Iterator[tuple[str, Norms]]:
    """Of what is summed element by element: truncation takes nothing from it, but errors count it."""
    from ..linalg.streams import map_layers
    from ..resizing.calculation import Norms, bias_norm, norms_of

    def measure(made: SummedLayer) -> tuple[str, Norms]:
        layer = made.layer
        return layer.name, norms_of(layer) if made.spelling is None else Norms(None, bias_norm(layer))

    held = (made for made in summed.layers.values() if made.spelling is None or made.layer.load_bias is not None)
    return map_layers(measure, held, workers=workers, cancel=cancel)


# -- ranks -------------------------------------------------------------------------------------------


def _candidate(made: SummedLayer) -> Candidate:
    assert made.spelling is not None  # only layers with factors have a rank
    return Candidate(made.layer, made.spelling, (made.dtype, made.dtype))


def _ranks(
    summed: Summed,
    options: MergeOptions,
    candidates: Sequence[Candidate],
    size_of: Callable[[Sequence[int]], int],
    others: Sequence[float],
) -> Sequence[int]:
    """The rank of every sum: never above what it has, nor above what a matrix of its shape can have."""
    limits = [min(candidate.layer.rank or 1, rank_limit(candidate.layer)) for candidate in candidates]
    asked = options.as_resize()
    adapter = summed.adapter
    if options.truncation is None:
        chosen: Sequence[int] = limits
        if options.how.rank == "largest":
            chosen = [max(summed.layers[candidate.layer.name].ranks) for candidate in candidates]
    elif asked.budget is not None:
        from ..resizing.budgets import ranks_for_budget

        chosen = ranks_for_budget(adapter, asked, candidates, size_of, others)
    else:
        chosen = [_rank_by_rule(asked, candidate) for candidate in candidates]
    ranks = [min(pair) for pair in zip(chosen, limits, strict=True)]
    _require_one_rank(adapter, candidates, ranks)
    return ranks


def _rank_by_rule(options: ResizeOptions, candidate: Candidate) -> int:
    choice = options.choice_for(candidate.layer)
    assert choice is not None  # the caller asks where there is no budget
    if choice.rule == "fixed":
        return int(choice.value)
    assert candidate.spectrum is not None  # rules other than fixed ask for spectra
    return choice.of(candidate.spectrum)


def _require_one_rank(adapter: Adapter, candidates: Sequence[Candidate], ranks: Sequence[int]) -> None:
    pairs = zip(candidates, ranks, strict=True)
    found = {rank for candidate, rank in pairs if shares_one_rank(candidate)}
    if len(found) > 1:
        shown = ", ".join(map(str, sorted(found)))
        raise OptionError(f"{adapter.dialect} has one rank for all layers, the sum has {shown}; choose one with --rank")


# -- the output --------------------------------------------------------------------------------------


def _build(
    inputs: Sequence[MergeInput],
    options: MergeOptions,
    summed: Summed,
    candidates: Sequence[Candidate],
    vectors: Mapping[str, Norms],
    ranks: Sequence[int],
) -> ResizePlan:
    """The plan that writes the sum at these ranks."""
    chosen = {item.layer.name: (item, rank) for item, rank in zip(candidates, ranks, strict=True)}
    layers = {
        name: _factored_plan(made, *chosen[name]) if name in chosen else _plain_plan(made)
        for name, made in summed.layers.items()
    }
    layers |= {name: _with_norms(layers[name], norms) for name, norms in vectors.items()}
    tensors = aligned([*(tensor for layer in layers.values() for tensor in layer.tensors), *summed.carried])
    metadata = output_metadata(inputs, options, layers)
    asked = options.as_resize()
    config = output_config(summed.adapter, layers)
    return ResizePlan(
        summed.adapter, asked, layers, tensors, metadata, config, predicted_size(tensors, metadata)
    )  # fmt: skip


def _factored_plan(made: SummedLayer, candidate: Candidate, rank: int) -> LayerPlan:
    import numpy as np

    layer, values = made.layer, candidate.spectrum
    norm = None if values is None else float(np.linalg.norm(values))
    dropped = None if values is None else float(np.linalg.norm(values[rank:]))
    down, up = candidate.spelling.shapes(layer.shape or (), rank)
    names = candidate.spelling.names
    tensors = [TensorPlan(names.down, made.dtype, down), TensorPlan(names.up, made.dtype, up)]
    if names.alpha is not None:
        tensors.append(TensorPlan(names.alpha, "F32", ()))
    return LayerPlan(
        layer.name,
        layer.kind,  # what it is now, whatever its parts were
        "cast" if rank == layer.rank else "truncate",
        layer.rank,
        rank,
        scale=1.0,
        norm=norm,
        error=dropped,
        spelling=candidate.spelling,
        tensors=(*tensors, *made.beside),
        calculated=names[:2],
    )


def _plain_plan(made: SummedLayer) -> LayerPlan:
    layer = made.layer
    return LayerPlan(layer.name, layer.kind, "cast", None, None, 1.0, None, None, tensors=made.beside)


def _with_norms(layer: LayerPlan, norms: Norms) -> LayerPlan:
    if norms.delta is None:
        return replace(layer, bias_norm=norms.bias)
    return replace(layer, norm=norms.delta, error=0.0, bias_norm=norms.bias)
