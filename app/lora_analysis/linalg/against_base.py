"""A delta beside the weight that it is added to: how large, what it amplifies, which new directions it brings.

With ``Δ = U Σ Vᵀ`` and the base weight ``W``, all as matrices ``(out, in * k)``:

* relative norm ``‖Δ‖ / ‖W‖``;
* amplification ``‖Δ‖ / ‖Uᵀ W V‖`` (Hu et al., arXiv 2106.09685, section 7.3): how much Δ enlarges what W already did
  in Δ's directions. Random directions leave ``r ‖W‖ / √(out in)`` of W;
* alignment: the overlap φ(k, k) of Δ's and W's leading k directions, on either side. By chance ``k / n``;
* intruder dimensions (Shuttleworth et al., arXiv 2410.21228): of the first k left singular vectors of ``W + Δ``,
  those whose largest absolute cosine with any left singular vector of W is below ε.

No weight is decomposed as a whole above a smaller side of 256: alignment and intruders take the leading directions of
W and of W + Δ, with their residual measured (``krylov.leading``). Of a vector y of W + Δ, let c be the largest cosine
with the directions of W that are known; for all others ``1 - Σcos²`` is left, and where c² is at least that, c is the
largest of all. Where it is not, bounds by Lanczos from y decide (``krylov.heaviest``): the count is exact if none
straddles ε, and an upper bound else; ``is_exact`` says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..adapter import Update
from .finite import require_finite
from .floats import Float64Array, widen
from .krylov import NULL, Leading, heaviest, leading
from .subspace import span

if TYPE_CHECKING:
    from ..adapter import FloatArray

TOP, EPSILON = 10, 0.5  # k and ε of the authors' code
_GRAM = 1536  # smaller side up to which the Gram matrix is formed: each product is then cheaper than two with W


@dataclass(frozen=True, slots=True)
class BaseFigures:
    """One layer's delta beside its base weight. Figures that a zero delta or weight has not are None."""

    base_norm: float  # ‖W‖
    relative_norm: float | None
    amplification: float | None
    chance_amplification: float | None  # of random directions
    top: int  # k
    alignment_left: float | None  # φ(k, k) of the written directions, 0 to 1
    alignment_right: float | None  # of the read ones
    chance_left: float | None
    chance_right: float | None
    intruders: int | None  # of the k leading directions of W + Δ
    most_foreign: float | None  # the smallest of their largest cosines, 0 to 1; at least
    most_foreign_at_most: float | None  # the same from above; equal where it is known
    compared_with: int  # left singular vectors of W that are known one by one
    is_exact: bool  # the count of intruders; False: it is an upper bound
    residual: float | None  # of the k leading directions of W and of W + Δ: the largest ‖(WWᵀ)u - σ²u‖ / σ₁²

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class _Sides:
    """W and Δ with the smaller side first: ``a`` is W or its transpose, the delta ``p diag(s) qᵀ``."""

    a: Float64Array  # (n, N)
    p: Float64Array  # (n, r)
    s: Float64Array  # (r,)
    q: Float64Array  # (N, r)
    is_tall: bool  # a is the transpose: left singular vectors are on the larger side
    gram: Float64Array | None
    bridge: Float64Array  # (n, r) a q

    @classmethod
    def of(cls, weight: Float64Array, u: Float64Array, s: Float64Array, v: Float64Array) -> _Sides:
        is_tall = weight.shape[0] > weight.shape[1]
        a, p, q = (weight.T, v, u) if is_tall else (weight, u, v)
        gram = a @ a.T if len(a) <= _GRAM else None
        return cls(a, p, s, q, is_tall, gram, a @ q)

    def base(self, rows: Float64Array) -> Float64Array:
        """Rows times ``a aᵀ``."""
        return rows @ self.gram if self.gram is not None else (rows @ self.a) @ self.a.T

    def crossed(self, rows: Float64Array) -> Float64Array:
        """Rows times ``(a + Δ) aᵀ``."""
        return self.base(rows) + ((rows @ self.p) * self.s) @ self.bridge.T

    def changed(self, rows: Float64Array) -> Float64Array:
        """Rows times ``(a + Δ)(a + Δ)ᵀ``."""
        inside = (rows @ self.p) * self.s
        return self.crossed(rows) + ((rows @ self.bridge + inside) * self.s) @ self.p.T


