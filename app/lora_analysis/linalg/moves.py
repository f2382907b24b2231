"""Which rows of one delta are which rows of another: fused projections are the split ones, one below the other."""

from __future__ import annotations

from typing import NamedTuple


class Move(NamedTuple):
    """Rows ``start`` to ``stop`` become those from ``to`` on."""

    start: int
    stop: int
    to: int
