"""Shared by the methods whose result is ``Σ γₜ Δₜ``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .method import Merged, Request, Vectors

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array

Coefficients = Callable[["Float64Array", Sequence[float]], list[float]]  # of inner products and weights


def plain_sum(request: Request) -> Merged:
    """``Σ wₜ Δₜ``, exact."""
    from ...linalg.combine import Term, weighted_sum

    layer = request.layer
    found = weighted_sum([Term(task.weight, task.delta) for task in layer.tasks], layer.kernel)
    return Merged(found)  # type: ignore[arg-type]  # parts of experts come one by one


def sum_by(coefficients: Coefficients) -> Callable[[Request], Merged]:
    """``Σ γₜ Δₜ``, exact, with coefficients from the deltas' inner products."""

    def merge(request: Request) -> Merged:
        from ...linalg.coefficients import inner_products
        from ...linalg.combine import Term, weighted_sum

        layer = request.layer
        gram = inner_products([task.delta for task in layer.tasks])
        found = coefficients(gram, [task.weight for task in layer.tasks])
        terms = [Term(weight, task.delta) for weight, task in zip(found, layer.tasks, strict=True)]
        return Merged(weighted_sum(terms, layer.kernel))  # type: ignore[arg-type]

    return merge


def vectors_by(coefficients: Coefficients) -> Callable[[Vectors], Float64Array]:
    """The same for vectors."""

    def merge(vectors: Vectors) -> Float64Array:
        import numpy as np

        flat = np.stack([np.asarray(values, np.float64).ravel() for values in vectors.values])
        found = coefficients(flat @ flat.T, vectors.weights)
        return (np.asarray(found) @ flat).reshape(vectors.values[0].shape)

    return merge
