"""How far the written deltas are from the input's: the output is opened again, and every layer compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from ..adapter import Adapter, FloatArray, Kronecker, Layer, LowRank, Stacked, Update, Vector
from ..errors import OutputError
from ..formats import open_adapter
from ..formats.architectures import Part, canonical_parts
from ..linalg import svd
from ..linalg.dense import materialise, unfold
from ..linalg.floats import Float64Array, widen
from ..linalg.streams import map_layers
from ..resizing.calculation import parts_of
from .building import low_rank
from .plan import ConvertPlan, LayerPlan

Cancel = Callable[[], bool]


class Measured(NamedTuple):
    """Differences in the Frobenius norm, in relation to the input's deltas."""

    relative_error: float  # of all layers together: ‖Δ_in − Δ_out‖ / ‖Δ_in‖
    worst: float  # of one layer
    worst_layer: str | None  # of the output
    compared: int  # deltas

    def to_dict(self) -> dict[str, Any]:
        return {
            "relative_error": self.relative_error,
            "worst_layer_error": self.worst,
            "worst_layer": self.worst_layer,
            "layers_compared": self.compared,
        }


class _Pair(NamedTuple):
    """The rows of one input layer and of one output layer that are one weight's."""

    old: Layer
    new: Layer
    rows: tuple[tuple[Part, Part], ...]
    is_copy: bool  # every tensor of the layer has the input's bytes, as read back, and the scale is the same


def measure(
    plan: ConvertPlan, weights: str | os.PathLike[str], *, workers: int | None = None, cancel: Cancel | None = None
) -> Measured:
    """Compare every delta of the output with the input's. Raises: OutputError where a layer cannot be found again."""
    path = os.path.dirname(weights) if plan.config is not None else weights
    with open_adapter(path, lenient_metadata=True) as output:
        pairs = list(_pairs(plan, output))
        results = list(map_layers(_difference, pairs, workers=workers, cancel=cancel))
    squares, norms, worst, name = 0.0, 0.0, 0.0, None
    for pair, (error, norm) in zip(pairs, results, strict=True):
        squares, norms = squares + error**2, norms + norm**2
        relative = error / norm if norm else (0.0 if not error else float("inf"))
        if relative > worst:
            worst, name = relative, pair.new.name
    total = sqrt(squares / norms) if norms else 0.0
    return Measured(total, worst, name, len(pairs))


def _pairs(plan: ConvertPlan, output: Adapter) -> Iterator[_Pair]:
    """Raises: OutputError where the output as read lacks a layer of the plan."""
    for layer in plan.layers.values():
        new = output.layers.get(layer.name)
        if new is None:
            raise OutputError(f"{layer.name}: the layer was written and cannot be read back")
        there = {part.module: part for part in canonical_parts(new, plan.family) or ()}
        for source in layer.sources:
            old = source.layer
            if old.opaque is not None:
                continue  # its bytes were copied: there is no delta without the base
            parts = canonical_parts(old, plan.family) or ()
            rows = tuple((part, there[part.module]) for part in parts if part.module in there)
            if rows:
                yield _Pair(old, new, rows, _is_copy(plan, layer, output, old, new))


def _is_copy(plan: ConvertPlan, layer: LayerPlan, output: Adapter, old: Layer, new: Layer) -> bool:
    if (old.kind, old.scale, layer.action) != (new.kind, new.scale, "rename"):
        return False
    return all(
        output.source.raw(one.tensor.name) == plan.adapter.source.raw(one.raw)
        for one in layer.tensors
        if one.raw is not None
    ) and not any(one.role in ("down", "up") for one in layer.tensors)


def _difference(pair: _Pair) -> tuple[float, float]:
    """``(‖Δ_in − Δ_out‖, ‖Δ_in‖)`` over the rows that both have."""
    old = pair.old.update()
    if pair.is_copy:
        return 0.0, sqrt(sum(_norm_of(part) ** 2 for part in parts_of(old)))
    new = pair.new.update()
    if isinstance(old, Stacked) and isinstance(new, Stacked):
        found = [_of_factors(a, b, _all(a)) for a, b in zip(old.parts, new.parts, strict=True)]
        return sqrt(sum(e**2 for e, _ in found)), sqrt(sum(n**2 for _, n in found))
    if isinstance(old, Vector) and isinstance(new, Vector):
        return _of_arrays(widen(old.values) * old.scale, widen(new.values) * new.scale)
    rows = [(slice(a.start, a.stop), slice(b.start, b.stop)) for a, b in pair.rows]
    if isinstance(new, LowRank) and new.core is None:
        factors = low_rank(pair.old)
        if factors.rank + new.rank < min(factors.up.shape[0], factors.down.shape[1]):
            return _of_factors(factors, new, rows)
    return _of_deltas(pair, rows)


def _norm_of(update: Update) -> float:
    """Frobenius norm of a delta, without forming it where its kind allows."""
    match update:
        case Kronecker(first, second):
            return abs(update.scale) * _norm_of(first) * _norm_of(second)
        case LowRank(core=None):
            return svd.frobenius_norm(update)
    return float(np.linalg.norm(materialise(update)))


def _all(part: LowRank) -> list[tuple[slice, slice]]:
    return [(slice(0, part.up.shape[0]), slice(0, part.up.shape[0]))]


def _of_factors(old: LowRank, new: LowRank, rows: list[tuple[slice, slice]]) -> tuple[float, float]:
    """Without forming either: ``‖[u, -u'] [d; d']‖`` from the triangular factors of both sides, which cancel safely."""
    old_up = np.concatenate([widen(old.up[a]) for a, _ in rows])
    new_up = np.concatenate([widen(new.up[b]) for _, b in rows])
    norm = _norm(old_up * old.scale, widen(old.down))
    if _are_alike(old, new, old_up, new_up):
        return 0.0, norm
    left = np.concatenate([old_up * old.scale, -new_up * new.scale], axis=1)
    return _norm(left, np.concatenate([widen(old.down), widen(new.down)])), norm


def _are_alike(old: LowRank, new: LowRank, old_up: Float64Array, new_up: Float64Array) -> bool:
    """Whether the columns that act are the same, bit for bit."""
    if old.scale != new.scale:
        return False
    a, b = (up != 0 for up in (old_up, new_up))
    old_used, new_used = a.any(axis=0), b.any(axis=0)
    return np.array_equal(old_up[:, old_used], new_up[:, new_used]) and np.array_equal(
        widen(old.down[old_used]), widen(new.down[new_used])
    )


def _norm(up: Float64Array, down: Float64Array) -> float:
    if up.shape[1] == 0:
        return 0.0
    first, second = (np.asarray(np.linalg.qr(side, mode="r")) for side in (up, down.T))
    return float(np.linalg.norm(first @ second.T))


def _of_deltas(pair: _Pair, rows: list[tuple[slice, slice]]) -> tuple[float, float]:
    old, new = (_matrix(layer) for layer in (pair.old, pair.new))
    errors, norms = zip(*(_of_arrays(old[a], new[b].reshape(old[a].shape)) for a, b in rows), strict=True)
    return sqrt(sum(error**2 for error in errors)), sqrt(sum(norm**2 for norm in norms))


def _matrix(layer: Layer) -> Float64Array:
    update = layer.update()
    if isinstance(update, LowRank) and update.core is not None:
        return widen(update.up) @ unfold(update) * update.scale
    dense = materialise(update)
    return dense.reshape(dense.shape[0], -1)


def _of_arrays(old: FloatArray, new: FloatArray) -> tuple[float, float]:
    return float(np.linalg.norm(old - new)), float(np.linalg.norm(old))
