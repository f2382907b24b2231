"""Singular values and vectors of a factored product, without forming the product.

Two routes, one contract: every singular value of at least ``1e-6 σ₁`` is within ``1e-5`` of its true value.
``gram.py`` is several times faster and says itself when it cannot hold that; then QR of both factors and the SVD of
the small core take over, which lose nothing to squaring (T. F. Chan, ACM TOMS 8 (1982) 72-83). The choice depends on
the values alone, so the same input gives the same bits.
"""

from __future__ import annotations

from math import copysign
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..adapter import LowRank
from ..errors import OptionError, ShapeError
from .dense import unfold
from .finite import finite, magnitude, require_finite
from .floats import Float64Array, widen
from .gram import gram_basis, leading_vectors, squared_singular_values

if TYPE_CHECKING:
    from ..adapter import FloatArray


class ThinSVD(NamedTuple):
    """``delta = u * s @ vt`` as a matrix ``(out, in * k)``, kernel positions varying fastest. float64."""

    u: Float64Array  # (out, n) orthonormal columns
    s: Float64Array  # (n,) largest first, scale included
    vt: Float64Array  # (n, in * k) orthonormal rows


class Truncation(NamedTuple):
    """The closest update of a smaller rank, and how far away it is."""

    factors: LowRank  # float64, scale 1, the root of each singular value on either side
    singular_values: Float64Array  # of the whole delta, largest first
    error: float  # Frobenius norm of what was dropped, before the factors are rounded to a stored dtype


def singular_values(factors: LowRank) -> Float64Array:
    """Singular values of the delta, largest first, without forming the delta.

    Returns: shape (min(out, rank, in * k),), float64, in weight units, scale included.
    Raises: NonFiniteError where a factor or the scale holds NaN or infinity, or their product overflows float64;
    ShapeError where a factor is empty.
    """
    up, down = _matrices(factors)
    squares = squared_singular_values(up, down) if _fills_its_rank(up, down) else None
    if squares is None:
        values = _householder_values(up, down)
    else:
        values = np.sqrt(squares[::-1])
    return finite(np.multiply, values, magnitude(factors.scale))


def thin_svd(factors: LowRank) -> ThinSVD:
    """Thin SVD of the delta with as many values as ``singular_values``; a negative scale goes into ``u``.

    Raises: as ``singular_values``.
    """
    up, down = _matrices(factors)
    return _scaled(_leading(up, down, _count(up, down)), factors.scale)


def truncate(factors: LowRank, rank: int) -> Truncation:
    """The best approximation of the delta of at most ``rank``, in the Frobenius and the spectral norm.

    Source: C. Eckart, G. Young, Psychometrika 1 (1936) 211-218. A rank above the number of singular values
    keeps them all. The kernel is kept; a Tucker core is multiplied in.
    Raises: OptionError for a rank below 1; otherwise as ``singular_values``.
    """
    require_rank(rank)
    up, down = _matrices(factors)
    kept = min(rank, _count(up, down))
    return balanced(_scaled(_leading(up, down, kept), factors.scale), factors.kernel)


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


def _leading(up: FloatArray, down: FloatArray, kept: int) -> ThinSVD:
    """All singular values of ``up @ down``, and the vectors of the ``kept`` largest."""
    basis = gram_basis(up, down) if _fills_its_rank(up, down) else None
    if basis is not None:
        return ThinSVD(*leading_vectors(up, down, basis, kept))
    u, s, vt = _householder_svd(up, down)
    return ThinSVD(u[:, :kept], s, vt[:kept])


def _scaled(svd: ThinSVD, scale: float) -> ThinSVD:
    return ThinSVD(svd.u * copysign(1.0, scale), finite(np.multiply, svd.s, magnitude(scale)), svd.vt)


# -- Householder -------------------------------------------------------------------------------------


def _householder_values(up: FloatArray, down: FloatArray) -> Float64Array:
    if not (np.any(up) and np.any(down)):  # an untrained layer; NaN counts as any
        return np.zeros(_count(up, down))
    up, down = _finite_float64(up, down)
    if _is_small(up, down):
        core = finite(np.matmul, up, down)
    else:
        core = finite(np.matmul, _triangle(up), _triangle(down.T).T)
    return np.linalg.svd(core, compute_uv=False)


def _householder_svd(up: FloatArray, down: FloatArray) -> tuple[Float64Array, Float64Array, Float64Array]:
    up, down = _finite_float64(up, down)
    if _is_small(up, down):
        u, s, vt = np.linalg.svd(finite(np.matmul, up, down), full_matrices=False)
        return u, s, vt
    q_up, r_up = np.linalg.qr(up)
    q_down, r_down = np.linalg.qr(down.T)
    u, s, vt = np.linalg.svd(finite(np.matmul, r_up, r_down.T))
    return q_up @ u, s, vt @ q_down.T


def _triangle(matrix: Float64Array) -> Float64Array:
    """R of a thin QR decomposition."""
    return np.asarray(np.linalg.qr(matrix, mode="r"))


# -- input -------------------------------------------------------------------------------------------


def _matrices(factors: LowRank) -> tuple[FloatArray, FloatArray]:
    """``up`` and ``down`` as matrices ``(out, rank)`` and ``(rank, in * k)``, in their stored dtypes."""
    if 0 in factors.up.shape or 0 in factors.down.shape:
        raise ShapeError(f"an empty factor: up is {factors.up.shape}, down is {factors.down.shape}")
    return factors.up, factors.down if factors.core is None else unfold(factors)


def _finite_float64(up: FloatArray, down: FloatArray) -> tuple[Float64Array, Float64Array]:
    require_finite("up", up)
    require_finite("down", down)
    return widen(up), widen(down)


def _count(up: FloatArray, down: FloatArray) -> int:
    return int(min(*up.shape, down.shape[1]))


def _fills_its_rank(up: FloatArray, down: FloatArray) -> bool:
    """Whether the product can have as many non-zero singular values as the factors have rank."""
    return bool(up.shape[1] <= min(up.shape[0], down.shape[1]))


def _is_small(up: FloatArray, down: FloatArray) -> bool:
    """Whether the product is no larger than the core would be."""
    return bool(up.shape[1] >= min(up.shape[0], down.shape[1]))
