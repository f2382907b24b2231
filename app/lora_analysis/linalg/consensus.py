"""What entry-wise methods do with the entries of weighted deltas: trim, drop, elect a sign, average.

Here ``xₜ = wₜ δₜ`` are arrays of one shape: blocks of rows of the deltas, or the deltas in a basis they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from zlib import crc32

import numpy as np

from .floats import Float64Array


def keep_count(density: float, total: int) -> int:
    """How many of ``total`` entries are kept: ``floor(density · total)``, at least one."""
    return max(1, int(density * total + 1e-9))


def trim(values: Float64Array, threshold: float) -> Float64Array:
    """Entries of at least this magnitude; the others become 0. Equal magnitudes stay or go together."""
    return np.where(np.abs(values) >= threshold, values, 0.0)


def drop(values: Float64Array, density: float, random: np.random.Generator) -> Float64Array:
    """DARE: every entry stays with probability ``density`` and is divided by it, so that the mean stays.

    Source: Yu et al., arXiv 2311.03099. (mergekit scales to the same sum of magnitudes instead.)
    """
    return np.where(random.random(values.shape) < density, values / density, 0.0)


def drop_by_rank(values: Float64Array, density: float, epsilon: float, random: np.random.Generator) -> Float64Array:
    """DELLA: as ``drop``, but large entries of a row stay more often.

    The probability rises linearly from ``density - epsilon`` for the smallest magnitude of a row to
    ``density + epsilon`` for the largest; what stays is divided by its own. Source: Deep et al., arXiv 2406.11617.
    """
    columns = values.shape[1]
    order = np.argsort(np.argsort(np.abs(values), axis=1, kind="stable"), axis=1, kind="stable")
    steps = order / (columns - 1) if columns > 1 else np.full(values.shape, 0.5)
    chances = density - epsilon + 2 * epsilon * steps
    return np.where(random.random(values.shape) < chances, values / chances, 0.0)


def elect(values: Sequence[Float64Array], weights: Sequence[float]) -> Float64Array:
    """TIES: the sign of the sum wins, and the entries that have it are averaged.

    ``Σ|w| · Σ_{agreeing} xₜ / Σ_{agreeing} |wₜ|``: for normalised weights the weighted mean of the agreeing entries,
    and twice that for weights twice as large. A sum of 0 elects +. Source: Yadav et al., arXiv 2306.01708.
    """
    total = np.zeros_like(values[0])
    for one in values:
        total += one
    positive = total >= 0
    numerator, denominator = np.zeros_like(total), np.zeros_like(total)
    for one, weight in zip(values, weights, strict=True):
        agrees = np.where(positive, one > 0, one < 0)
        numerator += np.where(agrees, one, 0.0)
        denominator += np.where(agrees, abs(weight), 0.0)
    return fsum(map(abs, weights)) * np.divide(numerator, denominator, out=numerator, where=denominator > 0)


def generator(seed: int, name: str, expert: int, number: int) -> np.random.Generator:
    """The stream of random numbers of one adapter in one layer.

    Numbers are used in the order of the entries of the whole matrix, row by row, so that neither the size of the
    blocks nor the order of the layers has a say.
    """
    return np.random.default_rng([seed, crc32(name.encode()), expert, number])
