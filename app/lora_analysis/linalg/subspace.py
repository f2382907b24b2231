"""The subspaces that updates write to and read from, and how two of them lie to each other.

A delta ``U Σ Vᵀ`` writes into the span of ``U`` (*left*, in the space of outputs) and reads the span of ``V`` (*right*,
in the space of inputs). Neither changes with the way the factors are written, while the span of ``down`` alone may hold
directions that ``up`` never uses.

Everything about two updates follows from the small matrices ``X = U₁ᵀ U₂`` and ``Y = V₁ᵀ V₂``::

    ⟨Δ₁, Δ₂⟩ = Σ Σ₁ X Σ₂ ∘ Y                         no cancellation: U and V are orthonormal
    φ(i, j)  = ‖X[:i, :j]‖² / min(i, j)              Hu et al., arXiv 2106.09685, section 7.2
    cos θ    = singular values of X                   Å. Björck, G. Golub, Math. Comp. 27 (1973) 579-594
    ‖U₁ᵀ Δ₂ V₁‖² / ‖Δ₂‖²  = ‖X Σ₂ Yᵀ‖² / ‖Δ₂‖²       the share of Δ₂'s energy that lies within Δ₁'s span

**Chance.** For a fixed subspace of dimension p and a random one of dimension q in n dimensions the expected squared
cosines sum to ``p q / n``, so φ is ``max(i, j) / n`` on average. For large n the squared cosines fill the interval of
K. W. Wachter (Ann. Statist. 8 (1980) 937-957), which gives the expected smallest and largest angle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import copysign, pi, sqrt
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from ..adapter import LowRank, Update
from .finite import magnitude, require_finite
from .floats import Float64Array, widen
from .inner import inner_product, plain
from .products import truncate

if TYPE_CHECKING:
    from ..adapter import FloatArray

Bases: TypeAlias = Callable[[], tuple[Float64Array, Float64Array]]
SPAN_LIMIT = 256  # leading directions that are compared; only stored differences, LoHa and LoKr have more
_TRUSTED = 1e-6  # smallest eigenvalue of a Gram matrix of unit columns: the basis is then orthonormal to 1e-9
_SMALLEST_SQUARE = 1e-200  # of a column's length: below, squares have lost their digits
_NEARLY_PARALLEL = 0.9  # cosines above lose digits as angles: their sines are calculated too
_QUADRATURE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """``delta = u * s @ vt`` with ``u = left @ left_map`` and ``vt = right_map @ right``, float64.

    The maps are small, and products of two spans need no ``u``. Directions whose σ is rounding are left out.
    """

    left: Float64Array  # (out, a)
    left_map: Float64Array  # (a, n)
    s: Float64Array  # (n,) largest first, scale included
    right_map: Float64Array  # (n, b)
    right: Float64Array  # (b, in * k)
    energy: float  # ‖delta‖², that of directions beyond SPAN_LIMIT included
    is_whole: bool = True  # False where directions were left out for their number

    @property
    def rank(self) -> int:
        return len(self.s)

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    def u(self) -> Float64Array:
        """(out, n) orthonormal columns."""
        return self.left @ self.left_map

    def v(self) -> Float64Array:
        """(in * k, n) orthonormal columns."""
        return (self.right_map @ self.right).T


class Crossing(NamedTuple):
    """What two spans have in common: ``left = U₁ᵀ U₂`` and ``right = V₁ᵀ V₂``, both ``(n₁, n₂)``."""

    left: Float64Array
    right: Float64Array


# -- one update ----------------------------------------------------------------------------------------


class Begun(NamedTuple):
    """A delta in orthonormal bases of its factors, ``left @ left_map @ core @ right_map @ right``, to be turned."""

    left: Float64Array
    left_map: Float64Array
    core: Float64Array  # (a, b), scale included but for its sign
    right_map: Float64Array
    right: Float64Array
    sign: float
    limit: int


def span(update: Update, limit: int = SPAN_LIMIT) -> Span:
    """The leading ``limit`` singular directions of a delta, those of rounding size left out.

    Raises: NonFiniteError, ShapeError for vectors and stacks, OpaqueUpdateError.
    """
    [found] = finish_spans([begin_span(update, limit)])
    return found


def begin_span(update: Update, limit: int = SPAN_LIMIT) -> Begun | Span:
    """The part of :func:`span` that is as large as the update. Raises: as ``span``."""
    matrix = plain(update)
    if isinstance(matrix, LowRank) and matrix.rank < min(matrix.up.shape[0], matrix.down.shape[1]):
        return _begin_factors(matrix, limit)
    cut = truncate(matrix, limit)
    roots = np.linalg.norm(cut.factors.up, axis=0)  # √σ: either factor has the root of each value
    kept = _above_rounding(cut.singular_values)[: len(roots)] & (roots > 0)
    identity = np.diag(1.0 / roots[kept])
    s = cut.singular_values[: len(roots)][kept]
    energy = float(np.sum(np.square(cut.singular_values)))
    whole = int(np.count_nonzero(_above_rounding(cut.singular_values))) <= len(s)
    return Span(cut.factors.up[:, kept], identity, s, identity, cut.factors.down[kept], energy, whole)


def finish_spans(begun: Sequence[Begun | Span]) -> list[Span]:
    """The rest, for several at once: the cores of one shape in one call, see ``streams.together``."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for at, one in enumerate(begun):
        if isinstance(one, Begun):
            by_shape.setdefault(one.core.shape, []).append(at)
    found: dict[int, Span] = {at: one for at, one in enumerate(begun) if isinstance(one, Span)}
    for group in by_shape.values():
        members = [one for at in group if isinstance(one := begun[at], Begun)]
        p, s, qt = np.linalg.svd(np.stack([one.core for one in members]), full_matrices=False)
        found |= {at: _turned(one, p[k], s[k], qt[k]) for k, (at, one) in enumerate(zip(group, members, strict=True))}
    return [found[at] for at in range(len(begun))]


