"""What is measured while layers are merged: how far the inputs agree, and what factors leave out of the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import fsum, hypot, prod, sqrt
from typing import TYPE_CHECKING, Any

from ..adapter import Layer
from ..resizing.plan import LayerPlan

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array

_SIGMAS = 3  # cosines of unrelated deltas scatter by 1 / √(number of entries); this many are called an agreement


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One merged layer."""

    inputs: tuple[int, ...]  # that take part
    gram: Float64Array | None  # inner products of the weighted deltas; None for fewer than two
    missing: float  # norm of what the factors leave out

    @property
    def overlap(self) -> tuple[float, float]:
        """``Σ <xᵢ, xⱼ>`` and ``Σ ‖xᵢ‖ ‖xⱼ‖`` over the pairs of weighted deltas."""
        if self.gram is None:
            return 0.0, 0.0
        gram = self.gram.tolist()  # of a handful of inputs, and for every layer: plain numbers are the faster ones
        norms = [sqrt(max(row[number], 0.0)) for number, row in enumerate(gram)]
        pairs = list(combinations(range(len(norms)), 2))
        return fsum(gram[i][j] for i, j in pairs), fsum(norms[i] * norms[j] for i, j in pairs)

    @property
    def cosine(self) -> float | None:
        """The cosine of the pairs, each weighted with its norms; None for fewer than two deltas, or zero ones."""
        inner, norms = self.overlap
        return max(-1.0, min(1.0, inner / norms)) if norms else None


Observations = Mapping[str, Observation]  # by layer


def interference(layer: Layer, observation: Observation | None) -> dict[str, Any] | None:
    """The agreement of a layer's inputs for reports: ``cosine``, what chance gives, and a word for it."""
    cosine = None if observation is None else observation.cosine
    if cosine is None or layer.shape is None:
        return None
    chance = 1 / sqrt(prod(layer.shape))
    return {"cosine": cosine, "chance": chance, "effect": _effect(cosine, chance)}


def total_interference(layers: Iterable[Layer], observations: Observations) -> dict[str, Any] | None:
    """The cosine of all layers together, weighted with their norms, and how many layers agree or cancel."""
    inner = norms = 0.0
    effects = {"reinforce": 0, "independent": 0, "cancel": 0}
    for layer in layers:
        found = interference(layer, observations.get(layer.name))
        if found is None:
            continue
        own = observations[layer.name].overlap
        inner, norms = inner + own[0], norms + own[1]
        effects[found["effect"]] += 1
    return {"cosine": inner / norms, "layers": effects} if norms else None


def _effect(cosine: float, chance: float) -> str:
    if abs(cosine) <= _SIGMAS * chance:
        return "independent"
    return "reinforce" if cosine > 0 else "cancel"


def with_missing(layer: LayerPlan, observation: Observation | None) -> LayerPlan:
    """A plan, or what was measured, against the whole merged delta: what the factors left out counts as lost.

    The missing part is orthogonal to the factors, so squares add.
    """
    if observation is None or not observation.missing or layer.norm is None or layer.error is None:
        return layer
    return replace(
        layer, norm=hypot(layer.norm, observation.missing), error=hypot(layer.error, observation.missing)
    )  # fmt: skip
