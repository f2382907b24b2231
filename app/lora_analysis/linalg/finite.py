"""NaN, infinity and overflow become one typed error, raised where the numbers are."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from ..errors import NonFiniteError
from .floats import Float64Array

if TYPE_CHECKING:
    from ..adapter import FloatArray


def require_finite(name: str, array: FloatArray) -> None:
    """Raises: NonFiniteError that names the array and counts its NaN and infinite values."""
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    if wrong:
        raise NonFiniteError(f"{name} holds {wrong} NaN or infinite of {array.size} values")


def magnitude(scale: float) -> float:
    """``|scale|``. Raises: NonFiniteError where it is no number."""
    if not isfinite(scale):
        raise NonFiniteError(f"the scale is {scale}")
    return abs(scale)


def finite(operation: np.ufunc, left: Float64Array, right: Float64Array | float) -> Float64Array:
    """``operation(left, right)``. Raises: NonFiniteError where finite operands overflow float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        result: Float64Array = operation(left, right)
    if not np.isfinite(result).all():
        raise NonFiniteError("the product of the factors overflows float64")
    return result
