"""Weighted sums of updates, kept factored: the factors of every term side by side.

::

    Σ cᵢ upᵢ downᵢ  =  [c₁ up₁  c₂ up₂ ...] [down₁; down₂; ...]        cᵢ = weightᵢ · scaleᵢ

The sum is exact and its rank is the sum of the ranks. Adding the factors themselves (``up₁ + up₂``) would be no sum of
the deltas: the same delta has many factors, and the product of two sums has cross terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log2, prod
from typing import TYPE_CHECKING, NamedTuple, assert_never

import numpy as np

from ..adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Update, Vector
from ..errors import OpaqueUpdateError, ShapeError
from .dense import materialise
from .floats import Float64Array, widen
from .products import factors

if TYPE_CHECKING:
    from ..adapter import FloatArray


class Term(NamedTuple):
    """One summand: ``weight`` times the delta of ``update``."""

    weight: float
    update: Update


def weighted_sum(terms: Sequence[Term], kernel: tuple[int, ...] = ()) -> LowRank | Stacked:
    """``Σ weight · delta`` as one product of scale 1; of experts, one product each.

    ``kernel`` is that of the sum: LoHa and LoKr may store a convolution's columns flattened, so not every term
    has to state it. The rank is the sum of the terms' ``factored_rank``.

    Returns: float64 factors; each term's coefficient is in its ``up``, its ``down`` is multiplied by a power of two
    only, so that a coefficient that is a power of two rounds nothing when the factors are stored.
    Raises: ShapeError for terms of different shapes, or none; otherwise as ``products.factors``.
    """
    if not terms:
        raise ShapeError("a sum of no updates has no shape")
    if any(isinstance(term.update, Stacked) for term in terms):
        return _sum_of_experts(terms)
    parts = [_folded(term.weight, factors(term.update)) for term in terms]
    sides = {(part.up.shape[0], part.down.shape[1]) for part in parts}
    if len(sides) > 1:
        raise ShapeError(f"deltas of different shapes cannot be added: {', '.join(map(str, sorted(sides)))}")
    up, down = np.concatenate([part.up for part in parts], axis=1), np.concatenate([part.down for part in parts])
    return LowRank(up, down, 1.0, kernel)


def weighted_sum_of_elements(terms: Sequence[Term]) -> FloatArray:
    """``Σ weight · delta`` element by element, float64: for vectors and stored differences, which have no factors.

    Raises: ShapeError for terms of different shapes, or none; OpaqueUpdateError.
    """
    if not terms:
        raise ShapeError("a sum of no updates has no shape")
    deltas = [materialise(term.update) for term in terms]
    shapes = {delta.shape for delta in deltas}
    if len(shapes) > 1:
        raise ShapeError(f"deltas of different shapes cannot be added: {', '.join(map(str, sorted(shapes)))}")
    total = np.zeros(deltas[0].shape)
    for term, delta in zip(terms, deltas, strict=True):
        total += term.weight * delta
    return total


def factored_rank(update: Update) -> int:
    """The rank of ``products.factors(update)``, from shapes alone; of one expert where there are several.

    Raises: ShapeError for a vector; OpaqueUpdateError.
    """
    match update:
        case LowRank():
            return update.rank
        case Dense():
            return _smaller_side(update.shape)
        case Hadamard():
            return min(factored_rank(update.first) * factored_rank(update.second), _smaller_side(update.shape))
        case Kronecker():
            return factored_rank(update.first) * factored_rank(update.second)
        case Stacked():
            return max(part.rank for part in update.parts)
        case Vector():
            raise ShapeError(f"a vector of shape {update.shape} has no rank")
        case Opaque():
            raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
        case _:
            assert_never(update)


def _smaller_side(shape: tuple[int, ...]) -> int:
    return min(shape[0], prod(shape[1:]))


def _sum_of_experts(terms: Sequence[Term]) -> Stacked:
    counts = {len(term.update.parts) if isinstance(term.update, Stacked) else 0 for term in terms}
    if len(counts) > 1:
        raise ShapeError(f"numbers of experts differ: {', '.join(map(str, sorted(counts)))}")
    parts = []
    for expert in range(counts.pop()):
        one = [Term(t.weight, t.update.parts[expert]) for t in terms if isinstance(t.update, Stacked)]
        made = weighted_sum(one)
        assert isinstance(made, LowRank)  # the parts of a Stacked are LowRank
        parts.append(made)
    return Stacked(tuple(parts))


def _folded(weight: float, part: LowRank) -> LowRank:
    """``weight`` times the delta, scale 1, the two factors of about equal norm.

    Trained factors differ by orders of magnitude; without the balance the smaller one, made smaller still by the
    coefficient, would fall into fp16's subnormal numbers when it is stored.
    """
    up: Float64Array = widen(part.up) * (weight * part.scale)
    down: Float64Array = widen(part.down)
    norms = float(np.linalg.norm(up)), float(np.linalg.norm(down))
    if not all(isfinite(norm) and norm > 0 for norm in norms):  # zero, or an error that the decomposition names
        return LowRank(up, down, 1.0, part.kernel)
    shift = round(log2(norms[0] / norms[1]) / 2)
    return LowRank(np.ldexp(up, -shift), np.ldexp(down, shift), 1.0, part.kernel)
