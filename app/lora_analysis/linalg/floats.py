"""Stored weights as numbers to calculate with: fp8, fp16, bf16, fp32 and fp64 as float32 or float64.

Widening is exact: every stored format but float64 is a subset of float32. Only speed needs care. Measured on
one core, 1280 x 128 values that fit the cache, in 10^9 values a second: ``astype`` fp16 to float64 0.7, the
bit shift below 1.1; fp8 0.17, the table 0.75. numpy is fast by itself for bf16 (6) and fp32 (4).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ..adapter import FloatArray

Precision = Literal["float32", "float64"]
Float64Array: TypeAlias = NDArray[np.floating[Any]]  # float64; numpy's annotations of linalg promise no more
Float32Array: TypeAlias = NDArray[np.float32]

# Per target: the integer of its width, the shift that puts fp16's exponent and fraction where the target has
# its own, the mask that keeps the sign once and drops its copies, and 2 to the difference of the exponent biases.
_HALF: dict[np.dtype[Any], tuple[Any, int, Any, Any]] = {
    np.dtype(np.float32): (np.int32, 13, np.int32(~(0x7 << 28)), np.float32(2.0 ** (127 - 15))),
    np.dtype(np.float64): (np.int64, 42, np.int64(~(0x3F << 57)), np.float64(2.0 ** (1023 - 15))),
}


def widen(array: FloatArray, dtype: Precision = "float64", out: FloatArray | None = None) -> FloatArray:
    """``array`` in ``dtype``, exactly; the same object where it already is. NaN and infinity pass through.

    ``out``, of the same shape and of ``dtype``, receives the result; it spares the cost of fresh memory in loops.
    """
    if out is None:
        if array.dtype == dtype:
            return array
        out = np.empty(array.shape, dtype)
    if array.dtype == np.float16 and not _holds_special_half(array):
        _shift_half(array, out)
    elif array.dtype.itemsize == 1:
        np.take(_table(array.dtype, out.dtype), array.view(np.uint8), out=out, mode="clip")
    else:
        np.copyto(out, array, casting="unsafe")  # numpy does not know that ml_dtypes' casts are safe
    return out


def _holds_special_half(array: FloatArray) -> bool:
    """Whether an fp16 array holds NaN or infinity, whose exponent bits are all ones: 0x7C00 and the sign."""
    # As signed integers the positive ones are the largest, as unsigned integers the negative ones: two maxima
    # need no temporary array.
    return bool(array.view(np.int16).max(initial=0) >= 0x7C00 or array.view(np.uint16).max(initial=0) >= 0xFC00)


def _shift_half(array: FloatArray, out: FloatArray) -> None:
    """fp16 to a wider format by moving bits; exact for subnormals too, which the multiplication normalises."""
    integer, shift, mask, factor = _HALF[out.dtype]
    bits = out.view(integer)
    np.left_shift(array.view(np.int16), integer(shift), out=bits)  # sign extended: copies above the exponent
    np.bitwise_and(bits, mask, out=bits)
    np.multiply(out, factor, out=out)


@lru_cache
def _table(stored: np.dtype[np.generic], dtype: np.dtype[np.generic]) -> FloatArray:
    """The value of every byte of an 8-bit format."""
    table: FloatArray = np.arange(256, dtype=np.uint8).view(stored).astype(dtype)
    table.flags.writeable = False
    return table
