"""Singular values and vectors of one layer's delta: of a factored product without forming it, or of a matrix.

Two routes, one contract: every singular value of at least ``1e-6 σ₁`` is within ``1e-5`` of its true value.
``gram.py`` is several times faster and says itself when it cannot hold that; then QR of both factors and the SVD of
the small core take over, which lose nothing to squaring (T. F. Chan, ACM TOMS 8 (1982) 72-83). The choice depends on
the values alone, so the same input gives the same bits.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ..adapter import Dense, LowRank
from ..errors import OptionError, ShapeError
from .dense import unfold
from .finite import finite, magnitude, require_finite
from .floats import Float64Array, widen
from .gram import gram_basis, leading_vectors, squared_norm, squared_norm_of, squared_singular_values

if TYPE_CHECKING:
    from ..adapter import FloatArray
    from .gram import FactorGrams

Matrix: TypeAlias = LowRank | Dense  # an update that is one matrix (out, in * k), kernel positions varying fastest
_Vectors: TypeAlias = tuple[Float64Array, Float64Array, Float64Array]  # u, s, vt


class ThinSVD(NamedTuple):
    """``delta = u * s @ vt`` as a matrix ``(out, in * k)``. float64."""

    u: Float64Array  # (out, n) orthonormal columns
    s: Float64Array  # (n,) largest first, scale included
    vt: Float64Array  # (n, in * k) orthonormal rows


class Truncation(NamedTuple):
    """The closest update of a smaller rank, and how far away it is."""

    factors: LowRank  # float64, scale 1, the root of each singular value on either side
    singular_values: Float64Array  # of the whole delta, largest first; those dropped may be good for their norm only
    error: float  # Frobenius norm of what was dropped, before the factors are rounded to a stored dtype


def singular_values(update: Matrix) -> Float64Array:
    """Singular values of the delta, largest first, without forming the delta.

    Returns: shape (min(out, rank, in * k),), float64, in weight units, scale included.
    Raises: NonFiniteError where the values or the scale hold NaN or infinity, or their product overflows float64;
    ShapeError where a factor is empty or the delta has one dimension.
    """
    up, down = _forms(update)
    squares = squared_singular_values(up, down)
    values = _householder_values(up, down) if squares is None else np.sqrt(squares[::-1])
    return finite(np.multiply, values, magnitude(update.scale))


def frobenius_norm(update: Matrix, grams: FactorGrams | None = None) -> float:
    """Frobenius norm of the delta, scale included, for a fraction of what its singular values cost.

    ``grams``: of its factors, where they are known. Raises: as ``singular_values``.
    """
    up, down = _forms(update)
    square = squared_norm(up, down) if grams is None else squared_norm_of(grams.up, grams.down)
    if square is None and down is None:
        return magnitude(update.scale) * _norm_of_extreme(up)
    if square is None:
        return float(np.linalg.norm(singular_values(update)))
    return magnitude(update.scale) * sqrt(square)


def _norm_of_extreme(values: FloatArray) -> float:
    """Of a matrix that is zero, or whose squares leave float64's range."""
    _require_finite(values, None)
    largest = float(np.abs(values).max())
    return largest * float(np.linalg.norm(widen(values) / largest)) if largest else 0.0


def thin_svd(update: Matrix) -> ThinSVD:
    """Thin SVD of the delta with as many values as ``singular_values``; a negative scale goes into ``u``.

    Raises: as ``singular_values``.
    """
    up, down = _forms(update)
    return _scaled(_leading(up, down, min(up.shape)), update.scale)


def truncate(update: Matrix, rank: int) -> Truncation:
    """The best approximation of the delta of at most ``rank``, in the Frobenius and the spectral norm.

    Source: C. Eckart, G. Young, Psychometrika 1 (1936) 211-218. A rank above the number of singular values
    keeps them all. The kernel is kept; a Tucker core is multiplied in.
    Raises: OptionError for a rank below 1; otherwise as ``singular_values``.
    """
    require_rank(rank)
    up, down = _forms(update)
    kept = _leading(up, down, min(rank, *up.shape))
    return balanced(_scaled(kept, update.scale), tuple(update.shape[2:]))


