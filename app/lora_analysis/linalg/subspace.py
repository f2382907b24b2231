"""The subspaces that updates write to and read from, and how two of them lie to each other.

A delta ``U Σ Vᵀ`` writes into the span of ``U`` (*left*, in the space of outputs) and reads the span of ``V`` (*right*,
in the space of inputs). Neither changes with the way the factors are written, while the span of ``down`` alone may hold
directions that ``up`` never uses.

Everything about two updates follows from the small matrices ``X = U₁ᵀ U₂`` and ``Y = V₁ᵀ V₂``::

    ⟨Δ₁, Δ₂⟩ = Σ Σ₁ X Σ₂ ∘ Y                         no cancellation: U and V are orthonormal
    φ(i, j)  = ‖X[:i, :j]‖² / min(i, j)              Hu et al., arXiv 2106.09685, section 7.2
    cos θ    = singular values of X                   see ``angles.py``
    ‖U₁ᵀ Δ₂ V₁‖² / ‖Δ₂‖²  = ‖X Σ₂ Yᵀ‖² / ‖Δ₂‖²       the share of Δ₂'s energy that lies within Δ₁'s span

**Chance.** For a fixed subspace of dimension p and a random one of dimension q in n dimensions the expected squared
cosines sum to ``p q / n``, so φ is ``max(i, j) / n`` on average.

**Stacks.** A network has hundreds of layers of few shapes, whose small matrices take less time than the calls that
multiply them. So the functions here take one delta, or many of one shape and rank with a leading axis in every array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..adapter import LowRank, Update
from .finite import magnitude, require_finite
from .floats import Float64Array, widen
from .inner import plain
from .products import truncate
from .stacks import transposed, widened

if TYPE_CHECKING:
    pass

BoolArray: TypeAlias = NDArray[np.bool_]
SPAN_LIMIT = 256  # leading directions that are compared; only stored differences, LoHa and LoKr have more
_TRUSTED = 1e-6  # smallest eigenvalue of a Gram matrix of unit columns: the basis is then orthonormal to 1e-9
_SMALLEST_SQUARE = 1e-200  # of a column's length: below, squares have lost their digits


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """``delta = u * s @ vt`` with ``u = left @ left_map`` and ``vt = right_map @ right``, float64.

    The maps are small, and products of two spans need no ``u``. Directions whose σ is rounding are left out. In a stack
    every array has a leading axis.
    """

    left: Float64Array  # (out, a)
    left_map: Float64Array  # (a, n)
    s: Float64Array  # (n,) largest first, scale included
    right_map: Float64Array  # (n, b)
    right: Float64Array  # (b, in * k)
    energy: Float64Array  # () ‖delta‖², that of directions beyond SPAN_LIMIT included
    is_whole: bool = True  # False where directions were left out for their number

    @property
    def rank(self) -> int:
        return int(self.s.shape[-1])

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[-2], self.right.shape[-1]

    def u(self) -> Float64Array:
        """(out, n) orthonormal columns."""
        return self.left @ self.left_map

    def v(self) -> Float64Array:
        """(in * k, n) orthonormal columns."""
        return transposed(self.right_map @ self.right)

    def at(self, which: Sequence[int] | int | None) -> Span:
        """Some of a stack, one of it, or with None a stack of this one."""
        return Span(
            self.left[which], self.left_map[which], self.s[which], self.right_map[which], self.right[which],
            self.energy[which], self.is_whole,
        )  # fmt: skip


class Crossing(NamedTuple):
    """What two spans have in common: ``left = U₁ᵀ U₂`` and ``right = V₁ᵀ V₂``, both ``(n₁, n₂)``."""

    left: Float64Array
    right: Float64Array

    @property
    def back(self) -> Crossing:
        """The same seen from the second."""
        return Crossing(transposed(self.left), transposed(self.right))


# -- one update, or many -------------------------------------------------------------------------------


def span(update: Update, limit: int = SPAN_LIMIT) -> Span:
    """The leading ``limit`` singular directions of a delta, those of rounding size left out.

    Raises: NonFiniteError, ShapeError for vectors and stacks, OpaqueUpdateError.
    """
    matrix = plain(update)
    if isinstance(matrix, LowRank) and is_narrow(matrix):
        found, good = stacked_spans([matrix], limit)
        return found.at(0) if good[0] else _orthogonalised(matrix, limit)
    cut = truncate(matrix, limit)
    roots = np.linalg.norm(cut.factors.up, axis=0)  # √σ: either factor has the root of each value
    kept = _above_rounding(cut.singular_values)[: len(roots)] & (roots > 0)
    identity = np.diag(1.0 / roots[kept])
    s = cut.singular_values[: len(roots)][kept]
    energy = np.asarray(np.sum(np.square(cut.singular_values)))
    whole = int(np.count_nonzero(_above_rounding(cut.singular_values))) <= len(s)
    return Span(cut.factors.up[:, kept], identity, s, identity, cut.factors.down[kept], energy, whole)


def is_narrow(update: LowRank) -> bool:
    """Whether both factors are longer than wide, which their Gram matrices have to be to be smaller."""
    return update.core is None and 0 < update.rank < min(update.up.shape[0], update.down.shape[1])


def stacked_spans(updates: Sequence[LowRank], limit: int = SPAN_LIMIT) -> tuple[Span, BoolArray]:
    """A stack of spans of narrow factors of one shape and rank; and for which of the updates it is good.

    It is not where a delta is zero or not finite, or where factors are nearly dependent: :func:`span` takes those.
    Bases come from the Cholesky factors of the Gram matrices of columns brought to length 1.
    """
    up, down = widened([update.up for update in updates]), widened([update.down for update in updates])
    scales = np.array([update.scale for update in updates])[:, None, None]
    with np.errstate(over="ignore", invalid="ignore"):
        left_map, left_core, left_good = _orthonormalising(transposed(up) @ up)
        right_map, right_core, right_good = _orthonormalising(down @ transposed(down))
        core = left_core @ transposed(right_core) * np.abs(scales)
        good = left_good & right_good & np.isfinite(core).all(axis=(1, 2))
    p, s, qt = np.linalg.svd(np.where(good[:, None, None], core, 0.0))
    good &= _above_rounding(s)[:, -1]
    left_map = left_map @ p[:, :, :limit] * np.copysign(1.0, scales)
    right_map = qt[:, :limit] @ transposed(right_map)
    return Span(up, left_map, s[:, :limit], right_map, down, np.sum(np.square(s), axis=1), s.shape[1] <= limit), good


def _orthonormalising(gram: Float64Array) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Of Gram matrices (count, rank, rank) of columns: ``map``, ``core`` and whether they are good.

    ``columns @ map`` has orthonormal columns, and ``columns = (columns @ map) @ core``. The smallest eigenvalue of
    ``L Lᵀ`` is at least ``1 / ‖L⁻¹‖²`` in the Frobenius norm, and the largest at most the trace.
    """
    squares = np.diagonal(gram, axis1=1, axis2=2)
    good: BoolArray = np.all((squares > _SMALLEST_SQUARE) & np.isfinite(squares), axis=1)
    lengths = np.sqrt(np.where(good[:, None], squares, 1.0))
    unit = gram / lengths[:, None, :] / lengths[:, :, None]
    unit[~good] = np.eye(gram.shape[1])
    root, definite = _roots(unit)
    inverted = np.linalg.inv(root)
    good &= definite & (_TRUSTED * np.sum(np.square(inverted), axis=(1, 2)) <= 1.0)
    return transposed(inverted) / lengths[:, :, None], transposed(root) * lengths[:, None, :], good


