"""Calculated values as stored bytes: rounded once, to the output's type."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..errors import NonFiniteError
from .dtypes import array_type

if TYPE_CHECKING:
    from ..adapter import FloatArray


_LARGEST = {"F8_E4M3": 448.0, "F8_E5M2": 57344.0, "F16": 65504.0}
_LARGEST_FLOAT32 = 3.4028234e38
_BLOCK_VALUES = 1 << 16


class Encoded(NamedTuple):
    """Values as they are stored, and what was seen on the way."""

    values: FloatArray  # in the stored type, C order
    largest: float  # magnitude before
    moved: FloatArray | None  # |stored - value|, float32; None where only another pass would tell


def encode(values: FloatArray, dtype: str, name: str) -> FloatArray:
    """``values`` in the safetensors type ``dtype``, C order.

    Raises: NonFiniteError naming the tensor where a value is too large for the type.
    """
    return _encoded(values, dtype, name, is_measured=False).values


def encode_measured(values: FloatArray, dtype: str, name: str) -> Encoded:
    """As ``encode``, with what rounding did to values that go from float32 to fp16. Raises: as ``encode``."""
    return _encoded(values, dtype, name, is_measured=True)


def _encoded(values: FloatArray, dtype: str, name: str, *, is_measured: bool) -> Encoded:
    import numpy as np

    largest = max(float(values.max()), -float(values.min())) if values.size else 0.0
    if not largest <= _LARGEST.get(dtype, _LARGEST_FLOAT32):  # also true for NaN
        raise NonFiniteError(f"{name}: values up to {largest:.3g} do not fit {dtype}; write bf16 or fp32")
    # By way of float32: numpy's direct cast from float64 to fp16 is several times slower, and the second
    # rounding changes a value by less than 1e-3 of its last place.
    narrowed = values.astype(np.float32) if values.dtype.itemsize > 4 and dtype != "F64" else values
    if dtype != "F16" or narrowed.dtype != np.float32:
        return Encoded(np.ascontiguousarray(narrowed.astype(array_type(dtype))), largest, None)
    moved = np.empty(values.shape, np.float32) if is_measured and narrowed is values else None
    return Encoded(_half(np.ascontiguousarray(narrowed), moved), largest, moved)


def _half(values: FloatArray, moved: FloatArray | None) -> FloatArray:
    """float32 of at most 65504 as fp16, bit for bit what numpy's cast gives (nearest, ties to even), and faster.

    numpy raises the processor's underflow flag for every subnormal result, which takes 80 ns; balanced factors of a
    trained adapter hold some per cent of them. Measured on one core, in ns a value: numpy 3.1 without subnormals,
    9 with 5 %, 41 with half; this 2, whatever the values.
    """
    import numpy as np

    result = np.empty(values.shape, np.uint16)
    flat, out = values.reshape(-1), result.reshape(-1)
    for start in range(0, flat.size, _BLOCK_VALUES):  # small enough that every temporary stays in the cache
        block = slice(start, start + _BLOCK_VALUES)
        out[block] = _half_bits(flat[block], None if moved is None else moved.reshape(-1)[block])
    return result.view(array_type("F16"))


def _half_bits(values: FloatArray, moved: FloatArray | None) -> FloatArray:
    """Adding ``2^(E + 13)`` to ``|x|`` rounds it to a multiple of ``2^(E - 10)``, fp16's step at exponent E.

    E is the value's exponent, or -14 for what becomes subnormal. The difference of the bits is the multiple, from 0
    to 2048; with ``(E + 14) << 10`` added it is fp16's exponent and fraction, a carry into the next exponent included.
    ``moved`` receives the difference of the rounded and the old magnitude.
    """
    import numpy as np

    magnitudes = np.abs(values)
    power = magnitudes.view(np.uint32) & np.uint32(0x7F800000)
    np.maximum(power, np.uint32((127 - 14) << 23), out=power)
    power += np.uint32(13 << 23)
    sums = magnitudes + power.view(np.float32)
    if moved is not None:
        np.subtract(sums, power.view(np.float32), out=moved)  # exact, both times
        moved -= magnitudes
    bits = sums.view(np.uint32) - power
    power >>= np.uint32(13)
    bits += power - np.uint32((127 - 1) << 10)  # (E + 127 + 13) - (127 - 1) = E + 14
    signs = (values.view(np.uint32) >> np.uint32(16)) & np.uint32(0x8000)
    half: FloatArray = (bits | signs).astype(np.uint16)
    return half


def buffer_of(array: FloatArray) -> memoryview:
    """The array's bytes as a buffer; bf16 and fp8 arrays export none by themselves."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data
