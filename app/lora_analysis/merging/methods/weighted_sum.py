"""``Σ wₜ Δₜ``: exact, or the best approximation of the rank asked for."""

from __future__ import annotations

from .method import Method
from .sums import plain_sum

METHOD = Method(
    "weighted_sum",
    "Σ w Δ: exact, or truncated as well as can be",
    plain_sum,
    is_sum=True,
)
