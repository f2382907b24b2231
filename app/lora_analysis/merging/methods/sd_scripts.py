"""sd-scripts' ``networks/merge_lora.py`` and its kin for SDXL and Flux: ratios on both factors, factors added.

``s = √(alpha / alpha₁) · ratio``; ``up·|s|`` and ``down·s`` are added, alpha is the first adapter's. So a ratio acts
squared, and every up meets every down. Observed in sd-scripts 48d368fa.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ...errors import OptionError
from .method import Merged, Method, Request, SizeRequest

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array

Scaled = Callable[[Sequence["Float64Array"], Sequence["Float64Array"]], tuple["Float64Array", "Float64Array"]]


def merged_by(join: Scaled) -> Callable[[Request], Merged]:
    """The merge by what is done with the scaled ups and downs."""

    def merge(request: Request) -> Merged:
        from math import sqrt

        from ...adapter import LowRank
        from ...linalg.floats import widen

        layer = request.layer
        alphas = [task.delta.scale * task.delta.rank for task in layer.tasks]
        if any(alpha / alphas[0] <= 0 for alpha in alphas):
            raise OptionError("sd-scripts takes the root of alpha / alpha of the first; one of these is negative")
        factors = [sqrt(alpha / alphas[0]) * task.weight for alpha, task in zip(alphas, layer.tasks, strict=True)]
        ups = [abs(s) * widen(task.delta.up) for s, task in zip(factors, layer.tasks, strict=True)]
        downs = [s * widen(task.delta.down) for s, task in zip(factors, layer.tasks, strict=True)]
        up, down = join(ups, downs)
        return Merged(LowRank(up, down, alphas[0] / up.shape[1], layer.kernel))

    return merge


def _add(ups: Sequence[Float64Array], downs: Sequence[Float64Array]) -> tuple[Float64Array, Float64Array]:
    import numpy as np

    return np.sum(ups, axis=0), np.sum(downs, axis=0)


def _first(request: SizeRequest) -> int:
    return request.ranks[0]


METHOD = Method(
    "compat:sd_scripts",
    "what sd-scripts' merge_lora.py makes",
    merged_by(_add),
    size=_first,
    stored_factors="equal",
    alone="merged",
    normalize=False,
    wrong="a ratio multiplies both factors, so 0.5 acts as 0.25; adds factors, so every up meets every down",
)
