"""Remarks on a merge: what the method does not do, and what the inputs make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import sqrt

from ..resizing.plan import LayerPlan
from .inputs import MergeInput
from .observations import Observations
from .options import MergeOptions

_LITTLE_COSINE = 0.2  # under which model_stock takes different tasks for noise


def method_notes(options: MergeOptions) -> Iterator[str]:
    """What is known before any value is read."""
    method = options.how
    if method.wrong:
        yield f"{method.name} reproduces another tool, with what it gets wrong: {method.wrong}"


def layer_weight_notes(inputs: Sequence[MergeInput]) -> Iterator[str]:
    """Layers that a list of block weights says nothing about."""
    for item in inputs:
        count = 0 if item.layer_weights is None else item.layer_weights.unlisted(item.adapter.layers.values())
        if count:
            yield f"{item.name}: {count} layers are in no block of the list and keep their weight"


def observed_notes(
    options: MergeOptions, observations: Observations, layers: Mapping[str, LayerPlan], inputs: Sequence[MergeInput]
) -> Iterator[str]:
    """What the values show."""
    if options.method == "model_stock":
        yield from _model_stock(observations)
    missing = sqrt(sum(found.missing**2 for found in observations.values()))
    norm = sqrt(sum(layer.norm**2 for layer in layers.values() if layer.norm is not None))
    if missing and norm:
        yield (
            f"{options.method} makes a delta of full rank; the factors it is stored in leave out "
            f"{100 * missing / norm:.3g} % of its norm, which the error includes"
        )


def _model_stock(observations: Observations) -> Iterator[str]:
    overlaps = [found.overlap for found in observations.values()]
    norms = sum(norm for _, norm in overlaps)
    cosine = sum(inner for inner, _ in overlaps) / norms if norms else None
    if cosine is not None and cosine < _LITTLE_COSINE:
        yield (
            f"the adapters' mean cosine is {cosine:.3g}: model_stock is for runs of one task, and takes adapters that "
            "share so little for noise; hardly anything is left of them"
        )
