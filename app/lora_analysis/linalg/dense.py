"""The dense delta of an update: the definition that every faster route has to agree with.

It costs ``out * in * k`` values of memory, so the engine forms it only for what has no smaller form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import numpy as np

from ..adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Update, Vector
from ..errors import OpaqueUpdateError
from .floats import Precision, widen

if TYPE_CHECKING:
    from ..adapter import FloatArray


def materialise(update: Update, dtype: Precision = "float64") -> FloatArray:
    """The delta itself, scale included, calculated in ``dtype``.

    Returns: a new array of shape ``update.shape``: ``(out, in, *kernel)``, ``(experts, out, in)`` for
    ``Stacked``, the stored shape for ``Vector``. NaN and infinity in the factors stay what they are.
    Raises: OpaqueUpdateError where there is no delta without the base weight.
    """
    match update:
        case LowRank():
            return scaled(_product(update, dtype), update.scale).reshape(update.shape)
        case Dense() | Vector():
            return scaled(widen(update.values, dtype), update.scale)
        case Hadamard():
            return scaled(materialise(update.first, dtype) * materialise(update.second, dtype), update.scale)
        case Kronecker():
            return scaled(_kron(update, dtype), update.scale).reshape(update.shape)
        case Stacked():
            return np.stack([materialise(part, dtype) for part in update.parts])
        case Opaque():
            raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
        case _:
            assert_never(update)


def scaled(array: FloatArray, scale: float) -> FloatArray:
    """A new array, ``scale`` times the old one, in the old one's dtype."""
    result: FloatArray = array * array.dtype.type(scale)
    return result


def unfold(update: LowRank, dtype: Precision = "float64") -> FloatArray:
    """``down`` as ``(rank, in * k)``, a Tucker core multiplied into it; kernel positions vary fastest."""
    down = widen(update.down, dtype)
    if update.core is None:
        return down
    core = widen(update.core, dtype).reshape(update.core.shape[0], update.core.shape[1], -1)
    joined = np.tensordot(core, down, axes=(1, 0))  # (rank, k, in)
    return joined.transpose(0, 2, 1).reshape(core.shape[0], -1)


def _product(update: LowRank, dtype: Precision) -> FloatArray:
    product: FloatArray = widen(update.up, dtype) @ unfold(update, dtype)
    return product


def _kron(update: Kronecker, dtype: Precision) -> FloatArray:
    # The kernel is the fastest axis of the second factor, so the product of the unfolded matrices is the
    # unfolded product: columns (i1, (i2, x)) = ((i1, i2), x).
    first, second = materialise(update.first, dtype), materialise(update.second, dtype)
    return np.kron(first, second.reshape(second.shape[0], -1))
