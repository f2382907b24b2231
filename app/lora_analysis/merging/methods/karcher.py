"""See ``linalg.coefficients.karcher``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .method import Method
from .sums import sum_by, vectors_by

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _coefficients(gram: Float64Array, weights: Sequence[float]) -> list[float]:
    from ...linalg.coefficients import karcher

    return karcher(gram, weights)


METHOD = Method(
    "karcher",
    "the mean direction of any number of adapters, with their mean norm",
    sum_by(_coefficients),
    vectors=vectors_by(_coefficients),
)
