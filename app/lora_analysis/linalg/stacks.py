"""Stacks of equal matrices: one array with a leading axis, for which numpy needs one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .floats import Float64Array, widen

if TYPE_CHECKING:
    from ..adapter import FloatArray


def widened(arrays: Sequence[FloatArray]) -> Float64Array:
    """Arrays of one shape, of any stored dtypes, as one in float64 with a leading axis."""
    stack = np.empty((len(arrays), *arrays[0].shape))
    for array, out in zip(arrays, stack, strict=True):
        widen(array, out=out)
    return stack


def transposed(matrices: Float64Array) -> Float64Array:
    """Every matrix of a stack of any depth, transposed: a view. ``mT`` of numpy 2."""
    return matrices.swapaxes(-1, -2)
