"""A sum of factored deltas that will be truncated: factors side by side in float32, and what its Gram matrices tell.

The blocks of the two Gram matrices of a sum hold the inner products of its terms, ``<Δᵢ, Δⱼ> = Σ Guᵢⱼ ∘ Gdᵢⱼ``, and the
whole of them its singular values. So one pass over the factors gives both.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, log2
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..adapter import LowRank
from .combine import Term
from .decomposition import Decomposition, decompose
from .floats import Float64Array, widen
from .gram import FactorGrams, gram

if TYPE_CHECKING:
    from ..adapter import FloatArray

_COLUMNS = 2048  # at a time: ranks are sums of ranks, and adding up their squares has to stay cheap
_MOST_SHIFT = 60  # powers of two within float32, for norms of any trained factors


class SumAnalysis(NamedTuple):
    """What the Gram matrices of a sum tell."""

    inner_products: Float64Array  # (terms, terms) of the weighted deltas
    grams: FactorGrams
    decomposition: Decomposition | None  # None where another route has to be taken


def float32_sum(terms: Sequence[Term], kernel: tuple[int, ...] = (), *, balanced: bool = False) -> LowRank | None:
    """``Σ weight · delta`` as one product of scale 1, its factors rounded to float32.

    A coefficient times a stored value moves by at most 2⁻²⁴ of itself; truncating and storing move more. None where a
    term is not a plain pair of factors or is stored in float64: then ``combine.weighted_sum`` is the sum.
    ``balanced``: for factors that are stored as they are, each term's are brought to about equal norms as there.
    """
    parts = []
    for weight, update in terms:
        if not isinstance(update, LowRank) or update.core is not None:
            return None
        if np.float64 in (update.up.dtype, update.down.dtype):
            return None
        parts.append((np.float32(weight * update.scale), update))
    rank = sum(part.rank for _, part in parts)
    first = parts[0][1]
    up, down = np.empty((first.up.shape[0], rank), np.float32), np.empty((rank, first.down.shape[1]), np.float32)
    start = 0
    for factor, part in parts:
        columns = slice(start, start + part.rank)
        np.multiply(widen(part.up, "float32"), factor, out=up[:, columns])
        widen(part.down, "float32", out=down[columns])
        if balanced:
            shift = _imbalance(up[:, columns], down[columns])
            up[:, columns] *= np.float32(2.0**-shift)
            down[columns] *= np.float32(2.0**shift)
        start += part.rank
    return LowRank(up, down, 1.0, kernel)


def _imbalance(up: FloatArray, down: FloatArray) -> int:
    """Half the powers of two between the norms; 0 where one is zero or no number, which others name."""
    squares = (float(np.einsum("ij,ij->", up, up)), float(np.einsum("ij,ij->", down, down)))
    if not all(isfinite(square) and square > 0 for square in squares):
        return 0
    return max(-_MOST_SHIFT, min(_MOST_SHIFT, round(log2(squares[0] / squares[1]) / 4)))


def analyse_sum(summed: LowRank, ranks: Sequence[int], kept: int | None) -> SumAnalysis:
    """Inner products of the terms and, where the factors allow, the decomposition of the sum.

    ``ranks``: of the terms, in the order of the columns of ``up``; ``kept``: components that will be wanted at most,
    None where the sum stays whole and needs no decomposition.
    """
    grams = FactorGrams(gram(summed.up.T, _COLUMNS), gram(summed.down, _COLUMNS))
    borders = np.concatenate([[0], np.cumsum(ranks)[:-1]])
    # Along the rows first: half the time, because these lie in one piece.
    joint = np.add.reduceat(np.add.reduceat(grams.up * grams.down, borders, axis=1), borders, axis=0)
    return SumAnalysis(joint, grams, None if kept is None else decompose(summed, kept, grams))
