"""Compress, then merge: a common subspace of the output's rank first, a merge of coordinates in it afterwards.

With the cores ``Mₜ`` of all tasks: ``Xₜ = λₜ Mₜ / ‖Mₜ‖``, ``λₜ = β ‖Mₜ‖ + (1 - β) mean ‖M‖``, so that a large adapter
does not take the whole subspace; U, V from the Tucker decomposition of the ``Xₜ`` at rank k; coordinates ``Uᵀ Mₜ V``
of the unscaled cores; TIES, DARE or the sum on these k × k matrices. The output has rank k without any truncation.
Source: arXiv 2606.03723, from a description of it.
"""

from __future__ import annotations

from .method import Merged, Method, Request, SizeRequest


def _size(request: SizeRequest) -> int:
    return min(request.asked or max(request.ranks), request.limit, sum(request.ranks))


def _merge(request: Request) -> Merged:
    from functools import partial

    import numpy as np

    from ...adapter import LowRank
    from ...linalg.consensus import drop, elect, generator, keep_count, trim
    from ...linalg.selection import kth_largest
    from ...linalg.tasks import core_of, is_nothing, zero
    from ...linalg.tucker import tucker

    layer, settings = request.layer, request.settings
    parts = layer.canonical()
    if is_nothing(parts):
        return Merged(zero(layer))
    core = core_of(parts)
    norms = [part.norm for part in parts]
    beta, mean = settings["beta"], float(np.mean([norm for norm in norms if norm]))
    scaled = [
        matrix * ((beta * norm + (1 - beta) * mean) / norm)
        for matrix, norm in zip(core.cores, norms, strict=True)
        if norm
    ]
    u, v = tucker(scaled, request.size)
    coordinates = [u.T @ matrix @ v for matrix in core.cores]
    if settings["core_rule"] == "ties":
        keep = partial(keep_count, settings["density"])
        trimmed = [trim(one, kth_largest(partial(list, [one]), keep)) for one in coordinates]
        merged = elect(trimmed, layer.weights)
    elif settings["core_rule"] == "dare_linear":
        random = [generator(settings["seed"], layer.name, layer.expert, task.number) for task in layer.tasks]
        dropped = [drop(one, settings["density"], own) for one, own in zip(coordinates, random, strict=True)]
        merged = np.sum(dropped, axis=0)
    else:
        merged = np.sum(coordinates, axis=0)
    return Merged(LowRank(core.left @ u @ merged, (core.right @ v).T, 1.0, layer.kernel))


METHOD = Method(
    "ctm",
    "a common subspace of the output's rank, then TIES, DARE or the sum in it (compress-then-merge)",
    _merge,
    parameters={"beta": 0.5, "core_rule": "ties", "density": 0.5, "seed": 0},
    size=_size,
)
