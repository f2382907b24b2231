"""The element types of the safetensors specification: sizes, arrays, and single values without numpy.

Source: https://github.com/huggingface/safetensors, ``Dtype`` in ``tensor.rs`` (0.8).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FormatError

if TYPE_CHECKING:
    import numpy as np

MAX_DIMENSIONS = 64  # what numpy 2 holds


class _Type(NamedTuple):
    bits: int
    array: str | None  # its name in numpy or ml_dtypes; None where bytes hold more than one value
    value: str | Callable[[bytes], float] | None  # of little-endian bytes: struct's code, or a reader of one element


def _bfloat16(raw: bytes) -> float:
    return float(struct.unpack("<f", b"\0\0" + raw)[0])  # the upper half of a float32


def _e5m2(raw: bytes) -> float:
    return float(struct.unpack("<e", b"\0" + raw)[0])  # the upper half of a float16


def _e4m3(raw: bytes) -> float:
    return math.nan if raw[0] & 0x7F == 0x7F else _small_float(raw[0], mantissa_bits=3, bias=7)


def _e4m3_fnuz(raw: bytes) -> float:
    return math.nan if raw[0] == 0x80 else _small_float(raw[0], mantissa_bits=3, bias=8)


def _e5m2_fnuz(raw: bytes) -> float:
    return math.nan if raw[0] == 0x80 else _small_float(raw[0], mantissa_bits=2, bias=16)


def _e8m0(raw: bytes) -> float:
    return math.nan if raw[0] == 0xFF else 2.0 ** (raw[0] - 127)


def _small_float(byte: int, *, mantissa_bits: int, bias: int) -> float:
    """An 8-bit float by its fields. Source: OCP 8-bit Floating Point Specification 1.0, section 5."""
    mantissa = byte & ((1 << mantissa_bits) - 1)
    exponent = (byte & 0x7F) >> mantissa_bits
    if exponent:
        mantissa += 1 << mantissa_bits
    magnitude = math.ldexp(mantissa, max(exponent, 1) - bias - mantissa_bits)
    return -magnitude if byte & 0x80 else magnitude


_TYPES = {
    "BOOL": _Type(8, "bool", "?"),
    "F4": _Type(4, None, None),
    "F6_E2M3": _Type(6, None, None),
    "F6_E3M2": _Type(6, None, None),
    "U8": _Type(8, "uint8", "B"),
    "I8": _Type(8, "int8", "b"),
    "F8_E5M2": _Type(8, "float8_e5m2", _e5m2),
    "F8_E4M3": _Type(8, "float8_e4m3fn", _e4m3),
    "F8_E8M0": _Type(8, "float8_e8m0fnu", _e8m0),
    "F8_E4M3FNUZ": _Type(8, "float8_e4m3fnuz", _e4m3_fnuz),
    "F8_E5M2FNUZ": _Type(8, "float8_e5m2fnuz", _e5m2_fnuz),
    "I16": _Type(16, "int16", "h"),
    "U16": _Type(16, "uint16", "H"),
    "F16": _Type(16, "float16", "e"),
    "BF16": _Type(16, "bfloat16", _bfloat16),
    "I32": _Type(32, "int32", "i"),
    "U32": _Type(32, "uint32", "I"),
    "F32": _Type(32, "float32", "f"),
    "C64": _Type(64, "complex64", None),
    "F64": _Type(64, "float64", "d"),
    "I64": _Type(64, "int64", "q"),
    "U64": _Type(64, "uint64", "Q"),
}
BITS = {name: entry.bits for name, entry in _TYPES.items()}


@lru_cache
def array_type(dtype: str) -> np.dtype[Any]:
    """The little-endian numpy type. Raises: FormatError where values are smaller than a byte."""
    name = _TYPES[dtype].array
    if name is None:
        raise FormatError(f"{dtype}: values of {BITS[dtype]} bits have no array type; only their bytes can be read")
    import numpy as np

    try:
        return np.dtype(name).newbyteorder("<")
    except TypeError:  # numpy knows bfloat16 and the 8-bit floats by ml_dtypes' scalar types only
        import ml_dtypes

        special: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return special


def single_value(dtype: str, raw: bytes) -> float:
    """The number in the bytes of one element. Raises: FormatError where it is no real number or no single one."""
    if len(raw) * 8 != BITS[dtype]:
        raise FormatError(f"{len(raw)} bytes of {dtype} are not one real number")
    return single_values(dtype, raw)[0]


def single_values(dtype: str, raw: bytes) -> list[float]:
    """The numbers in the bytes of several elements. Raises: FormatError where they are no real numbers."""
    bits, _, value = _TYPES[dtype]
    count, rest = divmod(len(raw) * 8, bits)
    if value is None or rest:
        raise FormatError(f"{len(raw)} bytes of {dtype} are not {count} real numbers")
    if isinstance(value, str):
        return [float(number) for number in struct.unpack(f"<{count}{value}", raw)]
    width = bits // 8
    return [value(raw[start : start + width]) for start in range(0, len(raw), width)]
