"""Some entries of a delta without the rest of it: what a picture or a histogram needs of a large layer."""

from __future__ import annotations

from math import prod
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from ..adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Update, Vector
from ..errors import OpaqueUpdateError
from .dense import unfold
from .floats import Float64Array, widen

Indices = NDArray[np.intp]


def delta_entries(update: Update, rows: Indices, columns: Indices) -> Float64Array:
    """The entries of the delta as a matrix ``(out, in * k)`` at these rows and columns, scale included. float64.

    Returns: (len(rows), len(columns)); for a ``Vector`` it counts as one row, for ``Stacked`` experts stand below each
    other. Raises: OpaqueUpdateError where there is no delta without the base weight.
    """
    found: Float64Array
    match update:
        case LowRank():
            found = update.scale * (widen(update.up[rows]) @ unfold(update)[:, columns])
        case Dense() | Vector():
            found = update.scale * widen(_as_matrix(update)[np.ix_(rows, columns)])
        case Hadamard():
            first, second = (delta_entries(factor, rows, columns) for factor in (update.first, update.second))
            found = update.scale * first * second
        case Kronecker():
            found = update.scale * _kronecker(update, rows, columns)
        case Stacked():
            height = update.parts[0].shape[0]
            parts = [delta_entries(update.parts[row // height], np.array([row % height]), columns) for row in rows]
            found = np.vstack(parts) if parts else np.empty((0, len(columns)))
        case Opaque():
            raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
        case _:
            assert_never(update)
    return np.asarray(found)


def matrix_shape(update: Update) -> tuple[int, int]:
    """``(out, in * k)`` of the delta. Raises: OpaqueUpdateError."""
    if isinstance(update, Opaque):
        raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
    if isinstance(update, Vector):
        return 1, prod(update.shape)
    if isinstance(update, Stacked):
        experts, out, *rest = update.shape
        return experts * out, prod(rest)
    return update.shape[0], prod(update.shape[1:])


def evenly(length: int, count: int) -> Indices:
    """At most ``count`` indices below ``length``, at even distances, without chance: the same every time."""
    wanted = min(length, count)
    found: Indices = ((np.arange(wanted) + 0.5) * length / max(wanted, 1)).astype(np.intp)
    return found


def _as_matrix(update: Dense | Vector) -> NDArray[np.generic]:
    values = update.values
    return values.reshape(1, -1) if isinstance(update, Vector) else values.reshape(values.shape[0], -1)


def _kronecker(update: Kronecker, rows: Indices, columns: Indices) -> Float64Array:
    height, width = matrix_shape(update.second)  # the kernel belongs to the second factor
    first = delta_entries(update.first, rows // height, columns // width)
    found: Float64Array = first * delta_entries(update.second, rows % height, columns % width)
    return found
