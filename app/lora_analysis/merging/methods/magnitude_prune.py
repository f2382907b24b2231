"""Every adapter reduced to its largest entries, then the sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entrywise import Combine, Rows, Rule, by_rows, entries, size, vectors_by_rows
from .method import Method

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _prepare(rule: Rule) -> Combine:
    import numpy as np

    from ...linalg.consensus import trim

    def combine(rows: Rows) -> Float64Array:
        return np.asarray(np.sum([trim(one, least) for one, least in zip(rows, rule.thresholds, strict=True)], axis=0))

    return combine


METHOD = Method(
    "magnitude_prune",
    "Σ w Δ of the largest entries of every adapter",
    by_rows(_prepare, trims=True),
    parameters={"density": 0.5, "threshold": "layer", "seed": 0},
    vectors=vectors_by_rows(_prepare, trims=True),
    size=size,
    alone="merged",
    entries=entries,
)
