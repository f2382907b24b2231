"""``Σ wₜ Δₜ`` by factors side by side, and nothing else: never truncated. PEFT calls it ``cat``."""

from __future__ import annotations

from .method import Method
from .sums import plain_sum

METHOD = Method(
    "concat",
    "Σ w Δ by factors side by side: exact, ranks add",
    plain_sum,
    is_sum=True,
    truncates=False,
)
