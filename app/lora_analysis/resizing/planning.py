"""Make a resize plan: choose every layer's rank, spell every tensor of the output, predict its size exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..adapter import Adapter
from ..formats.layout import TensorPlan, aligned, predicted_size
from ..formats.scale import StatedScales
from ..formats.spelling import KEPT_ROLES
from .candidate import Candidate, shares_one_rank
from .configuration import output_config
from .header import output_metadata
from .notes import notes_on
from .options import ResizeOptions
from .plan import Action, LayerPlan, ResizePlan, norms_in, rank_limit
from .scales import new_scale, scales_of
from .selection import kept, sort_layers, stored

if TYPE_CHECKING:
    from .calculation import Analysis

Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]
_CACHE_BYTES = 200_000_000  # of decompositions that wait for the writer


def plan_resize(
    adapter: Adapter,
    options: ResizeOptions,
    *,
    predict: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ResizePlan:
    """What ``options`` will do to every layer of an open adapter. Nothing is written.

    ``predict=False`` skips the singular values where no rank depends on them: the plan then has exact sizes and
    no errors, and costs no more than the header.

    Raises: OptionError for a request that cannot be met; UnknownDialectError where no layer can be resized;
    NonFiniteError naming the layer; CancelledError.
    """
    candidates, skipped = sort_layers(adapter, options)
    if predict or not options.is_fixed:
        candidates = _analysed(candidates, workers, progress, cancel)
        skipped = _with_norms(adapter, skipped, workers, cancel)
    if options.base is not None:
        candidates = _beside_base(adapter, candidates, options.base, workers, cancel)
    making = _Making(adapter, options, scales_of(adapter), candidates, skipped)
    ranks = _ranks(making)
    if options.method == "pad_truncate" and predict:
        making = replace(making, cut_errors=_cut_errors(candidates, ranks, workers, cancel))
    return making.plan(ranks)


def _beside_base(
    adapter: Adapter, candidates: list[Candidate], checkpoint: str, workers: int | None, cancel: Cancel | None
) -> list[Candidate]:
    from .base_norms import base_norms

    layers = {candidate.layer.name: candidate.layer for candidate in candidates}
    norms = base_norms(checkpoint, layers, family=adapter.base_model.family, workers=workers, cancel=cancel)
    return [replace(candidate, base_norms=norms[candidate.layer.name]) for candidate in candidates]


def _ranks(making: _Making) -> Sequence[int]:
    options, candidates = making.options, making.candidates
    if options.choice is not None:
        return [_rank_by_rule(options, candidate) for candidate in candidates]
    from .budgets import ranks_for_budget, ranks_for_recipe

    size_of = lambda ranks: making.plan(ranks).size_after  # noqa: E731
    if options.recipe is not None:
        return ranks_for_recipe(making.adapter, options, candidates, size_of)
    biases = [candidate.bias_norm for candidate in candidates if candidate.bias_norm is not None]
    return ranks_for_budget(making.adapter, options, candidates, size_of, norms_in(making.skipped.values()) + biases)


def _rank_by_rule(options: ResizeOptions, candidate: Candidate) -> int:
    choice = options.choice_for(candidate.layer)
    assert choice is not None  # a plan without a budget or a recipe has a rule
    limit = rank_limit(candidate.layer)
    if choice.rule == "fixed":
        # Factors cut as they stand lose more than the rank says where it is clamped; shared ranks are one for all.
        is_clamped = options.method == "svd" and not shares_one_rank(candidate)
        return min(int(choice.value), limit) if is_clamped else int(choice.value)
    assert candidate.spectrum is not None  # rules other than fixed ask for spectra
    return min(choice.of(candidate.spectrum), limit)


# -- singular values ---------------------------------------------------------------------------------


def _analysed(
    candidates: list[Candidate], workers: int | None, progress: Progress | None, cancel: Cancel | None
) -> list[Candidate]:
    from ..linalg.streams import map_layers, out_of
    from .calculation import analyse

    report = out_of(len(candidates), progress)
    layers = (candidate.layer for candidate in candidates)
    results = map_layers(analyse, layers, workers=workers, progress=report, cancel=cancel)
    return list(_with_analyses(candidates, results))


def _with_analyses(candidates: Iterable[Candidate], results: Iterable[Analysis]) -> Iterator[Candidate]:
    """Candidates with their spectra, and with their decompositions as far as memory allows."""
    room = _CACHE_BYTES
    for candidate, (spectrum, decompositions, bias_norm) in zip(candidates, results, strict=True):
        room -= sum(one.nbytes for one in decompositions if one is not None)
        kept = decompositions if room > 0 else None
        yield replace(candidate, spectrum=spectrum, decompositions=kept, bias_norm=bias_norm)


def _with_norms(
    adapter: Adapter, skipped: Mapping[str, LayerPlan], workers: int | None, cancel: Cancel | None
) -> dict[str, LayerPlan]:
    """Layers that are left alone, with the norms of their deltas: errors are relative to all there is."""
    from ..linalg.streams import map_layers
    from .calculation import norms_of

    found = map_layers(norms_of, (adapter.layers[name] for name in skipped), workers=workers, cancel=cancel)
    return {
        name: replace(plan, norm=norms.delta, bias_norm=norms.bias)
        for (name, plan), norms in zip(skipped.items(), found, strict=True)
    }


def _cut_errors(
    candidates: Sequence[Candidate], ranks: Sequence[int], workers: int | None, cancel: Cancel | None
) -> dict[str, float]:
    """What cutting factors as they stand loses, by layer."""
    from ..linalg.streams import map_layers
    from .calculation import cut_error

    pairs = [(c.layer, rank) for c, rank in zip(candidates, ranks, strict=True)]
    errors = map_layers(lambda pair: cut_error(*pair), pairs, workers=workers, cancel=cancel)
    return {layer.name: error for (layer, _), error in zip(pairs, errors, strict=True)}


# -- the plan ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Making:
    """Everything a plan is made of but the ranks: a size budget tries several."""

    adapter: Adapter
    options: ResizeOptions
    stated: StatedScales
    candidates: Sequence[Candidate]
    skipped: Mapping[str, LayerPlan]
    cut_errors: Mapping[str, float] | None = None

    def plan(self, ranks: Sequence[int]) -> ResizePlan:
        plans = dict(self.skipped)
        decompositions = {}
        for candidate, rank in zip(self.candidates, ranks, strict=True):
            made = self._layer(candidate, rank)
            plans[made.name] = made
            if made.action == "truncate" and candidate.decompositions is not None:
                decompositions[made.name] = candidate.decompositions
        layers = {name: plans[name] for name in self.adapter.layers}
        tensors = aligned(_output_tensors(self.adapter, layers))
        metadata, remarks = output_metadata(self.adapter, self.options, layers, self.stated)
        size = predicted_size(tensors, metadata)
        return ResizePlan(
            self.adapter,
            self.options,
            layers,
            tensors,
            metadata,
            output_config(self.adapter, layers),
            size,
            (*remarks, *notes_on(self.adapter, layers, size)),
            decompositions,
        )

    def _layer(self, candidate: Candidate, rank: int) -> LayerPlan:
        layer, spelling, options = candidate.layer, candidate.spelling, self.options
        scale = new_scale(layer, spelling.names, rank, options.alpha, self.stated)
        action = _action(self.adapter, options, candidate, rank, scale)
        norm, error = self._predicted(candidate, rank, action)
        if action == "keep":
            plan = kept(self.adapter, layer, f"rank {layer.rank} already satisfies the request")
            return replace(plan, norm=norm, bias_norm=candidate.bias_norm)
        tensors = tuple(_spelled(self.adapter, options, candidate, rank))
        calculated = list(spelling.names[:2])
        if "up_bias" in layer.keys and scale != layer.scale:
            calculated.append(layer.keys["up_bias"])
        plan = LayerPlan(layer.name, layer.kind, action, layer.rank, rank, scale, norm, error)
        return replace(
            plan,
            spelling=spelling,
            tensors=tensors,
            calculated=tuple(calculated),
            bias_norm=candidate.bias_norm,
        )

    def _predicted(self, candidate: Candidate, rank: int, action: Action) -> tuple[float | None, float | None]:
        """Norm of the delta and norm of what is dropped, before rounding to the output's type."""
        import numpy as np

        values = candidate.spectrum
        if values is None:
            return None, None
        norm = float(np.linalg.norm(values))
        if action == "truncate":
            return norm, float(np.linalg.norm(values[rank:]))
        if action == "cut":
            return norm, (self.cut_errors or {}).get(candidate.layer.name)
        return norm, 0.0


