"""See ``linalg.coefficients.slerp``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .method import Method
from .sums import sum_by, vectors_by

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _coefficients(gram: Float64Array, weights: Sequence[float]) -> list[float]:
    from ...linalg.coefficients import slerp

    return slerp(gram, weights)


METHOD = Method(
    "slerp",
    "two adapters along the sphere: keeps the norm where a mean would shrink it",
    sum_by(_coefficients),
    vectors=vectors_by(_coefficients),
    most=2,
)
