"""One layer's numbers: its spectrum for the plan, its new factors for the writer."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, sqrt
from typing import NamedTuple

import numpy as np

from ..adapter import FloatArray, Layer, LowRank, Stacked, Update
from ..errors import LoraAnalysisError, NonFiniteError
from ..formats.encoding import encode
from ..linalg import products, svd
from ..linalg.floats import Float64Array, widen
from .plan import LayerPlan


class Written(NamedTuple):
    """A layer's stored factors and what storing them cost."""

    arrays: dict[str, FloatArray]  # by tensor name
    norm: float  # of the old delta
    error_before_rounding: float
    error: float  # of what is stored, against the old delta


def spectrum(layer: Layer) -> Float64Array:
    """Singular values of a layer's delta, largest first; of all experts together where there are several.

    Raises: NonFiniteError naming the layer, and what reading may raise.
    """
    with_name = _Named(layer)
    with with_name:
        values = [products.singular_values(part) for part in parts_of(layer.update())]
    return values[0] if len(values) == 1 else np.sort(np.concatenate(values))[::-1]


def parts_of(update: Update) -> Sequence[Update]:
    """The matrices of an update: itself, or one per expert."""
    return update.parts if isinstance(update, Stacked) else (update,)


def rewrite(layer: Layer, plan: LayerPlan) -> Written:
    """The tensors that hold the layer after the plan. Raises: NonFiniteError naming the layer."""
    with _Named(layer):
        parts = parts_of(layer.update())
        made = [_NEW_FACTORS[plan.action](part, plan) for part in parts]
        return _store(plan, [factors for factors, _ in made], [loss for _, loss in made])


class _Named:
    """Puts the layer's name before what the linear algebra has to say."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LoraAnalysisError) and self._layer.name not in error.message:
            raise type(error)(f"{self._layer.name}: {error.message}") from error


class _Loss(NamedTuple):
    norm: float
    dropped: float


# -- new factors, in float64 or as stored, with scale 1 unless the plan keeps them as they are -----------------


def _truncated(update: Update, plan: LayerPlan) -> tuple[LowRank, _Loss]:
    rank = plan.new_rank or 1
    made = products.truncate(update, rank)
    factors = made.factors if made.factors.rank == rank else _padded(made.factors, rank)
    return factors, _Loss(float(np.linalg.norm(made.singular_values)), made.error)


def _cut(update: Update, plan: LayerPlan) -> tuple[LowRank, _Loss]:
    """The first components as they stand in the file: cheap, and as good as their order."""
    factors, rank = products.factors(update), plan.new_rank or 1
    rest = LowRank(factors.up[:, rank:], factors.down[rank:], factors.scale)
    dropped = float(np.linalg.norm(svd.singular_values(rest)))
    kept = LowRank(factors.up[:, :rank], factors.down[:rank], factors.scale, factors.kernel)
    return kept, _Loss(float(np.linalg.norm(svd.singular_values(factors))), dropped)


def _unchanged(update: Update, plan: LayerPlan) -> tuple[LowRank, _Loss]:
    factors = products.factors(update)
    rank = max(plan.new_rank or factors.rank, factors.rank)
    return _padded(factors, rank), _Loss(float(np.linalg.norm(svd.singular_values(factors))), 0.0)


def _padded(factors: LowRank, rank: int) -> LowRank:
    """The same delta at a larger stored rank: zero columns of up, zero rows of down."""
    extra = rank - factors.rank
    if extra <= 0:
        return factors
    up, down = np.pad(factors.up, ((0, 0), (0, extra))), np.pad(factors.down, ((0, extra), (0, 0)))
    return LowRank(up, down, factors.scale, factors.kernel)


_NEW_FACTORS = {"truncate": _truncated, "cut": _cut, "pad": _unchanged, "cast": _unchanged}


# -- storing ------------------------------------------------------------------------------------------


def _store(plan: LayerPlan, factors: Sequence[LowRank], losses: Sequence[_Loss]) -> Written:
    """Round to the output's types once, and measure what that adds."""
    assert plan.spelling is not None  # a plan that changes a layer says how to spell it
    names = plan.spelling.names
    dtypes = {tensor.name: tensor.dtype for tensor in plan.tensors}
    scaled = [_with_scale(part, plan.scale) for part in factors]
    down, up = plan.spelling.arrays(scaled)
    arrays = {name: encode(array, dtypes[name], name) for name, array in ((names.down, down), (names.up, up))}
    rounding = [_rounding_error(part, plan, dtypes) for part in scaled]
    dropped = sqrt(sum(loss.dropped**2 for loss in losses))
    # Orthogonal to what was dropped up to second order in the rounding, so the squares add.
    error = sqrt(dropped**2 + sum(value**2 for value in rounding))
    return Written(arrays, sqrt(sum(loss.norm**2 for loss in losses)), dropped, error)


def _with_scale(factors: LowRank, scale: float) -> LowRank:
    """The same delta as ``scale * up @ down``: the rest of the old scale goes evenly into both factors."""
    ratio = factors.scale / scale
    if ratio == 1.0:
        return factors
    root = sqrt(abs(ratio))
    up = widen(factors.up) * copysign(root, ratio)
    return LowRank(up, widen(factors.down) * root, scale, factors.kernel)


def _rounding_error(exact: LowRank, plan: LayerPlan, dtypes: dict[str, str]) -> float:
    """Frobenius norm of ``scale * (up @ down - stored up @ stored down)`` without forming either product.

    With ``u = stored - exact`` for both factors the difference is ``[u_up, up] @ [stored down; u_down]``.
    """
    assert plan.spelling is not None
    names = plan.spelling.names
    up, down = widen(exact.up), widen(exact.down)
    stored_up = widen(encode(exact.up, dtypes[names.up], names.up))
    stored_down = widen(encode(exact.down, dtypes[names.down], names.down))
    if np.array_equal(up, stored_up) and np.array_equal(down, stored_down):
        return 0.0
    left = np.concatenate([stored_up - up, up], axis=1)
    right = np.concatenate([stored_down, stored_down - down])
    square = float(np.sum((left.T @ left) * (right @ right.T)))
    if not np.isfinite(square):
        raise NonFiniteError("the rounded factors overflow")
    return abs(plan.scale) * sqrt(max(square, 0.0))
