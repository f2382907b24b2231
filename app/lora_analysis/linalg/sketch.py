"""A matrix that exists only as a stream of blocks of its rows, as a product of two narrow factors.

::

    Z = orth((DᵀD)^q Ω)       Ω normal random numbers, a pass per power
    D ≈ (D Z) Zᵀ              one more pass

``D Z Zᵀ`` is the projection of D, so what it misses is orthogonal to it: ``‖D - D Z Zᵀ‖² = ‖D‖² - ‖D Z‖²``, measured
without a further pass. Source: Halko, Martinsson, Tropp, SIAM Review 53 (2011) 217-288.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import NamedTuple

import numpy as np

from .floats import Float64Array

OVERSAMPLED = 10  # columns beyond the rank that is asked for
_POWERS = 2
Blocks = Callable[[], Iterator[tuple[int, Float64Array]]]  # first row of each block, and its rows


class Sketch(NamedTuple):
    """``left @ right``, and the norm of what it misses."""

    left: Float64Array  # (rows, size)
    right: Float64Array  # (size, columns)
    missing: float


def sketch(blocks: Blocks, shape: tuple[int, int], size: int, random: np.random.Generator) -> Sketch:
    """The matrix of ``shape`` that ``blocks()`` streams, again at each call, as factors of rank ``size``.

    Exact where ``size`` reaches the smaller side: the larger factor is then the matrix itself, which is no larger than
    factors of that rank are.
    """
    rows, columns = shape
    if size >= min(shape):
        dense = np.empty(shape)
        for start, block in blocks():
            dense[start : start + len(block)] = block
        if rows <= columns:
            return Sketch(np.eye(rows), dense, 0.0)
        return Sketch(dense, np.eye(columns), 0.0)
    basis = random.standard_normal((columns, size))
    for _ in range(_POWERS):
        image = np.zeros_like(basis)
        for _, block in blocks():
            image += block.T @ (block @ basis)
        basis = np.linalg.qr(image)[0]
    left, square = np.empty((rows, size)), 0.0
    for start, block in blocks():
        left[start : start + len(block)] = block @ basis
        square += float(np.sum(block**2))
    missing = sqrt(max(square - float(np.sum(left**2)), 0.0))
    return Sketch(left, basis.T, missing)
