"""Inner products ``⟨Δ₁, Δ₂⟩ = Σ Δ₁ ∘ Δ₂`` of updates of any two kinds, without forming a delta that has a smaller form.

::

    factors      ⟨up₁ down₁, up₂ down₂⟩ = Σ (up₁ᵀ up₂) ∘ (down₁ down₂ᵀ)          (out + in) r₁ r₂ products
    Kronecker    ⟨P ⊗ Q, R ⊗ S⟩ = ⟨P, R⟩ ⟨Q, S⟩                                   where the sides have equal shapes
    with factors ⟨P ⊗ Q, up down⟩ = Σᵣ ⟨Pᵀ upᵣ, downᵣ Qᵀ⟩                    upᵣ and downᵣ folded to P's and Q's sizes

The trace of the first line is P3 of every factored merge; it does not change with the way the factors are written.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

import numpy as np

from ..adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Update, Vector
from ..errors import NonFiniteError, OpaqueUpdateError, ShapeError
from .dense import materialise, unfold
from .floats import Float64Array, widen
from .products import factors

Plain: TypeAlias = LowRank | Dense | Kronecker  # a LowRank without a core


def inner_product(first: Update, second: Update) -> float:
    """``⟨Δ₁, Δ₂⟩`` of the unfolded deltas, scales included, in float64.

    Raises: ShapeError where the deltas differ in shape (a kernel and the same columns flattened count as equal);
    NonFiniteError where the result is no number; OpaqueUpdateError where one of them is no delta.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        value = _inner(first, second)
    if not np.isfinite(value):
        raise NonFiniteError("the inner product of the deltas is NaN or beyond float64")
    return value


def plain(update: Update) -> Plain:
    """One matrix in its smallest exact form. Raises: ShapeError for vectors and stacks; OpaqueUpdateError."""
    match update:
        case LowRank():
            return update if update.core is None else LowRank(update.up, unfold(update), update.scale, update.kernel)
        case Dense() | Kronecker():
            return update
        case Hadamard():
            return _plain_hadamard(update)
        case Stacked():
            raise ShapeError(f"{len(update.parts)} experts are {len(update.parts)} matrices; compare each part")
        case Vector():
            raise ShapeError(f"a vector of shape {update.shape} is no matrix")
        case Opaque():
            raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
        case _:
            assert_never(update)


def matrix_shape(update: Update) -> tuple[int, int]:
    """``(out, in * k)`` of the unfolded delta, from shapes alone."""
    if isinstance(update, Opaque):
        raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
    out, *columns = update.shape
    return out, int(np.prod(columns, dtype=np.int64))


def _plain_hadamard(update: Hadamard) -> LowRank | Dense:
    out, columns = matrix_shape(update)
    if update.first.rank * update.second.rank >= min(out, columns):
        return Dense(materialise(update))
    return factors(update)


def _inner(first: Update, second: Update) -> float:
    if isinstance(first, Stacked) or isinstance(second, Stacked):
        return _inner_of_experts(first, second)
    if matrix_shape(first) != matrix_shape(second):
        raise ShapeError(f"deltas of shapes {matrix_shape(first)} and {matrix_shape(second)} have no inner product")
    if isinstance(first, Vector) or isinstance(second, Vector):
        return float(np.vdot(materialise(first), materialise(second)))
    return _of_plain(plain(first), plain(second))


def _inner_of_experts(first: Update, second: Update) -> float:
    if not (isinstance(first, Stacked) and isinstance(second, Stacked)) or len(first.parts) != len(second.parts):
        raise ShapeError("experts are compared with as many experts")
    return sum(_inner(a, b) for a, b in zip(first.parts, second.parts, strict=True))


def _of_plain(first: Plain, second: Plain) -> float:
    scale = first.scale * second.scale
    if isinstance(first, Kronecker):
        if isinstance(second, Kronecker):
            return scale * _of_kroneckers(first, second)
        return scale * _of_kronecker(first, second)
    if isinstance(second, Kronecker):
        return scale * _of_kronecker(second, first)
    if isinstance(first, LowRank):
        return scale * (_of_factors(first, second) if isinstance(second, LowRank) else _of_dense(second, first))
    if isinstance(second, LowRank):
        return scale * _of_dense(first, second)
    return scale * float(np.vdot(widen(first.values), widen(second.values)))


def _of_factors(first: LowRank, second: LowRank) -> float:
    ups = widen(first.up).T @ widen(second.up)
    downs = widen(first.down) @ widen(second.down).T
    return float(np.vdot(ups, downs))


def _of_dense(whole: Dense, factored: LowRank) -> float:
    matrix = widen(whole.values).reshape(whole.values.shape[0], -1)
    return float(np.vdot(widen(factored.up).T @ matrix, widen(factored.down)))


# -- LoKr --------------------------------------------------------------------------------------------


def _of_kroneckers(first: Kronecker, second: Kronecker) -> float:
    if first.first.shape == second.first.shape:
        return _inner(first.first, second.first) * _inner(first.second, second.second)
    # Factored at other sizes, 8 x 160 against 16 x 80: one of them as it is.
    return _of_kronecker(first, Dense(materialise(replace(second, scale=1.0))))


def _of_kronecker(update: Kronecker, other: LowRank | Dense) -> float:
    first, second = _side(update.first), _side(update.second)
    (out1, in1), (out2, in2) = first.shape, second.shape
    if isinstance(other, Dense):
        blocks = widen(other.values).reshape(out1, out2, in1, in2)
        return float(np.vdot(np.tensordot(first, blocks, axes=((0, 1), (0, 2))), second))
    rank = other.rank
    ups = widen(other.up).reshape(out1, out2, rank)
    downs = widen(other.down).reshape(rank, in1, in2)
    left = np.tensordot(first, ups, axes=(0, 0))  # (in1, out2, rank)
    right = np.tensordot(downs, second, axes=(2, 1))  # (rank, in1, out2)
    return float(np.vdot(left, right.transpose(1, 2, 0)))


def _side(update: LowRank | Dense) -> Float64Array:
    """One Kronecker factor as a matrix; a kernel belongs to its columns."""
    made = materialise(update)
    return made.reshape(made.shape[0], -1)
