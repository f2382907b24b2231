"""Which rows of which base weight each layer of an adapter changes, by the module table of the base model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from ..adapter import Layer, TensorInfo
from ..formats.architectures import fused_in
from ..formats.base_weights import match_by_name, rows_by_module

_MODEL = ("model.", "language_model.", "model.language_model.")


class Place(NamedTuple):
    """Rows of a layer's delta, and the rows of a base tensor that they are added to."""

    key: str
    start: int  # of the layer
    stop: int
    to: int  # of the tensor


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """A checkpoint's weights by the canonical modules they hold."""

    tensors: Mapping[str, TensorInfo]
    family: str
    rows: Mapping[str, Place]  # canonical module -> where its rows are: (key, 0, count, first row)

    def places(self, layer: Layer) -> list[Place] | None:
        """Where all rows of a layer go, in order; None where the checkpoint does not hold all of them."""
        name = f"{layer.name}.modulation" if layer.kind == "modulation" else layer.name
        held = fused_in(name, self.family)
        if held is None or layer.shape is None:
            return None
        found, start = [], 0
        rows = layer.shape[1 if layer.experts else 0] if layer.shape else 1
        unit, rest = divmod(rows, sum(held.shares))
        if rest:
            return None
        for module, share in zip(held.modules, held.shares, strict=True):
            there = self._row(module)
            if there is None or (there.stop != share * unit and not self._is_transposed(layer, there)):
                return None
            found.append(Place(there.key, start, start + share * unit, there.to))
            start += share * unit
        return _merged(found)

    def _row(self, module: str) -> Place | None:
        """A language model's names start with ``model.`` in some of its classes and not in others."""
        for prefix in ("", *_MODEL):
            if prefix + module in self.rows:
                return self.rows[prefix + module]
            if prefix and module.startswith(prefix) and module.removeprefix(prefix) in self.rows:
                return self.rows[module.removeprefix(prefix)]
        return None

    def _is_transposed(self, layer: Layer, place: Place) -> bool:
        return layer.base_transposed and self.tensors[place.key].shape == (layer.shape or ())[::-1]


def targets_of(tensors: Mapping[str, TensorInfo], family: str) -> Targets:
    """Index a checkpoint's weights. Biases are found beside their weights, by :func:`sibling`."""
    held = rows_by_module(tensors, family)
    rows = {module: Place(key, 0, stop - start, start) for module, (key, start, stop) in held.items()}
    return Targets(tensors, family, rows)


def sibling(place: Place, tensors: Mapping[str, TensorInfo]) -> str | None:
    """The bias that belongs to a weight."""
    key = place.key.removesuffix("weight") + "bias"
    return key if key in tensors else None


def places_by_spelling(layers: Iterable[Layer], tensors: Mapping[str, TensorInfo]) -> dict[str, list[Place]]:
    """Layers that no table knows, by one spelling of both names: their weight has to have the delta's size."""
    by_name = {layer.name: layer for layer in layers}
    places = {}
    for name, ((key, start, _),) in match_by_name(by_name, tensors).items():
        shape = by_name[name].shape or ()  # not the rows that were found: a transposed weight has other ones
        places[name] = [Place(key, 0, shape[0] if shape else 0, start)]
    return places


def fits(layer: Layer, place: Place, tensors: Mapping[str, TensorInfo]) -> str | None:
    """Why the rows of a layer cannot be added to a tensor, or None."""
    shape, base = layer.shape or (), tensors[place.key].shape
    if layer.experts:
        return None if base == shape else f"the base is {list(base)}, the experts' delta {list(shape)}"
    if layer.base_transposed:
        return None if base == shape[::-1] else f"the base is {list(base)}, transposed it should be {list(shape[::-1])}"
    if layer.reshape is not None:
        padded = len(base) == len(layer.reshape) and all(a <= b for a, b in zip(base, layer.reshape, strict=True))
        return None if padded else f"the base is {list(base)} and cannot be padded to {list(layer.reshape)}"
    if prod(base[1:]) != prod(shape[1:]):
        return f"the base is {list(base)}, the delta {list(shape)}"
    return None


def _merged(places: list[Place]) -> list[Place]:
    """Neighbouring rows of one tensor as one."""
    made: list[Place] = []
    for place in places:
        last = made[-1] if made else None
        if last and last.key == place.key and last.stop == place.start and last.to + last.stop - last.start == place.to:
            made[-1] = last._replace(stop=place.stop)
        else:
            made.append(place)
    return made
