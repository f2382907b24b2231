"""Scores of single components, in the recipe language of elias-gaeros/resize_lora (observed June 2026).

A recipe is ``name=value`` items with commas between them: weights of reference values, and what to keep::

    fro_lora=1,thr=-1.2          every component with a score of at least -1.2
    spn_lora,params=0.5,size=32  the highest scores that fit a file of 32 MiB

The score of component i is ``log10 σ_i - Σ w_m log10 ref_m`` with the weights divided by their sum:

=========  ===============================================================================
spn_lora   the layer's largest singular value
fro_lora   the Frobenius norm of the layer's delta
spn_ckpt   the largest singular value of the base weight (needs the checkpoint)
fro_ckpt   the Frobenius norm of the base weight (needs the checkpoint)
params     parameters that one rank costs: ``out + in * k``
=========  ===============================================================================

Differences from the original: a size is that of the whole file and is never exceeded, every layer keeps at least
rank 1, and ``rescale`` is refused, because it changes the strength of what a resize should keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OptionError
from .candidate import Candidate, values_per_rank

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array

_OF_THE_BASE = ("spn_ckpt", "fro_ckpt")
REFERENCES = ("spn_lora", "fro_lora", "params", *_OF_THE_BASE)
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """A parsed recipe; exactly one of ``threshold`` (of the score) and ``size`` (bytes) is set."""

    text: str
    weights: tuple[tuple[str, float], ...]  # sum 1
    threshold: float | None = None
    size: float | None = None

    @property
    def needs_base(self) -> bool:
        """Whether a score refers to the base model's weights."""
        return any(name in _OF_THE_BASE for name, _ in self.weights)

    def scored(self, candidate: Candidate) -> Float64Array:
        """``10 ** score`` of every component, largest first."""
        values = candidate.spectrum
        assert values is not None  # a recipe asks for every spectrum first
        if not np.any(values):
            return values
        references = {
            "spn_lora": float(values[0]),
            "fro_lora": float(np.linalg.norm(values)),
            "params": float(sum(values_per_rank(candidate))),
        }
        if candidate.base_norms is not None:
            references |= {"spn_ckpt": candidate.base_norms.spectral, "fro_ckpt": candidate.base_norms.frobenius}
        if not all(references[name] for name, weight in self.weights if weight):
            raise OptionError(f"{candidate.layer.name}: the base weight is zero; no score can be relative to it")
        divisor = np.prod([references[name] ** weight for name, weight in self.weights])
        return np.asarray(values / divisor)


def parse_recipe(text: str) -> Recipe:
    """Parse a recipe. Raises: OptionError naming the item that is wrong."""
    weights: dict[str, float] = {}
    keep: dict[str, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = item.partition("=")
        if name in ("thr", "size"):
            keep[name] = _number(item, value)
        else:
            weights[_reference(name)] = _number(item, value) if value else 1.0
    if not keep:
        raise OptionError(f"the recipe {text!r} needs thr=... or size=... to say how much to keep")
    total = sum(weights.values())
    if weights and (total <= 0 or min(weights.values()) < 0):
        raise OptionError(f"the recipe {text!r} has weights of {total:g} in all; they are at least 0, and not all 0")
    shares = tuple((name, weight / total) for name, weight in weights.items())
    if "size" in keep:  # as in the original, a size goes before a threshold
        return Recipe(text, shares, size=keep["size"] * _MIB)
    return Recipe(text, shares, threshold=keep["thr"])


def _reference(name: str) -> str:
    if name == "rescale":
        raise OptionError("a resize keeps the strength of an adapter; rescale is not one of its scores")
    if name not in REFERENCES:
        raise OptionError(f"no score is named {name!r}; there are {', '.join(REFERENCES)}, and thr and size")
    return name


def _number(item: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise OptionError(f"{item!r} is no name=number")
    return number
