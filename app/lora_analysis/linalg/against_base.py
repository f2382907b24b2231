"""A delta beside the weight that it is added to: how large, what it amplifies, which new directions it brings.

With ``Δ = U Σ Vᵀ`` and the base weight ``W``, all as matrices ``(out, in * k)``:

* relative norm ``‖Δ‖ / ‖W‖``;
* amplification ``‖Δ‖ / ‖Uᵀ W V‖`` (Hu et al., arXiv 2106.09685, section 7.3): how much Δ enlarges what W already did
  in Δ's directions. Random directions leave ``r ‖W‖ / √(out in)`` of W;
* alignment: the overlap φ(k, k) of Δ's and W's leading k directions, on either side. By chance ``k / n``;
* intruder dimensions (Shuttleworth et al., arXiv 2410.21228): of the first k left singular vectors of ``W + Δ``,
  those whose largest absolute cosine with any left singular vector of W is below ε.

The singular vectors of W are exact, from the eigenvectors of its smaller Gram matrix, up to a smaller side of
``EXACT``. Above, W is known by its ``LEADING`` leading vectors, from a randomised range finder with two power
iterations (N. Halko, P.-G. Martinsson, J. Tropp, SIAM Review 53 (2011) 217-288): a vector of W + Δ that resembles one
of the others only then counts as an intruder, so the count is an upper bound, and ``is_exact`` says so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..adapter import Update
from .finite import require_finite
from .floats import Float64Array, widen
from .subspace import span

if TYPE_CHECKING:
    from ..adapter import FloatArray

EXACT = 1536  # smaller side up to which every singular vector of the base is calculated
LEADING = 256
TOP, EPSILON = 10, 0.5  # k and ε of the authors' code
_OVERSAMPLING, _POWERS, _KRYLOV = 32, 2, 4
_NULL = 1e-7  # singular values of the base below, relative, have no direction of their own


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
    most_foreign: float | None  # the smallest of their largest cosines, 0 to 1
    compared_with: int  # left singular vectors of W
    is_exact: bool  # all of them

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class _Vectors(NamedTuple):
    """Left singular vectors of W, leading first, and the right ones of the first k."""

    left: Float64Array  # (out, n)
    right: Float64Array  # (in * k, k)
    is_exact: bool


def against_base(update: Update, base: FloatArray, *, top: int = TOP, epsilon: float = EPSILON) -> BaseFigures:
    """Figures of a delta beside ``base`` ``(out, in * k)``, of any stored dtype.

    Raises: NonFiniteError; ShapeError for what is no matrix.
    """
    require_finite("the base weight", base)
    weight = widen(base)
    delta = span(update)
    norm, size = float(np.linalg.norm(weight)), sqrt(delta.energy)
    if not norm or not delta.rank:
        relative = size / norm if norm else None
        return BaseFigures(norm, relative, None, None, 0, None, None, None, None, None, None, 0, True)
    u, v = delta.u(), delta.v()
    kept = float(np.linalg.norm((u.T @ weight) @ v))
    of_base = _left_vectors(weight, top)
    count = min(top, delta.rank, of_base.right.shape[1])
    changed = weight + (u * delta.s) @ v.T
    foreign = _foreign(of_base.left, changed, top)
    return BaseFigures(
        base_norm=norm,
        relative_norm=size / norm,
        amplification=size / kept if kept else None,
        chance_amplification=size * sqrt(weight.size) / (delta.rank * norm),
        top=count,
        alignment_left=_overlap(u, of_base.left, count),
        alignment_right=_overlap(v, of_base.right, count),
        chance_left=count / weight.shape[0],
        chance_right=count / weight.shape[1],
        intruders=int(np.count_nonzero(foreign < epsilon)),
        most_foreign=float(foreign.min()),
        compared_with=of_base.left.shape[1],
        is_exact=of_base.is_exact,
    )


def _overlap(first: Float64Array, second: Float64Array, count: int) -> float:
    return min(float(np.sum(np.square(first[:, :count].T @ second[:, :count]))) / count, 1.0)


def _foreign(left: Float64Array, changed: Float64Array, top: int) -> Float64Array:
    """For each of the ``top`` leading left singular vectors of ``changed``, its largest cosine with the base's."""
    leading = _leading_left(changed, min(top, *changed.shape))
    return np.asarray(np.minimum(np.max(np.abs(left.T @ leading), axis=0), 1.0))


def _left_vectors(weight: Float64Array, top: int) -> _Vectors:
    if min(weight.shape) <= EXACT:
        left, is_exact = _by_gram(weight, min(weight.shape)), True
    else:
        left, is_exact = _by_range(weight, LEADING), False
    right = weight.T @ left[:, :top]
    return _Vectors(left, right / np.linalg.norm(right, axis=0), is_exact)


def _leading_left(matrix: Float64Array, count: int) -> Float64Array:
    """The ``count`` leading left singular vectors: exact for a small side, by block Krylov iteration else.

    Source of the second: C. Musco, C. Musco, NeurIPS 2015, from a fixed start.
    """
    if min(matrix.shape) <= EXACT:
        return _by_gram(matrix, count)
    block = matrix @ np.random.default_rng(0).standard_normal((matrix.shape[1], 2 * count))
    blocks = []
    for _ in range(_KRYLOV):
        block = np.linalg.qr(block)[0]
        blocks.append(block)
        block = matrix @ (matrix.T @ block)
    return _refined(np.linalg.qr(np.concatenate(blocks, axis=1))[0], matrix, count)


def _by_gram(matrix: Float64Array, count: int) -> Float64Array:
    """Leading left singular vectors from the eigenvectors of the smaller Gram matrix; null directions are left out."""
    is_wide = matrix.shape[0] <= matrix.shape[1]
    values, vectors = np.linalg.eigh(matrix @ matrix.T if is_wide else matrix.T @ matrix)
    kept = int(np.count_nonzero(values > _NULL**2 * values[-1])) if values[-1] > 0 else 0
    chosen = vectors[:, ::-1][:, : max(1, min(count, kept))]
    if is_wide:
        return np.asarray(chosen)
    left = matrix @ chosen
    return np.asarray(left / np.linalg.norm(left, axis=0))


def _by_range(matrix: Float64Array, count: int) -> Float64Array:
    block = matrix @ np.random.default_rng(0).standard_normal((matrix.shape[1], count + _OVERSAMPLING))
    for _ in range(_POWERS):
        block = matrix @ (matrix.T @ np.linalg.qr(block)[0])
    return _refined(np.linalg.qr(block)[0], matrix, count)


def _refined(basis: Float64Array, matrix: Float64Array, count: int) -> Float64Array:
    """The best left singular vectors within the span of ``basis``."""
    inside = basis.T @ matrix
    _, vectors = np.linalg.eigh(inside @ inside.T)
    return np.asarray(basis @ vectors[:, : -count - 1 : -1])
