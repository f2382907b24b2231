"""Make a resize plan: choose every layer's rank, spell every tensor of the output, predict its size exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..adapter import Adapter, Layer
from ..errors import OptionError, UnknownDialectError
from ..formats.dtypes import BITS
from ..formats.layout import TensorPlan, predicted_size
from ..formats.spelling import KEPT_ROLES, Spelling, spelling_of
from .candidate import Candidate
from .header import output_config, output_metadata
from .options import OUTPUT_DTYPES, ResizeOptions
from .plan import LayerPlan, ResizePlan, rank_limit

Progress = Callable[[int, int], None]  # layers done, layers in all
Cancel = Callable[[], bool]
_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_VECTOR_KINDS = frozenset({"norm", "bias", "modulation"})


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
    candidates, skipped = _sort_layers(adapter, options)
    if not candidates:
        raise UnknownDialectError(_nothing_to_resize(adapter, skipped))
    _check_possible(options, candidates)
    if predict or options.needs_spectra:
        candidates = _with_spectra(candidates, workers, progress, cancel)
    build = partial(_build, adapter, options, candidates, skipped)
    if options.budget is not None:
        from .budgets import ranks_for_budget

        return build(ranks_for_budget(adapter, options, candidates, lambda ranks: build(ranks).size_after))
    return build([_rank_by_rule(options, candidate) for candidate in candidates])


def _build(
    adapter: Adapter,
    options: ResizeOptions,
    candidates: Sequence[Candidate],
    skipped: Mapping[str, LayerPlan],
    ranks: Sequence[int],
) -> ResizePlan:
    plans = dict(skipped)
    for candidate, rank in zip(candidates, ranks, strict=True):
        plans[candidate.layer.name] = _plan_layer(adapter, options, candidate, rank)
    return _assemble(adapter, options, {name: plans[name] for name in adapter.layers})


# -- which layers ------------------------------------------------------------------------------------


def _sort_layers(adapter: Adapter, options: ResizeOptions) -> tuple[list[Candidate], dict[str, LayerPlan]]:
    candidates, skipped = [], {}
    for name, layer in adapter.layers.items():
        reason = _why_not(layer, options)
        spelling = None if reason else spelling_of(layer, adapter.dialect, adapter.layers, adapter.source.tensors)
        if spelling is not None and spelling.is_new and options.keep_structure:
            reason = f"{layer.kind} is kept as it is (--keep-structure)"
        if reason or spelling is None:
            skipped[name] = _kept(adapter, layer, reason)
        else:
            candidates.append(Candidate(layer, spelling, _dtypes(adapter, layer, spelling, options)))
    return candidates, skipped


def _why_not(layer: Layer, options: ResizeOptions) -> str | None:
    if layer.opaque is not None:
        return f"{layer.opaque}; passed through"
    if layer.kind in _VECTOR_KINDS:
        return f"a {layer.kind} difference has no rank; passed through"
    if layer.rank == 0 or rank_limit(layer) == 0:
        return "the layer is empty; passed through"
    if layer.scale == 0:
        return "its scale is 0, so nothing of it is applied; passed through"
    if options.method == "pad_truncate" and layer.kind != "lora":
        return f"pad_truncate cuts LoRA factors; a {layer.kind} layer has none"
    return None


def _kept(adapter: Adapter, layer: Layer, reason: str | None) -> LayerPlan:
    tensors = tuple(_stored(adapter, key) for key in layer.keys.values())
    return LayerPlan(
        layer.name, layer.kind, "keep", layer.rank, layer.rank, layer.scale, reason=reason, tensors=tensors
    )


def _stored(adapter: Adapter, key: str) -> TensorPlan:
    info = adapter.source.tensors[key]
    return TensorPlan(key, info.dtype, info.shape)


def _dtypes(adapter: Adapter, layer: Layer, spelling: Spelling, options: ResizeOptions) -> tuple[str, str]:
    """Types of the new down and up: as asked for, as they were, or the layer's widest float."""
    if options.dtype != "keep":
        return (OUTPUT_DTYPES[options.dtype],) * 2
    tensors = adapter.source.tensors
    found = [tensors[key].dtype for role, key in layer.keys.items() if role != "alpha"]
    widest = max((dtype for dtype in found if dtype in _FLOATS), key=lambda dtype: BITS[dtype], default="F32")
    names = spelling.names
    return tuple(tensors[name].dtype if name in tensors else widest for name in (names.down, names.up))  # type: ignore[return-value]


def _nothing_to_resize(adapter: Adapter, skipped: Mapping[str, LayerPlan]) -> str:
    if not skipped:
        return f"{adapter.path}: the file holds no adapter layer; nothing can be resized"
    reason = next(iter(skipped.values())).reason
    return f"{adapter.path}: none of the {len(skipped)} layers can be resized, e.g. {reason}"


def _check_possible(options: ResizeOptions, candidates: Iterable[Candidate]) -> None:
    choice = options.choice
    if choice is None or choice.rule != "fixed":
        return
    largest = max(rank_limit(candidate.layer) for candidate in candidates)
    if choice.value > largest:
        raise OptionError(f"rank {choice.value:g} was asked for; the largest delta of this adapter has rank {largest}")


# -- ranks -------------------------------------------------------------------------------------------


