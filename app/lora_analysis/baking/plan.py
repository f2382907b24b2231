"""What baking will do to every tensor of a checkpoint, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..adapter import Adapter, Extra, FloatArray, Layer
from ..errors import OptionError
from ..formats.architectures import fused_in, is_known
from ..formats.checkpoint import Checkpoint
from ..formats.families import LABELS, UNKNOWN
from .arithmetic import Addition, ColumnNorms
from .matching import Place, Targets, fits, places_by_spelling, sibling, targets_of

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_QUANTISED = (".weight_scale", ".scale_weight", ".weight_scale_inv", ".scale_input")


class Skipped(NamedTuple):
    """A layer or tensor of an adapter that is not in the result."""

    adapter: int
    name: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class WeightedAdapter(NamedTuple):
    """An open adapter and what its delta is multiplied with."""

    adapter: Adapter
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class BakePlan:
    """The additions to every changed tensor; the rest keeps its bytes."""

    checkpoint: Checkpoint
    inputs: Sequence[WeightedAdapter]
    family: str
    additions: Mapping[str, Sequence[Addition]]  # by tensor
    skipped: tuple[Skipped, ...]
    matched: Sequence[int]  # layers per adapter
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": "bake",
            "base": str(self.checkpoint.path),
            "base_model": self.family,
            "adapters": [
                {
                    "path": str(item.adapter.path),
                    "weight": item.weight,
                    "layers": len(item.adapter.layers),
                    "layers_matched": matched,
                }
                for item, matched in zip(self.inputs, self.matched, strict=True)
            ],
            "tensors": len(self.checkpoint.homes),
            "tensors_changed": len(self.additions),
            "size": self.checkpoint.size,
            "skipped": [one.to_dict() for one in self.skipped],
            "notes": list(self.notes),
        }


def plan_bake(
    checkpoint: Checkpoint, inputs: Sequence[WeightedAdapter], *, family: str | None = None, drop: bool = False
) -> BakePlan:
    """Find every layer's weight in the checkpoint, by the module table of the base model.

    ``drop``: leave out layers without a weight there, and what is no delta. Raises: OptionError where an adapter
    matches nothing, base models differ, a weight is no number, or something has no place and ``drop`` was not asked.
    """
    checkpoint.require_one_component("baking changes")
    found = _family(inputs, family)
    making = _Making(targets_of(checkpoint.tensors, found), checkpoint.array, {})
    skipped: list[Skipped] = []
    matched = []
    for number, item in enumerate(inputs):
        reasons, count = _match(item, making)
        skipped += [Skipped(number, name, reason) for name, reason in reasons.items()]
        left = _extras(item, making)
        if not count and len(left) == len(item.adapter.extras):
            first = next(iter(reasons.items()), ("the adapter", "it holds no layer"))
            raise OptionError(
                f"{item.adapter.path}: none of its {len(item.adapter.layers)} layers has a weight in "
                f"{checkpoint.path}; e.g. {first[0]}: {first[1]}"
            )
        matched.append(count)
        skipped += [Skipped(number, e.key, f"{e.note}; no delta") for e in left]
    if skipped and not drop:
        first_left = skipped[0]
        raise OptionError(
            f"{len(skipped)} parts of the adapters cannot be baked, e.g. {first_left.name}: {first_left.reason}. "
            "--dry-run --drop lists them, --drop leaves them out"
        )
    return BakePlan(checkpoint, inputs, found, making.additions, tuple(skipped), matched)


class _Making(NamedTuple):
    """A plan under way: where weights are, who reads one when the time comes, and what was filed so far."""

    targets: Targets
    array: Callable[[str], FloatArray]
    additions: dict[str, list[Addition]]

    def add(self, key: str, addition: Addition) -> None:
        self.additions.setdefault(key, []).append(addition)


def _family(inputs: Sequence[WeightedAdapter], asked: str | None) -> str:
    if asked is not None:
        if not is_known(asked):
            raise OptionError(f"{asked}: no such base model")
        return asked
    families = {item.adapter.base_model.family for item in inputs} - {UNKNOWN}
    if len(families) > 1:
        names = sorted(LABELS.get(family, family) for family in families)
        raise OptionError(f"the adapters were made for {' and '.join(names)}; they have no common base")
    return families.pop() if families else UNKNOWN


def _match(item: WeightedAdapter, making: _Making) -> tuple[dict[str, str], int]:
    """Why each layer without a place has none, and the number of those with one."""
    targets = making.targets
    reasons: dict[str, str] = {}
    layers = list(item.adapter.layers.values())
    places = {layer.name: targets.places(layer) for layer in layers}
    spelled = places_by_spelling([layer for layer in layers if not places[layer.name]], targets.tensors)
    count = 0
    for layer in layers:
        found = places[layer.name] or spelled.get(layer.name)
        reason = _why_not(layer, found, targets, has_weight=bool(item.weight))
        if reason is not None:
            reasons[layer.name] = reason
            continue
        assert found is not None  # or there would be a reason
        count += 1
        lost = _add(layer, found, item.weight, making)
        if lost:
            reasons[f"{layer.name} (bias)"] = lost
    return reasons, count


def _why_not(layer: Layer, places: list[Place] | None, targets: Targets, *, has_weight: bool) -> str | None:
    if layer.opaque is not None:
        return layer.opaque
    if not places:
        return "the checkpoint has no such weight"
    if not has_weight:
        return "the weight of its adapter is 0"
    for place in places:
        info = targets.tensors[place.key]
        reason = None if layer.kind == "bias" else fits(layer, place, targets.tensors)
        if reason is not None:
            return reason
        stem = place.key.removesuffix(".weight")
        if info.dtype not in _FLOATS or any(stem + ending in targets.tensors for ending in _QUANTISED):
            return f"the base weight is quantised ({info.dtype}); use the original checkpoint"
    if layer.magnitude_axis is not None and layer.experts:
        return "DoRA of experts is not known"
    if layer.reshape is not None and len(places) > 1:
        return "a weight in several parts cannot be padded"
    if "sparse_values" in layer.keys:
        return "a sparse residual lies beside the factors and is not applied"
    return None


def _add(layer: Layer, places: list[Place], weight: float, making: _Making) -> str | None:
    """File a layer's rows under their tensors; why its bias has no place, or None."""
    lost = None
    columns = ColumnNorms(layer, places, making.array) if layer.magnitude_axis == "in" else None
    for key, start, stop, to in places:
        if layer.kind != "bias":
            making.add(key, Addition(layer, weight, start, stop, to, columns=columns))
        has_bias = layer.kind == "bias" or layer.load_bias is not None
        if has_bias:
            bias = sibling(Place(key, start, stop, to), making.targets.tensors)
            if bias is None:
                lost = "the checkpoint has no bias there"
            else:
                making.add(bias, Addition(layer, weight, start, stop, to, is_bias=layer.kind != "bias"))
    return lost


