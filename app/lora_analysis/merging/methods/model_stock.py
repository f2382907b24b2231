"""See ``linalg.coefficients.model_stock``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .method import Method
from .sums import sum_by, vectors_by

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _coefficients(gram: Float64Array, weights: Sequence[float]) -> list[float]:
    from ...linalg.coefficients import model_stock

    return model_stock(gram, weights)


METHOD = Method(
    "model_stock",
    "the mean, drawn to the base weights by how little the adapters agree: for seeds of one task",
    sum_by(_coefficients),
    vectors=vectors_by(_coefficients),
)
