"""DARE on the small cores ``Uᵀ wₜ Δₜ V``, then their sum."""

from __future__ import annotations

from .method import Merged, Method, Request


def _merge(request: Request) -> Merged:
    from ...linalg.consensus import drop, generator
    from ...linalg.tasks import core_of, is_nothing, zero

    layer, settings = request.layer, request.settings
    parts = layer.canonical()
    if is_nothing(parts):
        return Merged(zero(layer))
    core = core_of(parts)
    merged = 0 * core.cores[0]
    for task, one in zip(layer.tasks, core.cores, strict=True):
        merged += drop(one, settings["density"], generator(settings["seed"], layer.name, layer.expert, task.number))
    return Merged(core.expand(merged, layer.kernel))


METHOD = Method(
    "core_dare",
    "random dropping on small cores in singular vectors that the adapters share (Core Space)",
    _merge,
    parameters={"density": 0.5, "seed": 0},
)
