"""Stored weights as numbers to calculate with: fp8, fp16, bf16, fp32 and fp64 as float32 or float64.

Widening is exact: every stored format but float64 is a subset of float32. Only speed needs care. Measured on
one core, 1280 x 128 values, in 10^9 values a second: fp16 to float32 by ``astype`` 0.5 and by the table below 1.3,
to float64 0.7 and 1.0. numpy is fast by itself for bf16 (6) and fp32 (4).

Tables also take the same time whatever the values. Half of the values of a trained adapter's ``up`` may be subnormal
in fp16; ``astype`` is then ten times slower (0.1), and so is moving bits and multiplying, because processors multiply
subnormal numbers in microcode.
"""

from __future__ import annotations

from functools import lru_cache
from threading import local
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..adapter import FloatArray

Precision = Literal["float32", "float64"]
Float64Array: TypeAlias = NDArray[np.floating[Any]]  # float64; numpy's annotations of linalg promise no more
Float32Array: TypeAlias = NDArray[np.float32]

_LOOKED_UP = 1 << 16  # values at a time, as indices of 8 bytes each


def widen(array: FloatArray, dtype: Precision = "float64", out: FloatArray | None = None) -> FloatArray:
    """``array`` in ``dtype``, exactly; the same object where it already is. NaN and infinity pass through.

    ``out``, of the same shape and of ``dtype``, receives the result; it spares the cost of fresh memory in loops.
    """
    if out is None:
        if array.dtype == dtype:
            return array
        out = np.empty(array.shape, dtype)
    if array.dtype == np.float16 or array.dtype.itemsize == 1:
        _look_up(_table(array.dtype, out.dtype), array.view(f"u{array.dtype.itemsize}"), out)
    else:
        np.copyto(out, array, casting="unsafe")  # numpy does not know that ml_dtypes' casts are safe
    return out


class _Indices(local):
    """One thread's room for what numpy looks up by, used again and again: fresh memory costs more than the look-up."""

    def __init__(self) -> None:
        self.room = np.empty(_LOOKED_UP, np.intp)


_indices = _Indices()  # one per thread


def _look_up(table: FloatArray, codes: NDArray[np.unsignedinteger[Any]], out: FloatArray) -> None:
    if codes.flags.f_contiguous and out.flags.f_contiguous:
        codes, out = codes.T, out.T
    if not (codes.flags.c_contiguous and out.flags.c_contiguous):
        np.take(table, codes, out=out, mode="wrap")
        return
    codes, out = codes.reshape(-1), out.reshape(-1)
    for start in range(0, codes.size, _LOOKED_UP):
        part = codes[start : start + _LOOKED_UP]
        indices = _indices.room[: part.size]
        np.copyto(indices, part)
        # No code lies outside the table; of all modes "wrap" is the fastest.
        table.take(indices, out=out[start : start + _LOOKED_UP], mode="wrap")


@lru_cache
def _table(stored: np.dtype[np.generic], dtype: np.dtype[np.generic]) -> FloatArray:
    """The value of every code of a format of 8 or 16 bits: at most half a megabyte."""
    codes = np.arange(1 << 8 * stored.itemsize, dtype=f"u{stored.itemsize}")
    with np.errstate(invalid="ignore"):  # some codes are signalling NaNs
        table: FloatArray = codes.view(stored).astype(dtype)
    table.flags.writeable = False
    return table
