"""Random dropping with the rest scaled up, then the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entrywise import Combine, Rows, Rule, by_rows, size, vectors_by_rows
from .method import Method

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _prepare(rule: Rule) -> Combine:
    import numpy as np

    from ...linalg.consensus import drop

    def combine(rows: Rows) -> Float64Array:
        density = rule.settings["density"]
        return np.asarray(np.sum([drop(one, density, own) for one, own in zip(rows, rule.random, strict=True)], axis=0))

    return combine


METHOD = Method(
    "dare_linear",
    "Σ w Δ after random dropping, the rest divided by the density (DARE)",
    by_rows(_prepare, trims=False),
    parameters={"density": 0.5, "seed": 0},
    vectors=vectors_by_rows(_prepare, trims=False),
    size=size,
    alone="merged",
)