def _extras(item: WeightedAdapter, making: _Making) -> list[Extra]:
    """Full copies that replace a parameter are filed; what is left has no place in a checkpoint."""
    targets = making.targets
    left = []
    for extra in item.adapter.extras:
        key = _replaced(extra, targets)
        info = item.adapter.source.tensors[extra.key]
        if key is None or item.weight != 1.0 or targets.tensors[key].shape != info.shape:
            left.append(extra)
            continue
        layer = Layer(extra.key, "replacement", {}, info.shape)
        rows = info.shape[0] if info.shape else 1
        value = partial(item.adapter.source.array, extra.key)
        making.add(key, Addition(layer, 1.0, 0, rows, 0, value=value))
    return left


def _replaced(extra: Extra, targets: Targets) -> str | None:
    if extra.category not in ("saved-module", "replacement"):
        return None
    name = extra.key.removeprefix("base_model.model.").removesuffix(".set_weight")
    stem, _, ending = name.rpartition(".")
    held = fused_in(stem, targets.family)
    there = targets.rows.get(held.modules[0]) if held and len(held.modules) == 1 else None
    candidates = [name, f"model.{name}", name.removeprefix("model.")]
    if there is not None and there.key.endswith((".weight", ".scale")):
        candidates.append(there.key if ending in ("weight", "scale") else there.key.removesuffix("weight") + ending)
    return next((key for key in candidates if key in targets.tensors), None)
