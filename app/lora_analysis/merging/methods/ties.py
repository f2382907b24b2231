"""TIES on the true deltas: trim every adapter, elect a sign per entry, average the entries that have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entrywise import Combine, Rows, Rule, by_rows, entries, size, vectors_by_rows
from .method import Method

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _prepare(rule: Rule) -> Combine:
    from ...linalg.consensus import elect, trim

    def combine(rows: Rows) -> Float64Array:
        return elect([trim(one, least) for one, least in zip(rows, rule.thresholds, strict=True)], rule.weights)

    return combine


METHOD = Method(
    "ties",
    "trim, elect signs, average what agrees, entry by entry",
    by_rows(_prepare, trims=True),
    parameters={"density": 0.5, "threshold": "global", "seed": 0},
    vectors=vectors_by_rows(_prepare, trims=True),
    size=size,
    entries=entries,
)
