"""Which rows of a checkpoint's weights an adapter's layer was made for, across the names of both.

The module table of the base model comes first: an adapter in diffusers' names finds its weights in an original
checkpoint, ``to_q``, ``to_k`` and ``to_v`` as thirds of its ``qkv``, and a fused layer finds the three weights of a
diffusers component. Where the table knows one of the names only, layers find weights of their own name: see
``base_weights``.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import NamedTuple

from ..adapter import Layer, TensorInfo
from .architectures import canonical_parts, fused_in
from .base_weights import match_base_weights

_ENDING = ".weight"


class Rows(NamedTuple):
    """Rows ``[start, stop)`` of a checkpoint's tensor."""

    key: str
    start: int
    stop: int


def match_base_rows(
    layers: Mapping[str, Layer], tensors: Mapping[str, TensorInfo], family: str
) -> dict[str, tuple[Rows, ...]]:
    """Layer name -> the rows of its base weight from the first to the last, for every layer that finds them all.

    Together they have as many values as the layer's delta.
    """
    modules = _rows_by_module(tensors, family)
    by_name = match_base_weights(layers, tensors)
    found: dict[str, tuple[Rows, ...]] = {}
    for name, layer in layers.items():
        parts = canonical_parts(layer, family) or ()
        rows = tuple(modules[part.module] for part in parts if part.module in modules)
        if rows and len(rows) == len(parts) and _values(rows, tensors) == prod(layer.shape or (0,)):
            found[name] = rows
        elif name in by_name:
            weight = by_name[name]
            height = tensors[weight.key].shape[0] // weight.parts
            found[name] = (Rows(weight.key, weight.part * height, (weight.part + 1) * height),)
    return found


def _rows_by_module(tensors: Mapping[str, TensorInfo], family: str) -> dict[str, Rows]:
    """Canonical module -> the rows that hold it; the first where a checkpoint stores a module twice."""
    found: dict[str, Rows] = {}
    for key, info in tensors.items():
        held = fused_in(key.removesuffix(_ENDING), family) if key.endswith(_ENDING) and info.shape else None
        if held is None:
            continue
        unit, rest = divmod(info.shape[0], sum(held.shares))
        if rest:
            continue
        start = 0
        for module, share in zip(held.modules, held.shares, strict=True):
            found.setdefault(module, Rows(key, start, start + share * unit))
            start += share * unit
    return found


def _values(rows: tuple[Rows, ...], tensors: Mapping[str, TensorInfo]) -> int:
    return sum((part.stop - part.start) * prod(tensors[part.key].shape[1:]) for part in rows)
