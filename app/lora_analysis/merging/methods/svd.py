"""``Σ wₜ Δₜ`` truncated to the largest rank of the inputs, unless another is asked for."""

from __future__ import annotations

from .method import Method
from .sums import plain_sum

METHOD = Method(
    "svd",
    "Σ w Δ, truncated to the largest rank among the inputs unless you say",
    plain_sum,
    is_sum=True,
    rank="largest",
)
