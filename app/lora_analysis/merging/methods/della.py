"""Random dropping that spares large entries, then signs elected and the agreeing entries averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import OptionError
from .entrywise import Combine, Rows, Rule, by_rows, size, vectors_by_rows
from .method import Method, Settings

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _prepare(rule: Rule) -> Combine:
    from ...linalg.consensus import drop_by_rank, elect

    def combine(rows: Rows) -> Float64Array:
        density, epsilon = rule.settings["density"], rule.settings["epsilon"]
        dropped = [drop_by_rank(one, density, epsilon, own) for one, own in zip(rows, rule.random, strict=True)]
        return elect(dropped, rule.weights)

    return combine


def _check(settings: Settings) -> None:
    density, epsilon = settings["density"], settings["epsilon"]
    if density - epsilon <= 0 or density + epsilon > 1:
        raise OptionError(
            f"density {density:g} with epsilon {epsilon:g} gives probabilities from {density - epsilon:g} to "
            f"{density + epsilon:g}; they must stay above 0 and not exceed 1"
        )


METHOD = Method(
    "della",
    "random dropping that spares large entries, then signs elected as in TIES (DELLA)",
    by_rows(_prepare, trims=False),
    parameters={"density": 0.5, "epsilon": 0.15, "seed": 0},
    vectors=vectors_by_rows(_prepare, trims=False),
    size=size,
    alone="merged",
    check=_check,
)