def require_rank(rank: int) -> None:
    """Raises: OptionError for a rank below 1."""
    if rank < 1:
        raise OptionError(f"rank {rank} was asked for; the smallest rank is 1")


def balanced(svd: ThinSVD, kernel: tuple[int, ...]) -> Truncation:
    """The update kept by the columns of ``u``; ``s`` may go on beyond them and counts as dropped there.

    The root of each singular value goes on either side: with all of it on one, the small ones fall into
    fp16's subnormal numbers when the factors are stored.
    """
    kept = svd.u.shape[1]
    roots = np.sqrt(svd.s[:kept])
    factors = LowRank(svd.u * roots, roots[:, None] * svd.vt, 1.0, kernel)
    return Truncation(factors, svd.s, float(np.linalg.norm(svd.s[kept:])))


def _scaled(vectors: _Vectors, scale: float) -> ThinSVD:
    u, s, vt = vectors
    return ThinSVD(-u if scale < 0 else u, finite(np.multiply, s, magnitude(scale)), vt)


# -- input -------------------------------------------------------------------------------------------


def _forms(update: Matrix) -> tuple[FloatArray, FloatArray | None]:
    """``up`` and ``down``, unscaled, in their stored dtypes; or the whole matrix and None.

    A product whose rank reaches one of its sides is no larger than its factors, so it is multiplied out.
    """
    if isinstance(update, Dense):
        return as_matrix(update.values), None
    up, down = update.up, update.down if update.core is None else unfold(update)
    if 0 in up.shape or 0 in down.shape:
        raise ShapeError(f"an empty factor: up is {up.shape}, down is {down.shape}")
    if up.shape[1] < min(up.shape[0], down.shape[1]):
        return up, down
    _require_finite(up, down)
    return finite(np.matmul, widen(up), widen(down)), None


def as_matrix(values: FloatArray) -> FloatArray:
    """A stored delta as ``(out, in * k)``. Raises: ShapeError where it has one dimension or no values."""
    if values.ndim < 2 or values.size == 0:
        raise ShapeError(f"a delta of shape {values.shape} is no matrix and has no singular values")
    return values.reshape(values.shape[0], -1)


# -- routes ------------------------------------------------------------------------------------------


def _leading(up: FloatArray, down: FloatArray | None, kept: int) -> _Vectors:
    """All singular values of ``up @ down``, and the vectors of the ``kept`` largest."""
    if down is None and up.shape[0] < up.shape[1]:
        vt, s, u = _leading(up.T, None, kept)
        return u.T, s, vt.T
    up, down = widen(up), None if down is None else widen(down)  # once: Gram matrices and vectors both need them
    basis = gram_basis(up, down, kept)
    if basis is not None:
        return leading_vectors(up, down, basis, kept)
    u, s, vt = _householder_svd(up, down)
    return u[:, :kept], s, vt[:kept]


def _householder_values(up: FloatArray, down: FloatArray | None) -> Float64Array:
    _require_finite(up, down)
    if not (np.any(up) and (down is None or np.any(down))):  # an untrained layer
        return np.zeros(min(up.shape))
    core = widen(up) if down is None else finite(np.matmul, _triangle(widen(up)), _triangle(widen(down).T).T)
    return np.linalg.svd(core, compute_uv=False)


def _householder_svd(up: Float64Array, down: Float64Array | None) -> _Vectors:
    _require_finite(up, down)
    if down is None:
        u, s, vt = np.linalg.svd(up, full_matrices=False)
        return u, s, vt
    q_up, r_up = np.linalg.qr(up)
    q_down, r_down = np.linalg.qr(down.T)
    u, s, vt = np.linalg.svd(finite(np.matmul, r_up, r_down.T))
    return q_up @ u, s, vt @ q_down.T


def _require_finite(up: FloatArray, down: FloatArray | None) -> None:
    require_finite("the delta" if down is None else "up", up)
    if down is not None:
        require_finite("down", down)


def _triangle(matrix: Float64Array) -> Float64Array:
    """R of a thin QR decomposition."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))
