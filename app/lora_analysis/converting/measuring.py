"""How far what was written is from the input: the output is opened again, and deltas, biases, DoRA norms compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from math import sqrt
from typing import Any, NamedTuple

import numpy as np

from ..adapter import Adapter, FloatArray, Layer, LowRank, Stacked, Vector
from ..errors import OutputError
from ..formats import open_adapter
from ..formats.architectures import Part, canonical_parts
from ..linalg.dense import materialise, unfold
from ..linalg.floats import Float64Array, widen
from ..linalg.products import frobenius_norm
from ..linalg.streams import map_layers
from .building import low_rank
from .plan import ConvertPlan, LayerPlan

Cancel = Callable[[], bool]


class Vectors(NamedTuple):
    """Biases, or DoRA norms, of the output beside the input's, value by value."""

    compared: int = 0
    max_difference: float = 0.0  # absolute, in weight units
    layer: str | None = None  # of the output, where the largest is

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class Measured(NamedTuple):
    """Differences in the Frobenius norm, in relation to the input's deltas."""

    relative_error: float  # of all layers together: ‖Δ_in − Δ_out‖ / ‖Δ_in‖
    worst: float  # of one layer
    worst_layer: str | None  # of the output
    compared: int  # deltas
    biases: Vectors = Vectors()
    dora_norms: Vectors = Vectors()
    biases_alone: tuple[str, ...] = ()  # layers of the output that are the difference of a bias and nothing else

    def to_dict(self) -> dict[str, Any]:
        return {
            "relative_error": self.relative_error,
            "worst_layer_error": self.worst,
            "worst_layer": self.worst_layer,
            "layers_compared": self.compared,
            "biases": {**self.biases.to_dict(), "alone": list(self.biases_alone)},
            "dora_norms": self.dora_norms.to_dict(),
        }


class _Pair(NamedTuple):
    """The rows of one input layer and of one output layer that are one weight's."""

    old: Layer
    new: Layer
    rows: tuple[tuple[Part, Part], ...]
    is_copy: bool  # every tensor of the layer has the input's bytes, as read back, and the scale is the same
    has_bias: bool  # the plan writes the difference of the bias beside the factors

    @property
    def is_bias(self) -> bool:
        """Whether the input's layer is the difference of a bias alone: no delta of a weight."""
        return self.old.kind == "bias"


def measure(
    plan: ConvertPlan, weights: str | os.PathLike[str], *, workers: int | None = None, cancel: Cancel | None = None
) -> Measured:
    """Compare every delta, bias and DoRA norm of the output with the input's.

    Raises: OutputError where a layer, or what belongs to it, cannot be found again.
    """
    path = os.path.dirname(weights) if plan.config is not None else weights
    with open_adapter(path, lenient_metadata=True) as output:
        pairs = list(_pairs(plan, output))
        deltas = [pair for pair in pairs if not pair.is_bias]
        results = list(map_layers(_difference, deltas, workers=workers, cancel=cancel))
        biases, norms_of_dora = (
            _largest(pairs, list(map_layers(measured, pairs, workers=workers, cancel=cancel)))
            for measured in (_bias_difference, _magnitude_difference)
        )
    squares, norms, worst, name = 0.0, 0.0, 0.0, None
    for pair, (error, norm) in zip(deltas, results, strict=True):
        squares, norms = squares + error**2, norms + norm**2
        relative = error / norm if norm else (0.0 if not error else float("inf"))
        if relative > worst:
            worst, name = relative, pair.new.name
    total = sqrt(squares / norms) if norms else 0.0
    alone = tuple(dict.fromkeys(pair.new.name for pair in pairs if pair.is_bias))
    return Measured(total, worst, name, len(deltas), biases, norms_of_dora, alone)


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
                yield _Pair(old, new, rows, _is_copy(plan, layer, output, old, new), _writes_bias(layer))


def _writes_bias(layer: LayerPlan) -> bool:
    kept = {source.layer.keys.get(role) for source in layer.sources for role in ("up_bias", "bias", "norm_bias")}
    return layer.kind != "bias" and any(
        one.role == "bias" or (one.raw is not None and one.raw in kept) for one in layer.tensors
    )


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
        return 0.0, frobenius_norm(old)
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


# -- what belongs to a layer beside its delta --------------------------------------------------------------


def _largest(pairs: Sequence[_Pair], differences: Sequence[float | None]) -> Vectors:
    """``differences``: of every pair; None where there is nothing to compare."""
    found = [(value, pair.new.name) for pair, value in zip(pairs, differences, strict=True) if value is not None]
    worst, name = max(found, key=lambda one: one[0], default=(0.0, None))
    return Vectors(len(found), worst, name if worst else None)


def _bias_difference(pair: _Pair) -> float | None:
    """Of the differences of the biases, with their scales; a layer that is joined and has none stands for zeros."""
    if not pair.has_bias and not pair.is_bias:
        return None  # what the target has no name for is among the plan's missing
    old, new = _bias_of(pair.old), _bias_of(pair.new)
    if new is None:
        raise OutputError(f"{pair.new.name}: the bias was written and cannot be read back")
    written = widen(new.values) * new.scale
    wanted = widen(old.values) * old.scale if old is not None else None
    return max(
        _furthest(written[b.start : b.stop], wanted[a.start : a.stop] if wanted is not None else None)
        for a, b in pair.rows
    )


def _bias_of(layer: Layer) -> Vector | None:
    if layer.kind != "bias":
        return layer.bias()
    update = layer.update()
    assert isinstance(update, Vector)  # the kind's only form
    return update


def _magnitude_difference(pair: _Pair) -> float | None:
    old, new = pair.old.magnitude(), pair.new.magnitude()
    if old is None and new is None:
        return None
    if old is None or new is None or old.axis != new.axis:
        raise OutputError(f"{pair.new.name}: the DoRA norms were written and cannot be read back")
    if old.axis == "in":
        return _furthest(widen(new.values), widen(old.values))
    return max(
        _furthest(widen(new.values[b.start : b.stop]), widen(old.values[a.start : a.stop])) for a, b in pair.rows
    )


def _furthest(new: Float64Array, old: Float64Array | None) -> float:
    """Largest absolute difference: none where values are equal or both NaN, infinite where one of them is."""
    old = np.zeros_like(new) if old is None else old
    with np.errstate(invalid="ignore"):
        differences = np.where((new == old) | (np.isnan(new) & np.isnan(old)), 0.0, np.abs(new - old))
    return float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max(initial=0.0))
