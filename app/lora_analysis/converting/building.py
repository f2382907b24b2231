"""The factors of one output layer, from those of the layers that make it up."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, prod, sqrt
from typing import NamedTuple

import numpy as np

from ..adapter import Dense, FloatArray, Hadamard, Kronecker, Layer, LowRank
from ..errors import LoraAnalysisError
from ..formats.encoding import encode
from ..formats.layout import TensorPlan
from ..linalg import products, svd
from ..linalg.floats import widen
from .plan import LayerPlan, Move, Source


class Built(NamedTuple):
    """Stored tensors of a layer, by role."""

    arrays: dict[str, FloatArray]


def built(plan: LayerPlan) -> Built:
    """The tensors of a layer that are calculated. Raises: NonFiniteError and others, naming the layer."""
    try:
        return _built(plan)
    except LoraAnalysisError as error:
        if plan.name in error.message:
            raise
        raise type(error)(f"{plan.name}: {error.message}") from error


def _built(plan: LayerPlan) -> Built:
    wanted: dict[str, TensorPlan] = {one.role: one.tensor for one in plan.tensors if one.role}
    arrays: dict[str, FloatArray] = {}
    if "up" in wanted:
        factors = _stored_scale(_ranked(_assembled(plan), plan), plan.scale)
        arrays["up"], arrays["down"] = factors.up, factors.down
    if "magnitude" in wanted:
        norms = [_magnitude(source.layer) for source in plan.sources]
        by_column = plan.sources[0].layer.magnitude_axis == "in"  # which no move of rows concerns
        arrays["magnitude"] = norms[0] if by_column else _placed_vectors(plan, norms)
    if "bias" in wanted:
        arrays["bias"] = _placed_vectors(plan, [_bias(source.layer) for source in plan.sources])
    return Built(
        {
            role: _encoded(array, wanted[role].dtype, wanted[role].name).reshape(wanted[role].shape)
            for role, array in arrays.items()
        }
    )


def _encoded(array: FloatArray, dtype: str, name: str) -> FloatArray:
    from ..formats.dtypes import array_type

    # Values that only moved keep their bits, NaN included.
    return np.ascontiguousarray(array) if array.dtype == array_type(dtype) else encode(widen(array), dtype, name)


# -- factors -----------------------------------------------------------------------------------------


def low_rank(layer: Layer, rank: int | None = None) -> LowRank:
    """A layer's delta as one factored matrix: as stored where it is LoRA, else exact or truncated to ``rank``."""
    update = layer.update()
    if isinstance(update, LowRank) and update.core is None and layer.kind == "lora":
        return update
    if rank is not None:
        return products.truncate(update, rank).factors
    return products.factors(update)


def exact_rank(layer: Layer) -> int:
    """The rank of the factors that ``products.factors`` makes of a layer, told by its shapes.

    Reads the layer where they do not tell (LoHa and LoKr): arrays of factors, never of the delta.
    """
    shape = layer.shape or ()
    limit = min(shape[0], prod(shape[1:])) if len(shape) > 1 else 0
    if layer.kind in ("lora", "adalora"):
        return layer.rank or 0
    if layer.kind == "full":
        return limit
    match layer.update():
        case Hadamard(first, second):
            return min(_side(first) * _side(second), limit)
        case Kronecker(first, second):
            return _side(first) * _side(second)
    return limit


def _side(update: LowRank | Dense) -> int:
    if isinstance(update, LowRank):
        return update.rank
    return min(update.shape[0], prod(update.shape[1:]))


