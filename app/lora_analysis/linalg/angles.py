"""Principal angles between subspaces, what they say together, and what chance would show.

The cosines are the singular values of ``U₁ᵀ U₂`` (Å. Björck, G. Golub, Math. Comp. 27 (1973) 579-594). For large n the
squared cosines of random subspaces fill the interval of K. W. Wachter (Ann. Statist. 8 (1980) 937-957), which gives the
expected smallest and largest angle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import pi, sqrt
from typing import TypeAlias

import numpy as np

from .floats import Float64Array
from .stacks import transposed

Bases: TypeAlias = Callable[[], tuple[Float64Array, Float64Array]]
_NEARLY_PARALLEL = 0.9  # cosines above lose digits as angles: their sines are calculated too
_QUADRATURE = 64


def principal_angles(first: Float64Array, second: Float64Array) -> Float64Array:
    """Angles between the spans of orthonormal columns (n, p) and (n, q), smallest first, in radians."""
    return np.asarray(angles_of((first.T @ second)[None], lambda: (first[None], second[None]))[0])


def angles_of(crosses: Float64Array, bases: Bases) -> Float64Array:
    """As ``principal_angles``, of a stack (count, p, q) of ``U₁ᵀ U₂``.

    ``bases`` makes both stacks of bases, (count, n, p) and (count, n, q), where small angles need them: these come from
    their sines, see A. Knyazev, M. Argentati, SIAM J. Sci. Comput. 23 (2002) 2008-2040.
    """
    if 0 in crosses.shape:
        return np.zeros((len(crosses), 0))
    cosines = np.minimum(np.linalg.svd(crosses, compute_uv=False), 1.0)
    angles = np.arccos(cosines)
    near = cosines[:, 0] > _NEARLY_PARALLEL
    if near.any():
        first, second = (basis[near] for basis in bases())
        if first.shape[-1] < second.shape[-1]:
            first, second = second, first
        residual = second - first @ (transposed(first) @ second)  # its singular values are the sines
        sines = np.sqrt(
            np.maximum(np.linalg.eigvalsh(transposed(residual) @ residual), 0.0)
        )  # smallest first, as the angles
        angles[near] = np.where(cosines[near] > _NEARLY_PARALLEL, np.arcsin(np.minimum(sines, 1.0)), angles[near])
    return np.asarray(angles)


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


def summarise_angles(angles: Float64Array, first: int, second: int, dimension: int) -> list[AngleSummary]:
    """Of a stack (count, min(p, q)) of angles, smallest first.

    The distances are those of K. Ye, L.-H. Lim, SIAM J. Matrix Anal. Appl. 37 (2016) 1176-1197.
    """
    chance = chance_angles(first, second, dimension)
    by_chance = {
        "chance_smallest": float(chance[0]),
        "chance_largest": float(chance[-1]),
        "chance_squared_cosine": max(first, second) / dimension,
        "chance_grassmann": float(np.linalg.norm(chance)),
        "chance_chordal": sqrt(min(first, second) * (1 - max(first, second) / dimension)),
    }
    figures = zip(
        angles[:, 0].tolist(),
        angles[:, -1].tolist(),
        np.mean(np.square(np.cos(angles)), axis=1).tolist(),
        np.linalg.norm(angles, axis=1).tolist(),
        np.linalg.norm(np.sin(angles), axis=1).tolist(),
        strict=True,
    )
    return [AngleSummary(dimension, first, second, *figure, **by_chance) for figure in figures]


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