def against_base(update: Update, base: FloatArray, *, top: int = TOP, epsilon: float = EPSILON) -> BaseFigures:
    """Figures of a delta beside ``base`` ``(out, in * k)``, of any stored dtype.

    Raises: NonFiniteError; ShapeError for what is no matrix.
    """
    require_finite("the base weight", base)
    weight = widen(base)
    delta = span(update)
    norm, size = float(np.linalg.norm(weight)), sqrt(float(delta.energy))
    if not norm or not delta.rank:
        return _nothing_beside(norm, size / norm if norm else None)
    u, v = delta.u(), delta.v()
    sides = _Sides.of(weight, u, delta.s, v)
    kept = float(np.linalg.norm(sides.p.T @ sides.bridge))
    of_base = leading(sides.base, len(sides.a), top)
    of_changed = leading(sides.changed, len(sides.a), top)
    count = min(top, delta.rank, len(of_base.values))
    near, far = of_base.vectors[:count].T, _other_side(sides.a, of_base, count)
    left, right = (far, near) if sides.is_tall else (near, far)
    foreign = _foreign(sides, of_base, of_changed, min(top, len(of_changed.values)))
    return BaseFigures(
        base_norm=norm,
        relative_norm=size / norm,
        amplification=size / kept if kept else None,
        chance_amplification=size * sqrt(weight.size) / (delta.rank * norm),
        top=count,
        alignment_left=_overlap(u, left),
        alignment_right=_overlap(v, right),
        chance_left=count / weight.shape[0],
        chance_right=count / weight.shape[1],
        intruders=int(np.count_nonzero(foreign.low < epsilon)),
        most_foreign=float(foreign.low.min()),
        most_foreign_at_most=float(foreign.high.min()),
        compared_with=of_base.known,
        is_exact=not bool(np.any((foreign.low < epsilon) & (foreign.high >= epsilon))),
        residual=float(max(of_base.residuals[:top].max(), of_changed.residuals[:top].max())),
    )


def _nothing_beside(norm: float, relative: float | None) -> BaseFigures:
    return BaseFigures(norm, relative, None, None, 0, None, None, None, None, None, None, None, 0, True, None)


def _overlap(first: Float64Array, second: Float64Array) -> float:
    shared = first[:, : second.shape[1]].T @ second
    return min(float(np.sum(np.square(shared))) / len(shared), 1.0)


def _other_side(a: Float64Array, of: Leading, count: int) -> Float64Array:
    """The singular vectors on the larger side, ``(N, count)``."""
    vectors = a.T @ of.vectors[:count].T
    return np.asarray(vectors / np.linalg.norm(vectors, axis=0))


class _Cosines(NamedTuple):
    """Of every leading left singular vector of ``W + Δ``, its largest cosine with one of W: between these."""

    low: Float64Array
    high: Float64Array


def _foreign(sides: _Sides, of_base: Leading, of_changed: Leading, top: int) -> _Cosines:
    known = of_base.known
    y, vectors = of_changed.vectors[:top], of_base.vectors[:known]
    toward_base: Float64Array = y
    if sides.is_tall:  # y stands for (a + Δ)ᵀ y / σ', an eigenvector x of the base for aᵀ x / σ
        toward_base = sides.crossed(y) / np.sqrt(of_changed.values[:top])[:, None]
        cosines = (toward_base @ vectors.T) / np.sqrt(of_base.values[:known])
    else:
        cosines = y @ vectors.T
    squares: Float64Array = np.minimum(np.square(cosines), 1.0)
    low: Float64Array = np.max(squares, axis=1, initial=0.0)
    if of_base.is_whole:
        return _Cosines(np.sqrt(low), np.sqrt(low))
    high = np.maximum(low, 1.0 - squares.sum(axis=1))
    rest = np.flatnonzero(high > low)
    starts = _within_image(sides, y[rest], toward_base[rest], of_base.values[0]) if len(rest) else None
    if starts is not None:
        bounds = heaviest(sides.base, starts, of_base.values[0], in_image=sides.is_tall)
        low[rest] = np.maximum(low[rest], bounds.low)
        high[rest] = np.maximum(low[rest], np.minimum(high[rest], bounds.high))
    return _Cosines(np.sqrt(low), np.sqrt(np.minimum(high, 1.0)))


def _within_image(sides: _Sides, y: Float64Array, toward_base: Float64Array, top: float) -> Float64Array | None:
    """What Lanczos can start from; None where that would take a Gram matrix too large to form.

    On the larger side y can lie outside of W's image, where W has no left singular vectors, and bounds would count that
    part. The part inside is ``aᵀ c`` with ``(a aᵀ) c = a y``.
    """
    if not sides.is_tall:
        return y
    if sides.gram is None:
        return None
    ridge = NULL * top * np.eye(len(sides.gram))
    return np.asarray(np.linalg.solve(sides.gram + ridge, toward_base.T).T)