def _with_spectra(
    candidates: list[Candidate], workers: int | None, progress: Progress | None, cancel: Cancel | None
) -> list[Candidate]:
    from ..linalg.streams import map_layers
    from .calculation import spectrum

    total = len(candidates)
    report = (lambda done: progress(done, total)) if progress is not None else None
    layers = (candidate.layer for candidate in candidates)
    found = map_layers(spectrum, layers, workers=workers, progress=report, cancel=cancel)
    return [replace(candidate, spectrum=values) for candidate, values in zip(candidates, found, strict=True)]


def _rank_by_rule(options: ResizeOptions, candidate: Candidate) -> int:
    choice = options.choice_for(candidate.layer)
    assert choice is not None  # a plan without a budget has a rule
    limit = rank_limit(candidate.layer)
    if choice.rule == "fixed":
        rank = int(choice.value)
    else:
        assert candidate.spectrum is not None  # rules other than fixed ask for spectra
        rank = choice.of(candidate.spectrum)
    if options.cap is not None:
        rank = min(rank, options.cap)
    return min(max(rank, options.floor), limit)


# -- one layer ---------------------------------------------------------------------------------------


def _plan_layer(adapter: Adapter, options: ResizeOptions, candidate: Candidate, rank: int) -> LayerPlan:
    layer, spelling = candidate.layer, candidate.spelling
    action = _action(adapter, options, candidate, rank)
    norm, error = _predicted(candidate, rank, action)
    if action == "keep":
        return replace(_kept(adapter, layer, f"rank {layer.rank} already satisfies the request"), norm=norm, error=0.0)
    scale = layer.scale if options.alpha == "keep-scale" and _keeps_scale(layer, spelling) else 1.0
    tensors = tuple(_spelled(adapter, options, candidate, rank))
    reason = "the DoRA magnitude is kept: it was trained with the old delta" if layer.magnitude_axis else None
    return LayerPlan(
        layer.name, layer.kind, action, layer.rank, rank, scale, norm, error, reason, spelling, tensors
    )  # fmt: skip


def _keeps_scale(layer: Layer, spelling: Spelling) -> bool:
    """Whether the output states a scale at all: an alpha tensor, or a configuration that carries one."""
    return spelling.names.alpha is not None or layer.scale_origin in ("config", "header")


def _action(adapter: Adapter, options: ResizeOptions, candidate: Candidate, rank: int) -> Any:
    layer = candidate.layer
    old = layer.rank if not candidate.spelling.is_new else None
    if old is not None and rank >= old:
        if rank > old and options.choice_for(layer) is not None and _is_fixed(options, layer):
            return "pad"
        return "cast" if _is_recast(adapter, options, candidate) else "keep"
    return "cut" if options.method == "pad_truncate" else "truncate"


def _is_fixed(options: ResizeOptions, layer: Layer) -> bool:
    choice = options.choice_for(layer)
    return choice is not None and choice.rule == "fixed"


def _is_recast(adapter: Adapter, options: ResizeOptions, candidate: Candidate) -> bool:
    names = candidate.spelling.names
    stored = tuple(adapter.source.tensors[name].dtype for name in (names.down, names.up))
    rewrites_alpha = options.alpha != "keep-scale" and candidate.layer.scale_origin != "default"
    return stored != candidate.dtypes or rewrites_alpha


def _predicted(candidate: Candidate, rank: int, action: str) -> tuple[float | None, float | None]:
    """Norm of the delta and norm of what is dropped, before rounding to the output's type."""
    import numpy as np

    values = candidate.spectrum
    if values is None:
        return None, None
    norm = float(np.linalg.norm(values))
    if action != "truncate":
        return norm, None if action == "cut" else 0.0
    if candidate.layer.experts:  # the spectra of the experts are pooled; each is truncated by itself
        return norm, None
    return norm, float(np.linalg.norm(values[rank:]))


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
            yield _stored(adapter, key)


# -- the file ----------------------------------------------------------------------------------------


def _assemble(adapter: Adapter, options: ResizeOptions, layers: Mapping[str, LayerPlan]) -> ResizePlan:
    """The output's tensors in order, its header and its size."""
    tensors = _ordered(_output_tensors(adapter, layers))
    metadata, notes = output_metadata(adapter, options, layers)
    config = output_config(adapter, options, layers)
    size = predicted_size(tensors, metadata)
    return ResizePlan(adapter, options, layers, tensors, metadata, config, size, notes)


def _output_tensors(adapter: Adapter, layers: Mapping[str, LayerPlan]) -> Iterator[TensorPlan]:
    """The input's order; a layer whose names change stands where its first tensor stood."""
    owner = {key: name for name, layer in adapter.layers.items() for key in layer.keys.values()}
    done: set[str] = set()
    for key in adapter.source.tensors:
        plan = layers.get(owner.get(key, ""))
        if plan is None or not plan.is_changed:
            yield _stored(adapter, key)
            continue
        kept = next((tensor for tensor in plan.tensors if tensor.name == key), None)
        new = [tensor for tensor in plan.tensors if tensor.name not in adapter.source.tensors]
        if plan.name not in done:
            done.add(plan.name)
            yield from new
        if kept is not None:
            yield kept


def _ordered(tensors: Iterable[TensorPlan]) -> list[TensorPlan]:
    """Widest types first, otherwise the order given: every tensor then starts at a multiple of its item size.

    The format asks for no alignment, but torch cannot view misaligned bytes, so the safetensors library and every
    loader built on it depend on this order.
    """
    return sorted(tensors, key=lambda tensor: -BITS[tensor.dtype])
