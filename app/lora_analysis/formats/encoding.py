"""Calculated values as stored bytes: rounded once, to the output's type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NonFiniteError
from .dtypes import array_type

if TYPE_CHECKING:
    from ..adapter import FloatArray


_LARGEST = {"F8_E4M3": 448.0, "F8_E5M2": 57344.0, "F16": 65504.0}
_LARGEST_FLOAT32 = 3.4028234e38


def encode(values: FloatArray, dtype: str, name: str) -> FloatArray:
    """``values`` in the safetensors type ``dtype``, C order.

    Raises: NonFiniteError naming the tensor where a value is too large for the type.
    """
    import numpy as np

    if values.size:
        largest = max(abs(float(values.max())), abs(float(values.min())))
        if not largest <= _LARGEST.get(dtype, _LARGEST_FLOAT32):  # also true for NaN
            raise NonFiniteError(f"{name}: values up to {largest:.3g} do not fit {dtype}; write bf16 or fp32")
    # By way of float32: numpy's direct cast from float64 to fp16 is several times slower, and the second
    # rounding changes a value by less than 1e-3 of its last place.
    narrowed = values.astype(np.float32) if values.dtype.itemsize > 4 and dtype != "F64" else values
    return np.ascontiguousarray(narrowed.astype(array_type(dtype)))


def buffer_of(array: FloatArray) -> memoryview:
    """The array's bytes as a buffer; bf16 and fp8 arrays export none by themselves."""
    import numpy as np

    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data
