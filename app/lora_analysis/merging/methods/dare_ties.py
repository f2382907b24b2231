"""Random dropping with the rest scaled up, then signs elected and the agreeing entries averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entrywise import Combine, Rows, Rule, by_rows, size, vectors_by_rows
from .method import Method

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _prepare(rule: Rule) -> Combine:
    from ...linalg.consensus import drop, elect

    def combine(rows: Rows) -> Float64Array:
        density = rule.settings["density"]
        dropped = [drop(one, density, own) for one, own in zip(rows, rule.random, strict=True)]
        return elect(dropped, rule.weights)

    return combine


METHOD = Method(
    "dare_ties",
    "random dropping (DARE), then signs elected and averaged as in TIES",
    by_rows(_prepare, trims=False),
    parameters={"density": 0.5, "seed": 0},
    vectors=vectors_by_rows(_prepare, trims=False),
    size=size,
    alone="merged",
)
