"""TSV-M: see ``linalg.polar.tsv``."""

from __future__ import annotations

from .method import Merged, Method, Request
from .scaling import at_scale


def _merge(request: Request) -> Merged:
    from ...linalg.polar import tsv
    from ...linalg.tasks import is_nothing, zero

    parts = request.layer.canonical()
    if is_nothing(parts):
        return Merged(zero(request.layer))
    return Merged(at_scale(request, tsv(parts), parts))


METHOD = Method(
    "tsv",
    "singular vectors of all adapters made orthogonal to one another (TSV-M)",
    _merge,
    parameters={"alpha": None},
)
