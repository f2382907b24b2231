"""Which layers of an adapter can be resized, and why the others cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from ..adapter import VECTOR_KINDS, Adapter, Layer
from ..errors import OptionError, UnknownDialectError
from ..formats.dtypes import BITS
from ..formats.layout import TensorPlan
from ..formats.spelling import Spelling, is_grouped_convolution, spelling_of
from .candidate import Candidate, shares_one_rank
from .options import OUTPUT_DTYPES, ResizeOptions
from .plan import LayerPlan, rank_limit

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


def sort_layers(adapter: Adapter, options: ResizeOptions) -> tuple[list[Candidate], dict[str, LayerPlan]]:
    """The layers that can be resized, and plans that leave the others as they are.

    Raises: UnknownDialectError where nothing can be resized; OptionError for a rank no layer can have, or a rule
    that gives layers different ranks where the format has one for all.
    """
    candidates, skipped = [], {}
    for name, layer in adapter.layers.items():
        reason = _why_not(adapter, layer, options)
        spelling = None if reason else spelling_of(layer, adapter.dialect, adapter.layers, adapter.source.tensors)
        if spelling is not None and spelling.is_new and options.keep_structure:
            reason = f"{_what_it_is(layer)} is kept as it is (--keep-structure)"
        if reason or spelling is None:
            skipped[name] = kept(adapter, layer, reason)
        else:
            candidates.append(Candidate(layer, spelling, _dtypes(adapter, layer, spelling, options)))
    if not candidates:
        raise UnknownDialectError(_nothing_to_resize(adapter, skipped))
    _check_possible(adapter, options, candidates)
    return candidates, skipped


def kept(adapter: Adapter, layer: Layer, reason: str | None) -> LayerPlan:
    """The plan that copies a layer byte for byte."""
    tensors = tuple(stored(adapter, key) for key in layer.keys.values())
    plan = LayerPlan(layer.name, layer.kind, "keep", layer.rank, layer.rank, layer.scale)
    return replace(plan, error=0.0, reason=reason, tensors=tensors)


def stored(adapter: Adapter, key: str) -> TensorPlan:
    """A tensor as the input has it."""
    info = adapter.source.tensors[key]
    return TensorPlan(key, info.dtype, info.shape)


def _why_not(adapter: Adapter, layer: Layer, options: ResizeOptions) -> str | None:
    if layer.opaque is not None:
        return layer.opaque
    if layer.kind in VECTOR_KINDS:
        return f"a {layer.kind} difference is a vector and has no rank"
    if layer.rank == 0 or rank_limit(layer) == 0:
        return "the layer is empty"
    if layer.scale == 0:
        return "its scale is 0: nothing of it is applied"
    if is_grouped_convolution(layer, adapter.source.tensors):
        return "the factors of a grouped convolution are block diagonal; a smaller pair cannot be"
    if options.method == "pad_truncate" and (layer.kind != "lora" or "mid" in layer.keys):
        return f"pad_truncate cuts pairs of factors; {_what_it_is(layer)} has none"
    return None


def _what_it_is(layer: Layer) -> str:
    return "a Tucker decomposition" if "mid" in layer.keys else f"a {layer.kind} layer"


def _dtypes(adapter: Adapter, layer: Layer, spelling: Spelling, options: ResizeOptions) -> tuple[str, str]:
    """Types of the new down and up: as asked for, as they were, or the layer's widest float."""
    if options.dtype != "keep":
        return (OUTPUT_DTYPES[options.dtype],) * 2
    tensors = adapter.source.tensors
    found = [tensors[key].dtype for role, key in layer.keys.items() if role != "alpha"]
    widest = max((dtype for dtype in found if dtype in _FLOATS), key=lambda dtype: BITS[dtype], default="F32")
    down, up = (tensors[name].dtype if name in tensors else widest for name in spelling.names[:2])
    return (down if down in _FLOATS else widest), (up if up in _FLOATS else widest)


def _nothing_to_resize(adapter: Adapter, skipped: Mapping[str, LayerPlan]) -> str:
    if not skipped:
        return f"{adapter.path}: the file holds no adapter layer; nothing can be resized"
    reason = next(iter(skipped.values())).reason
    return f"{adapter.path}: none of the {len(skipped)} layers can be resized, e.g. {reason}"


def _check_possible(adapter: Adapter, options: ResizeOptions, candidates: Sequence[Candidate]) -> None:
    largest = max(rank_limit(candidate.layer) for candidate in candidates)
    for what, choice in ((" for", options.choice), (" for convolutions", options.conv_choice)):
        if choice is not None and choice.rule == "fixed" and choice.value > largest:
            raise OptionError(
                f"rank {choice.value:g} was asked{what}; the largest delta of this adapter has rank {largest}"
            )
    for pattern, rank in options.table:
        if rank > largest:
            raise OptionError(f"rank {rank} was asked for {pattern}; the largest delta here has rank {largest}")
        if not any(fnmatchcase(candidate.layer.name, pattern) for candidate in candidates):
            raise OptionError(f"no layer that can be resized is named like {pattern}")
    _check_shared_rank(adapter, options, candidates)


def _check_shared_rank(adapter: Adapter, options: ResizeOptions, candidates: Iterable[Candidate]) -> None:
    shared = [options.choice_for(candidate.layer) for candidate in candidates if shares_one_rank(candidate)]
    ranks = {choice.value if choice is not None and choice.rule == "fixed" else None for choice in shared}
    if shared and (None in ranks or len(ranks) > 1):
        raise OptionError(f"{adapter.dialect} has one rank for all layers of this kind; choose it with --rank alone")
