"""Deltas of some rows of a weight: cut out of a fused projection, or put into one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..adapter import LowRank
from .floats import widen
from .moves import Move

if TYPE_CHECKING:
    from ..adapter import FloatArray


def move_rows(delta: LowRank, moves: Sequence[Move], rows: int) -> LowRank:
    """A delta of ``rows`` rows that holds the moved ones; the others are zero. Exact, and of the same rank."""
    up = widen(delta.up)
    return LowRank(moved(up, moves, rows), delta.down, delta.scale, delta.kernel, delta.core)


def moved(values: FloatArray, moves: Sequence[Move], rows: int) -> FloatArray:
    """The same for what has a value or a row of values per row of the weight."""
    placed = np.zeros((rows, *values.shape[1:]))
    for start, stop, to in moves:
        placed[to : to + stop - start] = values[start:stop]
    return placed
