"""TIES on the small cores ``Uᵀ wₜ Δₜ V``: see ``linalg.tasks.core_of``. Cheaper than KnOTS, and other numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .method import Merged, Method, Request
from .trimming import thresholds_of

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array
    from ...linalg.tasks import LayerTasks


def _entries(layer: LayerTasks) -> Callable[[], Iterable[Sequence[Float64Array]]]:
    from ...linalg.tasks import core_of, is_nothing

    parts = layer.canonical()
    found = [] if is_nothing(parts) else [core_of(parts).cores]
    return lambda: found


def _merge(request: Request) -> Merged:
    from ...linalg.consensus import elect, trim
    from ...linalg.tasks import core_of, is_nothing, zero

    layer = request.layer
    parts = layer.canonical()
    if is_nothing(parts):
        return Merged(zero(layer))
    core = core_of(parts)
    thresholds = thresholds_of(request, lambda: [core.cores])
    trimmed = [trim(one, threshold) for one, threshold in zip(core.cores, thresholds, strict=True)]
    return Merged(core.expand(elect(trimmed, layer.weights), layer.kernel))


METHOD = Method(
    "core_ties",
    "TIES on small cores in singular vectors that the adapters share (Core Space)",
    _merge,
    parameters={"density": 0.5, "threshold": "layer"},
    entries=_entries,
)
