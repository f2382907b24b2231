"""Every kind of update as one factored matrix, and its SVD by the cheapest exact route.

What each kind costs (``n`` is the smaller side of the delta ``(out, in * k)``):

* LoRA, linear or convolutional: nothing, it is factored. A Tucker core is multiplied into ``down``.
* LoHa: the row-wise Khatri-Rao product of its factors, rank ``r1 * r2``; the delta itself where ``n`` is smaller.
* LoKr: its singular values are all products of one of each side (R. A. Horn, C. R. Johnson, Topics in Matrix
  Analysis, theorem 4.2.15), its vectors the Kronecker products of theirs: nothing of the delta's size is decomposed.
* A stored delta: one SVD of the matrix.
"""

from __future__ import annotations

from math import copysign, hypot
from typing import assert_never

import numpy as np

from ..adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Update, Vector
from ..errors import OpaqueUpdateError, ShapeError
from . import svd
from .dense import materialise, unfold
from .finite import finite, magnitude
from .floats import Float64Array, widen


def factors(update: Update) -> LowRank:
    """The same delta as ``scale * up @ down``, up to rounding in float64. A kernel is kept, a Tucker core is not.

    A ``LowRank`` without a core comes back as it is, in its stored dtype; a stored delta is one of the factors,
    beside an identity. Raises: OpaqueUpdateError where there is no delta without the base weight; ShapeError for a
    ``Vector``, which is no matrix, and for a ``Stacked``, which is several (take its ``parts``).
    """
    reduced = _kronecker_factors(update) if isinstance(update, Kronecker) else _reduced(update)
    return _beside_identity(reduced) if isinstance(reduced, Dense) else reduced


def singular_values(update: Update) -> Float64Array:
    """Singular values of the unfolded delta, largest first, scale included.

    Returns: float64, in weight units; as many as the factors can give, the rest of the delta's are zero.
    Raises: as ``factors``, and NonFiniteError.
    """
    if isinstance(update, Kronecker):
        first, second = svd.singular_values(update.first), svd.singular_values(update.second)
        return np.sort(_kronecker_values(update, first, second))[::-1]
    return svd.singular_values(_reduced(update))


def frobenius_norm(update: Update) -> float:
    """Frobenius norm of the delta, scale included: of a ``Vector`` its length, of a ``Stacked`` that of all parts.

    Nothing is decomposed, and no factored delta formed. Raises: as ``singular_values``.
    """
    match update:
        case Stacked():
            return hypot(*(frobenius_norm(part) for part in update.parts))
        case Kronecker():  # ‖A ⊗ B‖ = ‖A‖ ‖B‖
            return magnitude(update.scale) * frobenius_norm(update.first) * frobenius_norm(update.second)
        case Vector():
            return svd.frobenius_norm(Dense(update.values.reshape(1, -1), update.scale))
        case _:
            return svd.frobenius_norm(_reduced(update))


def truncate(update: Update, rank: int) -> svd.Truncation:
    """The best approximation of the delta of at most ``rank``, as balanced factors of scale 1.

    Raises: as ``singular_values``, and OptionError for a rank below 1.
    """
    if isinstance(update, Kronecker):
        return _truncate_kronecker(update, rank)
    return svd.truncate(_reduced(update), rank)


def _reduced(update: LowRank | Dense | Hadamard | Stacked | Vector | Opaque) -> LowRank | Dense:
    """The smallest exact form that is one matrix: factored where that is smaller than the delta."""
    match update:
        case LowRank():
            return update if update.core is None else LowRank(update.up, unfold(update), update.scale, update.kernel)
        case Dense():
            return update
        case Hadamard():
            return _reduced_hadamard(update)
        case Stacked():
            raise ShapeError(f"{len(update.parts)} experts are {len(update.parts)} matrices; decompose each part")
        case Vector():
            raise ShapeError(f"a vector of shape {update.shape} is no matrix and has no singular values")
        case Opaque():
            raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
        case _:
            assert_never(update)


# -- LoHa and stored deltas --------------------------------------------------------------------------


def _reduced_hadamard(update: Hadamard) -> LowRank | Dense:
    first, second = factors(update.first), factors(update.second)
    out, columns = first.up.shape[0], first.down.shape[1]
    rank = first.rank * second.rank
    if rank >= min(out, columns):
        return Dense(materialise(update))
    up1, up2, down1, down2 = (widen(matrix) for matrix in (first.up, second.up, first.down, second.down))
    return LowRank(
        (up1[:, :, None] * up2[:, None, :]).reshape(out, rank),
        (down1[:, None, :] * down2[None, :, :]).reshape(rank, columns),
        update.scale * first.scale * second.scale,
        first.kernel,
    )


def _beside_identity(update: Dense) -> LowRank:
    matrix, kernel = svd.as_matrix(update.values), tuple(update.values.shape[2:])
    out, columns = matrix.shape
    if out <= columns:
        return LowRank(np.eye(out, dtype=np.float32), matrix, update.scale, kernel)
    return LowRank(matrix, np.eye(columns, dtype=np.float32), update.scale, kernel)


# -- LoKr --------------------------------------------------------------------------------------------


def _kronecker_factors(update: Kronecker) -> LowRank:
    # (up1 down1) x (up2 down2) = (up1 x up2)(down1 x down2); the kernel stays the fastest axis of the columns.
    first, second = factors(update.first), factors(update.second)
    return LowRank(
        np.kron(widen(first.up), widen(second.up)),
        np.kron(widen(first.down), widen(second.down)),
        update.scale * first.scale * second.scale,
        second.kernel,
    )


def _kronecker_values(update: Kronecker, first: Float64Array, second: Float64Array) -> Float64Array:
    """Every product of a value of either side, ``(len(first) * len(second),)``, in no order of size."""
    products = finite(np.multiply, first[:, None], second[None, :]).ravel()
    return finite(np.multiply, products, magnitude(update.scale))


def _truncate_kronecker(update: Kronecker, rank: int) -> svd.Truncation:
    svd.require_rank(rank)
    first, second = svd.thin_svd(update.first), svd.thin_svd(update.second)
    values = _kronecker_values(update, first.s, second.s)
    order = np.argsort(-values, kind="stable")
    i, j = np.divmod(order[:rank], len(second.s))
    u = first.u[:, None, i] * second.u[None, :, j] * copysign(1.0, update.scale)
    vt = first.vt[i, :, None] * second.vt[j, None, :]
    kept = svd.ThinSVD(u.reshape(-1, len(i)), values[order], vt.reshape(len(i), -1))
    return svd.balanced(kept, tuple(update.second.shape[2:]))
