"""Calculated values as stored bytes: rounded once, to the output's type."""

from __future__ import annotations

from threading import local
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

    # By way of float32: numpy's direct cast from float64 to fp16 is several times slower, and the second
    # rounding changes a value by less than 1e-3 of its last place.
    is_narrow = values.dtype.itemsize <= 4 or dtype == "F64"
    if dtype == "F16" and (values.dtype == np.float32 or not is_narrow):
        return _half(values, name, is_measured=is_measured and is_narrow)
    largest = max(float(values.max()), -float(values.min())) if values.size else 0.0
    _require_fit(largest, dtype, name)
    narrowed = values if is_narrow else values.astype(np.float32)
    return Encoded(np.ascontiguousarray(narrowed.astype(array_type(dtype))), largest, None)


def _require_fit(largest: float, dtype: str, name: str) -> None:
    if not largest <= _LARGEST.get(dtype, _LARGEST_FLOAT32):  # also true for NaN
        raise NonFiniteError(f"{name}: values up to {largest:.3g} do not fit {dtype}; write bf16 or fp32")


def _half(values: FloatArray, name: str, *, is_measured: bool) -> Encoded:
    """Values as fp16, bit for bit what numpy's cast from float32 gives (nearest, ties to even), and faster.

    numpy raises the processor's underflow flag for every subnormal result, which takes 80 ns; balanced factors of a
    trained adapter hold some per cent of them. Measured on one core, in ns a value: numpy 3.1 without subnormals,
    9 with 5 %, 41 with half; this 2.1, whatever the values, and 2.5 where the rounding is measured.
    """
    import numpy as np

    result = np.empty(values.shape, np.uint16)
    moved = np.empty(values.shape, np.float32) if is_measured else None
    largest = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is refused
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        for start in range(0, flat.size, _BLOCK_VALUES):  # small enough that every temporary stays in the cache
            block = slice(start, start + _BLOCK_VALUES)
            found = _half_bits(
                flat[block], result.reshape(-1)[block], None if moved is None else moved.reshape(-1)[block]
            )
            _require_fit(found, "F16", name)
            largest = max(largest, found)
    return Encoded(result.view(array_type("F16")), largest, moved)


class _Room(local):
    """One thread's room for intermediate values, used again and again: fresh memory costs more than what is done."""

    arrays: tuple[FloatArray, ...] | None = None

    def of(self, count: int) -> tuple[FloatArray, ...]:
        import numpy as np

        if self.arrays is None:
            types = (np.float32, np.float32, np.float32, np.bool_, np.uint16)
            self.arrays = tuple(np.empty(_BLOCK_VALUES, dtype) for dtype in types)
        return tuple(array[:count] for array in self.arrays)


_room = _Room()


def _half_bits(values: FloatArray, out: FloatArray, moved: FloatArray | None) -> float:
    """Write the bits of a block, and say how large the largest of its values is; NaN where one is none.

    Adding ``2^(E + 13)`` to ``|x|`` rounds it to a multiple of ``2^(E - 10)``, fp16's step at exponent E, which is the
    value's, or -14 for what becomes subnormal. The lower bits of the sum are the multiple, from 0 to 2048; with
    ``(E + 14) << 10`` added it is fp16's exponent and fraction, a carry into the next exponent included.
    ``moved`` receives the difference of the rounded and the old magnitude.
    """
    import numpy as np

    magnitudes, powers, sums, is_negative, signs = _room.of(values.size)
    power, bits = powers.view(np.uint32), sums.view(np.uint32)
    np.abs(values, out=magnitudes)
    largest = float(magnitudes.max())
    np.maximum(magnitudes, np.float32(2.0**-14), out=powers)
    power &= np.uint32(0x7F800000)  # (E + 127) << 23
    power += np.uint32(13 << 23)
    np.add(magnitudes, powers, out=sums)
    if moved is not None:
        np.subtract(sums, powers, out=moved)  # exact, both times
        moved -= magnitudes
    power >>= np.uint32(13)
    bits += power
    np.copyto(out, bits, casting="unsafe")  # what is cut off, the exponent of the sum too, is a multiple of 2^16
    out -= np.uint16((127 - 1) << 10 & 0xFFFF)  # (E + 127 + 13) - (127 - 1) = E + 14
    np.signbit(values, out=is_negative)
    np.multiply(is_negative, np.uint16(0x8000), out=signs)
    out |= signs
    return largest


def buffer_of(array: FloatArray) -> memoryview:
    """The array's bytes as a buffer; bf16 and fp8 arrays export none by themselves."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data
