"""Which layers are summed, and why some cannot be: asked of headers alone, before any value is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple, TypeAlias

from ..errors import OpaqueUpdateError, OptionError, ShapeError, UnknownDialectError
from ..formats.families import LABELS, UNKNOWN
from ..formats.spelling import is_grouped_convolution
from .inputs import MergeInput, Share, summed_together
from .meeting import Home, union_of
from .options import MergeOptions

_SPARSE = "sparse_values"
_Layers: TypeAlias = Mapping[str, Sequence[Share]]


class Dropped(NamedTuple):
    """Something of one input that is not in the result."""

    name: str  # of a layer or a tensor
    input: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class Matched(NamedTuple):
    """The layers of the sum, each with its shares, and what to know about them."""

    layers: dict[str, list[Share]]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]
    homes: Mapping[str, Home]  # of layers that no input in the output's dialect has


def match_layers(inputs: Sequence[MergeInput], options: MergeOptions) -> Matched:
    """The union of the inputs' layers. A layer that only some hold is summed over those.

    Raises: OptionError where the base models differ, or an input shares no layer with the others;
    OpaqueUpdateError for what is no delta without the base; ShapeError for layers of one name and different
    shapes; UnknownDialectError where nothing is left.
    """
    notes = [*_families(inputs), *_dialects(inputs), *_idle(inputs)]
    for item in inputs:
        if not item.adapter.layers:
            raise UnknownDialectError(f"{item.adapter.path}: the file holds no adapter layer; nothing can be merged")
    _refuse_dora(inputs)
    united = union_of(inputs)
    union = united.layers
    if united.translated:
        notes.append(
            f"{united.translated} groups of layers are named or fused differently; the module table joins them"
        )
    if not options.allow_disjoint:
        _require_common_layers(inputs, union)
    silent = list(_left_out(union, _adds_nothing))
    acting = _without(union, silent)
    unsupported = list(_left_out(acting, partial(_unsupported, options)))
    if unsupported and not options.drop_unsupported:
        raise OpaqueUpdateError(_refusal(inputs, unsupported))
    summed = _without(acting, unsupported)
    dropped = (*unsupported, *silent)
    if not summed:
        raise UnknownDialectError(f"nothing is left to merge; e.g. {dropped[0].name}: {dropped[0].reason}")
    _require_equal_shapes(inputs, summed)
    if options.how.stored_factors == "equal":
        _require_equal_ranks(inputs, summed, options)
    return Matched(summed, dropped, tuple(notes), united.homes)


def _left_out(layers: _Layers, why_not: Callable[[Share], str | None]) -> Iterator[Dropped]:
    """The shares for which there is a reason."""
    for name, shares in layers.items():
        for share in shares:
            reason = why_not(share)
            if reason is not None:
                yield Dropped(name, share.input, reason)


def _without(layers: _Layers, dropped: Iterable[Dropped]) -> dict[str, list[Share]]:
    """The layers with the shares that are left; a layer without any is gone."""
    out = {(drop.name, drop.input) for drop in dropped}
    left = {name: [share for share in shares if (name, share.input) not in out] for name, shares in layers.items()}
    return {name: shares for name, shares in left.items() if shares}


# -- inputs as wholes --------------------------------------------------------------------------------


def _families(inputs: Sequence[MergeInput]) -> Iterator[str]:
    """Raises: OptionError where two inputs are known to be made for different models."""
    known = {item.adapter.base_model.family: item for item in inputs if item.adapter.base_model.family != UNKNOWN}
    if len(known) > 1:
        (first, a), (second, b) = list(known.items())[:2]
        raise OptionError(
            f"{a.name} was made for {LABELS.get(first, first)}, {b.name} for {LABELS.get(second, second)}; "
            "adapters of different base models cannot be merged"
        )
    for item in inputs:
        if item.adapter.base_model.family == UNKNOWN:
            yield f"{item.name}: its base model is unknown; that it is the same was not checked"


def _dialects(inputs: Sequence[MergeInput]) -> Iterator[str]:
    dialects = {item.adapter.dialect: item.name for item in inputs}
    if len(dialects) > 1:
        yield f"inputs name their tensors in {len(dialects)} ways; the output follows {inputs[0].name}"


def _idle(inputs: Sequence[MergeInput]) -> Iterator[str]:
    for item in inputs:
        if not item.weight:
            yield f"{item.name}: its weight is 0, so nothing of it is added"


def _refuse_dora(inputs: Sequence[MergeInput]) -> None:
    for item in inputs:
        found = [layer.name for layer in item.adapter.layers.values() if layer.magnitude_axis]
        if found and item.weight:
            raise OpaqueUpdateError(
                f"{item.name}: {len(found)} layers are DoRA, e.g. {found[0]}; their norms belong to base + delta, so "
                "a merge needs the base weights: name their checkpoint with --base"
            )


def _require_common_layers(inputs: Sequence[MergeInput], union: _Layers) -> None:
    if len(inputs) < 2:
        return
    common = Counter(share.input for shares in union.values() if len(shares) > 1 for share in shares)
    for number, item in enumerate(inputs):
        if not common[number]:
            other = inputs[0 if number else 1]
            names = [next(iter(one.adapter.layers)) for one in (item, other)]
            raise OptionError(
                f"{item.name} ({item.adapter.dialect}) shares no layer with the others: it has {names[0]}, "
                f"{other.name} ({other.adapter.dialect}) has {names[1]}. Convert one first, or ask for --allow-disjoint"
            )


# -- layers ------------------------------------------------------------------------------------------


def _unsupported(options: MergeOptions, share: Share) -> str | None:
    """Why a layer changes the model, but not by adding a delta that the file alone defines and factors can hold."""
    layer = share.layer
    if layer.opaque is not None:
        return layer.opaque
    if _SPARSE in layer.keys:
        return "a sparse residual lies beside the factors and cannot be factored"
    if options.how.stored_factors and not _is_plain_pair(share):
        return f"{options.method} adds stored factors and needs a plain LoRA pair"
    if is_grouped_convolution(layer, share.adapter.source.tensors):
        return "loaders of a grouped convolution expect block-diagonal factors"
    return None


def _is_plain_pair(share: Share) -> bool:
    layer = share.layer
    is_vector = layer.shape is not None and len(layer.shape) < 2
    return is_vector or (layer.kind == "lora" and "mid" not in layer.keys and not layer.experts and not share.moves)


def _require_equal_ranks(inputs: Sequence[MergeInput], layers: _Layers, options: MergeOptions) -> None:
    for name, shares in layers.items():
        if len({share.layer.rank for share in shares}) > 1:
            first, second = shares[0], next(share for share in shares if share.layer.rank != shares[0].layer.rank)
            raise OpaqueUpdateError(
                f"{name}: {options.method} adds factors, which must be of one rank; it is {first.layer.rank} in "
                f"{inputs[first.input].name} and {second.layer.rank} in {inputs[second.input].name}"
            )


def _refusal(inputs: Sequence[MergeInput], dropped: Sequence[Dropped]) -> str:
    first = dropped[0]
    return (
        f"{inputs[first.input].name}: {len(dropped)} layers have no delta to add, e.g. {first.name}: {first.reason}. "
        "--drop-unsupported leaves them out"
    )


def _adds_nothing(share: Share) -> str | None:
    layer = share.layer
    if not share.weight:
        return "its weight is 0"
    if layer.scale == 0:
        return "its scale is 0: loaders apply nothing of it"
    if layer.rank == 0 or (layer.shape is not None and not prod(layer.shape)):
        return "the layer is empty"
    return None


def _require_equal_shapes(inputs: Sequence[MergeInput], layers: _Layers) -> None:
    for name, holders in layers.items():
        first, *others = whole_first(summed_together(holders))
        for share in others:
            difference = _difference(first, share)
            if difference:
                raise ShapeError(f"{name}: {difference} in {inputs[first.input].name} and {inputs[share.input].name}")


def whole_first(shares: Sequence[Share]) -> list[Share]:
    """Those that are the layer before those whose rows are moved into it."""
    return sorted(shares, key=lambda share: bool(share.moves))


def _difference(first: Share, second: Share) -> str | None:
    """What of two layers of one weight keeps them from being added, in words."""
    a, b = first.layer, second.layer
    if a.base_transposed != b.base_transposed:
        return "fan_in_fan_out differs"
    if a.reshape != b.reshape:
        return f"the base is padded to {a.reshape or 'nothing'} and {b.reshape or 'nothing'}"
    shapes = first.shape, second.shape
    if a.experts != b.experts or not _are_one_shape(*shapes):
        return f"the deltas are {list(shapes[0])} and {list(shapes[1])}"
    return None


def _are_one_shape(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Equal, or one with the kernel and the other with the same columns flattened."""
    if a == b:
        return True
    if not (a and b and a[0] == b[0] and prod(a) == prod(b)):
        return False
    return len(a) != len(b) and min(len(a), len(b)) == 2