def _action(adapter: Adapter, options: ResizeOptions, candidate: Candidate, rank: int, scale: float) -> Action:
    layer, old = candidate.layer, candidate.layer.rank
    if candidate.spelling.is_new or old is None or rank < old:
        return "cut" if options.method == "pad_truncate" else "truncate"
    choice = options.choice_for(layer)
    if rank > old and choice is not None and choice.rule == "fixed":
        return "pad"
    stored_types = tuple(adapter.source.tensors[name].dtype for name in candidate.spelling.names[:2])
    drops_alpha = options.alpha == "baked" and "alpha" in layer.keys
    return "cast" if stored_types != candidate.dtypes or scale != layer.scale or drops_alpha else "keep"


def _spelled(adapter: Adapter, options: ResizeOptions, candidate: Candidate, rank: int) -> Iterator[TensorPlan]:
    """The layer's tensors in the output."""
    layer, spelling = candidate.layer, candidate.spelling
    down, up = spelling.shapes(layer.shape or (), rank)
    yield TensorPlan(spelling.names.down, candidate.dtypes[0], down)
    yield TensorPlan(spelling.names.up, candidate.dtypes[1], up)
    alpha = spelling.names.alpha
    if alpha is not None and options.alpha != "baked":
        shape = adapter.source.tensors[alpha].shape if alpha in adapter.source.tensors else ()
        yield TensorPlan(alpha, "F32", shape)  # never narrower: bf16 would change the strength by up to 0.4 %
    for role, key in layer.keys.items():
        if role in KEPT_ROLES:
            yield stored(adapter, key)


def _output_tensors(adapter: Adapter, layers: Mapping[str, LayerPlan]) -> Iterator[TensorPlan]:
    """The input's order; a layer whose names change stands where its first tensor stood."""
    owner = {key: name for name, layer in adapter.layers.items() for key in layer.keys.values()}
    done: set[str] = set()
    for key in adapter.source.tensors:
        plan = layers.get(owner.get(key, ""))
        if plan is None or not plan.is_changed:
            yield stored(adapter, key)
            continue
        if plan.name not in done:
            done.add(plan.name)
            yield from (tensor for tensor in plan.tensors if tensor.name not in adapter.source.tensors)
        yield from (tensor for tensor in plan.tensors if tensor.name == key)