def _assembled(plan: LayerPlan) -> LowRank:
    """The output's delta: rows moved, columns cut, factors of several layers stacked. Exact."""
    parts = [_part(source, plan) for source in plan.sources]
    first = parts[0]
    if plan.action == "share":
        up = parts[0].up.copy()
        for other in parts[1:]:
            up[:] = np.where(other.up != 0, other.up, up)  # rows of the parts do not meet
        return LowRank(up, first.down, first.scale, first.kernel)
    if len(parts) == 1:
        return first
    parts = [_scaled(part, first.scale) for part in parts]
    types = {part.up.dtype for part in parts} | {part.down.dtype for part in parts}
    if len(types) > 1:
        parts = [LowRank(widen(part.up), widen(part.down), part.scale, part.kernel) for part in parts]
    up = np.concatenate([part.up for part in parts], axis=1)
    return LowRank(up, np.concatenate([part.down for part in parts]), first.scale, first.kernel)


def _part(source: Source, plan: LayerPlan) -> LowRank:
    factors = low_rank(source.layer, plan.truncate)
    up, down = factors.up, factors.down
    if source.columns is not None:
        columns = list(source.columns)
        up, down = up[:, columns], down[columns]
    kernel = plan.kernel if plan.kernel is not None else factors.kernel
    return LowRank(_placed(up, source.moves, plan.rows), down, factors.scale, kernel)


def _placed(values: FloatArray, moves: Sequence[Move], rows: int) -> FloatArray:
    """Rows at their places in the output, in the stored type; the others are zero."""
    if len(moves) == 1 and (moves[0].start, moves[0].to, moves[0].stop) == (0, 0, rows) and len(values) == rows:
        return values
    placed = np.zeros((rows, *values.shape[1:]), values.dtype)
    for start, stop, to in moves:
        placed[to : to + stop - start] = values[start:stop]
    return placed


def _scaled(factors: LowRank, scale: float) -> LowRank:
    """The same delta with another scale; what is left of the old one goes into ``up``."""
    if factors.scale == scale or not scale:
        return factors
    return LowRank(widen(factors.up) * (factors.scale / scale), factors.down, scale, factors.kernel)


def _ranked(factors: LowRank, plan: LayerPlan) -> LowRank:
    """At the plan's rank: truncated, or padded with zeros."""
    rank = plan.rank or factors.rank
    if rank < factors.rank:
        factors = svd.truncate(factors, rank).factors
    extra = rank - factors.rank
    if extra <= 0:
        return factors
    up, down = np.pad(factors.up, ((0, 0), (0, extra))), np.pad(factors.down, ((0, extra), (0, 0)))
    return LowRank(up, down, factors.scale, factors.kernel)


def _stored_scale(factors: LowRank, scale: float) -> LowRank:
    """The same delta as ``scale * up @ down``; a power of two changes no bit, other ratios go evenly into both."""
    ratio = factors.scale / scale if scale else 1.0
    if ratio == 1.0:
        return factors
    if ratio > 0 and np.log2(ratio) == int(np.log2(ratio)) and 2**-8 <= ratio <= 2**8:
        return LowRank(widen(factors.up) * ratio, factors.down, scale, factors.kernel)
    root = sqrt(abs(ratio))
    return LowRank(
        widen(factors.up) * copysign(root, ratio), widen(factors.down) * root, scale, factors.kernel
    )  # fmt: skip


# -- vectors -----------------------------------------------------------------------------------------


def _magnitude(layer: Layer) -> FloatArray:
    found = layer.magnitude()
    assert found is not None  # planned because it is there
    return found.values


def _bias(layer: Layer) -> FloatArray | None:
    found = layer.bias()
    if found is None:
        return None
    return found.values if found.scale == 1.0 else widen(found.values) * found.scale


def _placed_vectors(plan: LayerPlan, vectors: Sequence[FloatArray | None]) -> FloatArray:
    """One value per row of the output; rows without any are zero."""
    known = [vector for vector in vectors if vector is not None]
    dtype = known[0].dtype if len({vector.dtype for vector in known}) == 1 else np.dtype(np.float64)
    placed: FloatArray = np.zeros(plan.rows, dtype)
    for source, vector in zip(plan.sources, vectors, strict=True):
        if vector is not None:
            for start, stop, to in source.moves:
                placed[to : to + stop - start] = vector[start:stop]
    return placed