def _roots(matrices: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Cholesky factors of a stack, and for which matrices there is one; the others get the identity."""
    try:
        return np.linalg.cholesky(matrices), np.ones(len(matrices), np.bool_)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.eye(matrices.shape[1])[None], np.zeros(1, np.bool_)
    parts = [_roots(one[None]) for one in matrices]
    return np.concatenate([root for root, _ in parts]), np.concatenate([definite for _, definite in parts])


def _orthogonalised(update: LowRank, limit: int) -> Span:
    """The span of any factors, by Householder QR. Raises: NonFiniteError."""
    up, down, scale = widen(update.up), widen(update.down), magnitude(update.scale)
    require_finite("up", up)
    require_finite("down", down)
    (left, left_core), (right, right_core) = np.linalg.qr(up), np.linalg.qr(down.T)
    with np.errstate(over="ignore", invalid="ignore"):
        core = left_core @ right_core.T * scale
    require_finite("the product of both factors", core)
    p, s, qt = np.linalg.svd(core, full_matrices=False)
    kept = _above_rounding(s)
    whole = int(np.count_nonzero(kept)) <= limit
    kept[limit:] = False
    return Span(left, p[:, kept] * copysign(1.0, update.scale), s[kept], qt[kept], right.T, np.sum(np.square(s)), whole)


def _above_rounding(s: Float64Array) -> BoolArray:
    """Of singular values, largest first: which are more than the rounding of the largest."""
    largest = s[..., :1]  # none where there are no values
    above: BoolArray = s > s.shape[-1] * np.finfo(np.float64).eps * largest
    return above


# -- two updates ---------------------------------------------------------------------------------------


def crossing(first: Span, second: Span) -> Crossing:
    """``U₁ᵀ U₂`` and ``V₁ᵀ V₂``, through products of the factors."""
    left = transposed(first.left_map) @ (transposed(first.left) @ second.left) @ second.left_map
    right = first.right_map @ (first.right @ transposed(second.right)) @ transposed(second.right_map)
    return Crossing(left, right)


def span_product(first: Span, second: Span, cross: Crossing) -> Float64Array:
    """``⟨Δ₁, Δ₂⟩`` of two whole spans."""
    product = first.s[..., None, :] @ (cross.left * cross.right) @ second.s[..., None]
    return np.asarray(product[..., 0, 0])


def energy_within(inner: Span, cross: Crossing) -> Float64Array:
    """The share of ``inner``'s energy within the other span, 0 to 1; ``cross`` is ``crossing(other, inner)``."""
    inside = np.sum(np.square((cross.left * inner.s[..., None, :]) @ transposed(cross.right)), axis=(-2, -1))
    energy = np.asarray(inner.energy)
    share = np.divide(inside, energy, out=np.zeros(energy.shape), where=energy > 0.0)
    return np.asarray(np.minimum(share, 1.0))


def energy_beyond(of: Span, kept: int) -> Float64Array:
    """The share of its energy that the best approximation of rank ``kept`` loses; the energy must not be zero."""
    squares = np.square(of.s)
    left_out = np.maximum(of.energy - np.sum(squares, axis=-1), 0.0)  # for their number
    return np.asarray((np.sum(squares[..., kept:], axis=-1) + left_out) / of.energy)


def overlap_grid(cross: Float64Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Float64Array:
    """``φ(i, j)`` for i in ``rows`` and j in ``columns``, 0 to 1. Indices are counts of leading directions."""
    total = np.cumsum(np.cumsum(np.square(cross), axis=-2), axis=-1)
    sums = total[..., np.array(rows)[:, None] - 1, np.array(columns) - 1]
    return np.asarray(np.minimum(sums / np.minimum.outer(rows, columns), 1.0))
