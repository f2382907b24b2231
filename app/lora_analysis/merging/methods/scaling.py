"""The size of results that are no averages: TSV, Iso-C and Iso-CTS add up, so the norm grows with every adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .method import Request

if TYPE_CHECKING:
    from ...adapter import LowRank
    from ...linalg.tasks import Canonical


def at_scale(request: Request, raw: LowRank, parts: Sequence[Canonical]) -> LowRank:
    """``alpha`` times the published formula where alpha is given, else brought to the norm ``Σ |wₜ| ‖Δₜ‖``.

    For normalised weights that is the weighted mean of the norms.
    """
    from ...adapter import LowRank
    from ...linalg.tasks import canonical

    alpha = request.settings["alpha"]
    if alpha is None:
        norm = canonical(raw).norm
        alpha = sum(part.norm for part in parts) / norm if norm else 1.0
    return LowRank(raw.up, raw.down, raw.scale * alpha, request.layer.kernel)
