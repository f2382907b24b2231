"""A layer that can be resized, with what the choice of its rank needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from ..adapter import Layer
from ..formats.spelling import Spelling

if TYPE_CHECKING:
    from ..linalg.decomposition import Decompositions
    from ..linalg.floats import Float64Array
    from .base_norms import BaseNorms


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One layer in a plan that is being made."""

    layer: Layer
    spelling: Spelling
    dtypes: tuple[str, str]  # of the new down and up
    spectrum: Float64Array | None = None  # largest first, scale included, where it was calculated
    decompositions: Decompositions | None = None  # kept for the writer, where memory allows
    bias_norm: float | None = None  # of the difference of the bias beside the weight, likewise
    base_norms: BaseNorms | None = None  # of the weight the layer belongs to, where a recipe asks for them


def shares_one_rank(candidate: Candidate) -> bool:
    """Whether the format has one rank for all layers stored like this one.

    mlx-lm builds every layer from one ``rank``, and PEFT gives all parameters of a module's experts the config's.
    """
    return candidate.spelling.orientation in ("mlx", "mlx-embedding", "mlx-experts", "parameter-experts")


def values_per_rank(candidate: Candidate) -> tuple[int, int]:
    """Stored values that one rank costs in down and in up."""
    down, up = candidate.spelling.shapes(candidate.layer.shape or (), 1)
    return prod(down), prod(up)