def _begin_factors(update: LowRank, limit: int) -> Begun:
    up, down, scale = widen(update.up), widen(update.down), magnitude(update.scale)
    left, left_map, left_core = _orthonormalised("up", up)
    right, right_map, right_core = _orthonormalised("down", down.T)
    with np.errstate(over="ignore", invalid="ignore"):
        core = left_core @ right_core.T * scale
    require_finite("the product of both factors", core)
    return Begun(left, left_map, core, right_map.T, right.T, copysign(1.0, update.scale), limit)


def _turned(begun: Begun, p: Float64Array, s: Float64Array, qt: Float64Array) -> Span:
    kept = _above_rounding(s)
    whole = int(np.count_nonzero(kept)) <= begun.limit
    kept[begun.limit :] = False
    energy = float(np.sum(np.square(s)))
    left_map = begun.left_map @ p[:, kept] * begun.sign
    return Span(begun.left, left_map, s[kept], qt[kept] @ begun.right_map, begun.right, energy, whole)


def _orthonormalised(name: str, columns: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """``base, map, core`` with ``columns = (base @ map) @ core`` and orthonormal columns of ``base @ map``.

    By the Cholesky factor of the Gram matrix of the columns brought to length 1, where they are independent enough; a
    Householder QR otherwise. Raises: NonFiniteError.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        gram = columns.T @ columns
    squares = gram.diagonal()
    if not np.isfinite(squares).all():
        require_finite(name, columns)
    elif squares.min(initial=np.inf) > _SMALLEST_SQUARE:
        lengths = np.sqrt(squares)
        inverse = _inverse_root(gram / lengths / lengths[:, None])
        if inverse is not None:
            root, inverted = inverse
            return columns, inverted.T / lengths[:, None], root.T * lengths
    q, r = np.linalg.qr(columns)
    return q, np.eye(q.shape[1]), r


def _inverse_root(gram: Float64Array) -> tuple[Float64Array, Float64Array] | None:
    """L with ``gram = L Lᵀ``, and its inverse; None where the smallest eigenvalue may be below ``_TRUSTED``.

    It is at least ``1 / ‖L⁻¹‖²`` in the Frobenius norm, and the largest at most the trace.
    """
    try:
        root = np.linalg.cholesky(gram)
        inverted = np.linalg.inv(root)
    except np.linalg.LinAlgError:
        return None
    return (root, inverted) if _TRUSTED * float(np.vdot(inverted, inverted)) <= 1.0 else None


def _above_rounding(s: Float64Array) -> FloatArray:
    largest = s[0] if len(s) else 0.0
    above: FloatArray = s > len(s) * np.finfo(np.float64).eps * largest
    return above


# -- two updates ---------------------------------------------------------------------------------------


def crossing(first: Span, second: Span) -> Crossing:
    """``U₁ᵀ U₂`` and ``V₁ᵀ V₂``, through products of the factors."""
    left = first.left_map.T @ (first.left.T @ second.left) @ second.left_map
    right = first.right_map @ (first.right @ second.right.T) @ second.right_map.T
    return Crossing(left, right)


def span_product(first: Span, second: Span, cross: Crossing) -> float:
    """``⟨Δ₁, Δ₂⟩`` of two whole spans."""
    return float(first.s @ (cross.left * cross.right) @ second.s)


def product_of(first: Update, second: Update, spans: tuple[Span, Span], cross: Crossing) -> float:
    """``⟨Δ₁, Δ₂⟩``: from the spans where they hold all of both deltas, from the factors otherwise."""
    if spans[0].is_whole and spans[1].is_whole:
        return span_product(*spans, cross)
    return inner_product(first, second)


def energy_within(inner: Span, cross: Crossing) -> float:
    """The share of ``inner``'s energy within the other span, 0 to 1; ``cross`` is ``crossing(other, inner)``."""
    if inner.energy == 0.0:
        return 0.0
    return min(float(np.linalg.norm((cross.left * inner.s) @ cross.right.T) ** 2 / inner.energy), 1.0)


def overlap_grid(cross: Float64Array, rows: tuple[int, ...], columns: tuple[int, ...]) -> Float64Array:
    """``φ(i, j)`` for i in ``rows`` and j in ``columns``, 0 to 1. Indices are counts of leading directions."""
    total = np.cumsum(np.cumsum(np.square(cross), axis=0), axis=1)
    sums = total[np.ix_(np.array(rows) - 1, np.array(columns) - 1)]
    return np.asarray(np.minimum(sums / np.minimum.outer(rows, columns), 1.0))


def principal_angles(first: Float64Array, second: Float64Array) -> Float64Array:
    """Angles between the spans of orthonormal columns, smallest first, in radians.

    Small angles come from their sines: A. Knyazev, M. Argentati, SIAM J. Sci. Comput. 23 (2002) 2008-2040.
    """
    cross = first.T @ second
    return angles_of(cross, lambda: (first, second))


def angles_of(cross: Float64Array, bases: Bases) -> Float64Array:
    """As ``principal_angles``, from ``U₁ᵀ U₂``; ``bases`` makes both bases where small angles need them."""
    if 0 in cross.shape:
        return np.zeros(0)
    cosines = np.minimum(np.linalg.svd(cross, compute_uv=False), 1.0)
    angles = np.arccos(cosines)
    if cosines[0] <= _NEARLY_PARALLEL:
        return np.asarray(angles)
    first, second = bases()
    if first.shape[1] < second.shape[1]:
        first, second = second, first
    residual = second - first @ (first.T @ second)  # its singular values are the sines
    sines = np.sqrt(np.maximum(np.linalg.eigvalsh(residual.T @ residual), 0.0))  # smallest first, as the angles
    return np.asarray(np.where(cosines > _NEARLY_PARALLEL, np.arcsin(np.minimum(sines, 1.0)), angles))


# -- measures of angles --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AngleSummary:
    """What principal angles say, beside what two random subspaces of these dimensions would have."""

    dimension: int  # n, of the space
    first: int  # p, dimension of the first subspace
    second: int  # q, of the second
    smallest: float  # radians
    largest: float
    mean_squared_cosine: float  # = φ(p, q)
    grassmann: float  # √Σ θ²
    chordal: float  # √Σ sin² θ
    chance_smallest: float
    chance_largest: float
    chance_squared_cosine: float
    chance_grassmann: float
    chance_chordal: float


def summarise_angles(angles: Float64Array, first: int, second: int, dimension: int) -> AngleSummary:
    """Distances of K. Ye, L.-H. Lim, SIAM J. Matrix Anal. Appl. 37 (2016) 1176-1197, over the min(p, q) angles."""
    chance = chance_angles(first, second, dimension)
    return AngleSummary(
        dimension=dimension,
        first=first,
        second=second,
        smallest=float(angles[0]),
        largest=float(angles[-1]),
        mean_squared_cosine=float(np.mean(np.cos(angles) ** 2)),
        grassmann=float(np.linalg.norm(angles)),
        chordal=float(np.linalg.norm(np.sin(angles))),
        chance_smallest=float(chance[0]),
        chance_largest=float(chance[-1]),
        chance_squared_cosine=max(first, second) / dimension,
        chance_grassmann=float(np.linalg.norm(chance)),
        chance_chordal=sqrt(min(first, second) * (1 - max(first, second) / dimension)),
    )


@lru_cache(maxsize=1024)  # a network has few shapes and many layers
def chance_angles(first: int, second: int, dimension: int) -> Float64Array:
    """The min(p, q) angles that random subspaces have, smallest first: quantiles of Wachter's limit law.

    Subspaces that are too large to avoid one another share ``p + q - n`` directions, whose angles are 0.
    """
    count = min(first, second)
    shared = max(0, first + second - dimension)
    free = count - shared
    if free == 0:
        return np.zeros(count)
    # The other angles are those between the complements where the subspaces fill more than half of the space.
    p, q = (free, max(first, second)) if not shared else (free, dimension - min(first, second))
    return np.concatenate([np.zeros(shared), _wachter_quantiles(min(p, q), max(p, q), dimension, free)])


def _wachter_quantiles(p: int, q: int, n: int, count: int) -> Float64Array:
    a, b = p / n, q / n
    centre, spread = a + b - 2 * a * b, 2 * sqrt(a * b * (1 - a) * (1 - b))
    # With cos² θ = centre - spread cos t, the density of t has no infinite ends where cos² θ stays within (0, 1).
    t = (np.arange(_QUADRATURE) + 0.5) * pi / _QUADRATURE
    squares = np.clip(centre - spread * np.cos(t), 1e-15, 1 - 1e-15)
    weights = (spread * np.sin(t)) ** 2 / (squares * (1 - squares))
    cumulative = np.cumsum(weights) / np.sum(weights)
    wanted = np.interp((np.arange(count)[::-1] + 0.5) / count, cumulative, squares)  # largest cosine first
    if count > 1:
        wanted[0], wanted[-1] = centre + spread, max(centre - spread, 0.0)  # the edges
    return np.arccos(np.sqrt(np.clip(wanted, 0.0, 1.0)))
