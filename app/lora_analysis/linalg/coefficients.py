"""Merged deltas of the form ``Σ γₜ Δₜ``: the coefficients come from inner products of the deltas alone.

``<Δᵢ, Δⱼ> = sᵢ sⱼ Σ (upᵢᵀ upⱼ) ∘ (downᵢ downⱼᵀ)``, so nothing larger than rank × rank is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import acos, fsum, sin

import numpy as np

from ..adapter import LowRank
from ..errors import OptionError
from .dense import unfold
from .finite import require_finite
from .floats import Float64Array, widen

PARALLEL = 0.9995  # |cosine| above which slerp is a straight line: sin θ is too small to divide by
_STEPS = 1000
_CONVERGED = 1e-13  # length of a step on the unit sphere


def inner_products(deltas: Sequence[LowRank]) -> Float64Array:
    """``(T, T)`` of ``<Δᵢ, Δⱼ>`` in the Frobenius sense, scales included. Raises: NonFiniteError."""
    count = len(deltas)
    ups, downs = [widen(delta.up) for delta in deltas], [unfold(delta) for delta in deltas]
    found = np.empty((count, count))
    for i in range(count):
        for j in range(i, count):
            product = float(np.sum((ups[i].T @ ups[j]) * (downs[i] @ downs[j].T)))
            found[i, j] = found[j, i] = deltas[i].scale * deltas[j].scale * product
    require_finite("the inner products", found)
    return found


def cosines(gram: Float64Array) -> Float64Array:
    """Inner products as cosines; 0 with a delta that is zero."""
    norms = np.sqrt(np.maximum(np.diag(gram), 0.0))
    scale = np.outer(norms, norms)
    found = np.divide(gram, scale, out=np.zeros_like(gram), where=scale > 0)
    return np.asarray(np.clip(found, -1.0, 1.0))


def mean_cosine(gram: Float64Array) -> float | None:
    """The mean over pairs; None for fewer than two deltas."""
    count = len(gram)
    return None if count < 2 else float(np.mean(cosines(gram)[np.triu_indices(count, 1)]))


def slerp(gram: Float64Array, weights: Sequence[float]) -> list[float]:
    """Spherical interpolation between two deltas, ``t = |w₂| / (|w₁| + |w₂|)``, times ``|w₁| + |w₂|``.

    A negative weight turns its delta round first. Where the two are parallel (|cos| > 0.9995), or one is zero, it is
    the straight line. ``gram`` holds the inner products of the unweighted deltas.
    Source: K. Shoemake, SIGGRAPH 1985; on weights: mergekit's ``slerp``.
    """
    signs = [np.copysign(1.0, weight) for weight in weights]
    total = fsum(map(abs, weights))
    t = abs(weights[1]) / total
    cosine = float(cosines(gram)[0, 1]) * signs[0] * signs[1]
    if abs(cosine) > PARALLEL or min(gram[0, 0], gram[1, 1]) <= 0:
        return list(map(float, weights))
    angle = acos(cosine)
    shares = sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)
    return [total * share * sign for share, sign in zip(shares, signs, strict=True)]


def karcher(gram: Float64Array, weights: Sequence[float]) -> list[float]:
    """The weighted Fréchet mean of the directions on the sphere, its norm the weighted mean of the norms, times Σ|w|.

    The fixed point ``x ← exp_x(Σ pₜ log_x(uₜ))`` of the unit deltas ``uₜ = sgn(wₜ) Δₜ / ‖Δₜ‖``, ``p = |w| / Σ|w|``,
    started at ``Σ pₜ uₜ``. Everything stays in the span of the deltas, so points are coefficients.
    Source: H. Karcher, Comm. Pure Appl. Math. 30 (1977) 509-541.
    Raises: OptionError where the directions cancel or lie too far apart to have one mean.
    """
    norms = np.sqrt(np.maximum(np.diag(gram), 0.0))
    acting = [t for t, norm in enumerate(norms) if norm > 0]
    if not acting:
        return list(map(float, weights))
    signs = np.copysign(1.0, np.asarray(weights))
    metric = (cosines(gram) * np.outer(signs, signs))[np.ix_(acting, acting)]
    shares = np.abs(np.asarray(weights)[acting])
    mean = _sphere_mean(metric, shares / shares.sum())
    length = float(np.sum(np.abs(np.asarray(weights)) * norms))  # Σ|w| times the weighted mean of the norms
    found = [0.0] * len(weights)
    for position, t in enumerate(acting):
        found[t] = float(length * mean[position] * signs[t] / norms[t])
    return found


def _sphere_mean(metric: Float64Array, shares: Float64Array) -> Float64Array:
    """Coefficients of the mean direction in unit vectors whose cosines are ``metric``."""
    point = _unit(shares.copy(), metric)
    for _ in range(_STEPS):
        along = np.clip(metric @ point, -1.0, 1.0)
        angles = np.arccos(along)
        # log_x(u) = θ / sin θ (u - cos θ x); the factor is 1 at θ = 0.
        factors = np.divide(angles, np.sin(angles), out=np.ones_like(angles), where=np.sin(angles) > 1e-12)
        step = shares * factors
        tangent = step - float(step @ along) * point
        length = float(np.sqrt(max(float(tangent @ metric @ tangent), 0.0)))
        if length < _CONVERGED:
            return point
        point = _unit(np.cos(length) * point + np.sin(length) / length * tangent, metric)
    raise OptionError("the deltas point too far apart to have a mean direction; karcher has no answer for them")


def _unit(point: Float64Array, metric: Float64Array) -> Float64Array:
    square = float(point @ metric @ point)
    if square <= 1e-20:
        raise OptionError("the deltas cancel, so their mean has no direction; karcher has no answer for them")
    return np.asarray(point / np.sqrt(square))


def model_stock(gram: Float64Array, weights: Sequence[float]) -> list[float]:
    """``τ wₜ`` with ``τ = N c / (1 + (N - 1) c)``, ``c`` the mean cosine of the N deltas, each with its weight's sign.

    With equal normalised weights that is ``τ`` times the mean of the deltas. Deltas that share nothing (c near 0) are
    taken for noise around the base weight, and hardly anything is left.
    Source: Jang, Yun, Han, arXiv 2403.19522; for N > 2 the average cosine.
    """
    count = len(weights)
    if count < 2:
        return list(map(float, weights))
    signs = np.copysign(1.0, np.asarray(weights))
    cosine = mean_cosine(gram * np.outer(signs, signs))
    assert cosine is not None
    divisor = 1 + (count - 1) * cosine
    ratio = count * cosine / divisor if divisor > 1e-12 else 0.0  # at 0 the deltas cancel: any multiple is zero
    return [ratio * weight for weight in weights]
