"""PEFT's ``add_weighted_adapter(combination_type="linear")``: the factors are added, not the deltas.

``A = Σ sgn(cₜ) √|cₜ| Aₜ``, ``B = Σ √|cₜ| Bₜ``, ``cₜ = wₜ sₜ``. The product has every cross term ``Bᵢ Aⱼ``: for two
unrelated adapters its error is about as large as the sum itself. Observed in PEFT 0.21.2.
"""

from __future__ import annotations

from .method import Merged, Method, Request


def _merge(request: Request) -> Merged:
    from math import copysign, sqrt

    import numpy as np

    from ...adapter import LowRank
    from ...linalg.floats import widen

    layer = request.layer
    factors = [task.weight * task.delta.scale for task in layer.tasks]
    up = np.sum([sqrt(abs(c)) * widen(t.delta.up) for c, t in zip(factors, layer.tasks, strict=True)], axis=0)
    down = np.sum(
        [copysign(sqrt(abs(c)), c) * widen(t.delta.down) for c, t in zip(factors, layer.tasks, strict=True)], axis=0
    )
    return Merged(LowRank(up, down, 1.0, layer.kernel))


METHOD = Method(
    "compat:peft_linear",
    "what PEFT's combination_type='linear' makes",
    _merge,
    size=lambda request: request.ranks[0],
    stored_factors="equal",
    normalize=False,
    wrong="adds factors instead of deltas, so every up meets every down: the result is not the weighted sum",
)
