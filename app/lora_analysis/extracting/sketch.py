"""Truncated SVD of a dense matrix by a randomised range finder, with its error measured and not estimated.

N. Halko, P. G. Martinsson, J. A. Tropp, SIAM Review 53 (2011) 217-288, algorithms 4.4 and 5.1: the range of
``(A Aᵀ)^p A G`` for a Gaussian ``G``, orthonormalised between products.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from ..errors import NonFiniteError
from ..linalg.floats import Float64Array

_OVERSAMPLING = 16


class Sketch(NamedTuple):
    """The leading singular triplets, balanced: ``up = u √s``, ``down = √s vt``."""

    up: Float64Array  # (out, rank)
    down: Float64Array  # (rank, in * k)
    singular_values: Float64Array  # as many as the sketch found, largest first
    norm: float  # of the whole matrix, exact


def norm_of(matrix: Float64Array, name: str) -> float:
    """Frobenius norm. Raises: NonFiniteError naming the layer."""
    norm = float(np.linalg.norm(matrix))
    if not np.isfinite(norm):
        raise NonFiniteError(f"{name}: a checkpoint holds NaN or infinity there")
    return norm


def sketch(matrix: Float64Array, rank: int, *, seed: int, power: int, name: str) -> Sketch:
    """The best approximation of at most ``rank``, near enough that the measured error tells no difference.

    Exact where the sketch would be as large as the matrix. The same seed and name give the same result.
    """
    norm = norm_of(matrix, name)
    limit = min(matrix.shape)
    size = rank + _OVERSAMPLING
    if 2 * size >= limit:
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    else:
        basis = _range(matrix, size, np.random.default_rng([seed, zlib.crc32(name.encode())]), power)
        small, s, vt = np.linalg.svd(basis.T @ matrix, full_matrices=False)
        u = basis @ small
    root = np.sqrt(s[:rank])
    return Sketch(u[:, :rank] * root, root[:, None] * vt[:rank], s, norm)


def _range(matrix: Float64Array, size: int, rng: np.random.Generator, power: int) -> Float64Array:
    found = np.linalg.qr(matrix @ rng.standard_normal((matrix.shape[1], size)))[0]
    for _ in range(power):
        back = np.linalg.qr(matrix.T @ found)[0]
        found = np.linalg.qr(matrix @ back)[0]
    return np.asarray(found)
