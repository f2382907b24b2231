"""One budget for all layers: what each rank costs in this file, and the ranks that fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING

from ..adapter import Adapter, TensorInfo
from ..errors import OptionError
from ..formats.dtypes import BITS
from ..formats.spelling import KEPT_ROLES
from ..linalg.budget import Bidder, RankBounds, ranks_within_cost, ranks_within_error
from .candidate import Candidate, values_per_rank
from .options import ResizeOptions

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array

_LESS = 1 / 16  # bytes: costs are whole eighths

SizeOf = Callable[[Sequence[int]], int]  # exact bytes of the file that these ranks give


def ranks_for_budget(
    adapter: Adapter,
    options: ResizeOptions,
    candidates: Sequence[Candidate],
    size_of: SizeOf,
    kept: Sequence[float] = (),
) -> Sequence[int]:
    """The ranks that keep the most energy within the budget, one per candidate.

    ``kept``: norms of the deltas that are no candidates; an error is relative to the norm of all.

    Raises: OptionError where even the smallest ranks do not fit.
    """
    budget = options.budget
    assert budget is not None  # the caller asks for a budget only where there is one
    bounds = RankBounds(options.floor, options.cap)
    if budget.kind == "error":
        return ranks_within_error([_by_parameters(one) for one in candidates], budget.limit, bounds, kept)
    if budget.kind == "parameters":
        others = sum(prod(info.shape) for info in _other_tensors(adapter, candidates))
        return ranks_within_cost([_by_parameters(one) for one in candidates], budget.limit - others, bounds)
    fixed = sum(info.nbytes for info in _other_tensors(adapter, candidates))
    return _ranks_within_size([_by_bytes(one) for one in candidates], budget.limit, fixed, bounds, size_of)


def ranks_for_recipe(
    adapter: Adapter, options: ResizeOptions, candidates: Sequence[Candidate], size_of: SizeOf
) -> Sequence[int]:
    """Ranks that keep what scores highest: all above a threshold, or as much as fits a file size.

    Raises: OptionError where even the smallest ranks do not fit.
    """
    recipe = options.recipe
    assert recipe is not None  # the caller asks for a recipe only where there is one
    bounds = RankBounds(options.floor, options.cap)
    scored = [recipe.scored(candidate) for candidate in candidates]
    if recipe.threshold is not None:
        return [_count_above(values, 10.0**recipe.threshold, bounds) for values in scored]
    assert recipe.size is not None  # one of the two is set
    bidders = []
    for candidate, values in zip(candidates, scored, strict=True):
        cost = _by_bytes(candidate).cost
        # The auction orders by value² / cost; with the root of the cost in the value that is the order of scores.
        bidders.append(Bidder(values * sqrt(cost), cost))
    fixed = sum(info.nbytes for info in _other_tensors(adapter, candidates))
    return _ranks_within_size(bidders, recipe.size, fixed, bounds, size_of)


def _count_above(values: Float64Array, threshold: float, bounds: RankBounds) -> int:
    count = max(int((values >= threshold).sum()), bounds.floor)
    return min(count, bounds.cap or count, len(values))


def _by_parameters(candidate: Candidate) -> Bidder:
    assert candidate.spectrum is not None  # a budget asks for every spectrum first
    return Bidder(candidate.spectrum, float(sum(values_per_rank(candidate))))


def _by_bytes(candidate: Candidate) -> Bidder:
    assert candidate.spectrum is not None
    bits = sum(
        count * BITS[dtype] for count, dtype in zip(values_per_rank(candidate), candidate.dtypes, strict=True)
    )  # fmt: skip
    return Bidder(candidate.spectrum, bits / 8)


def _other_tensors(adapter: Adapter, candidates: Iterable[Candidate]) -> Iterable[TensorInfo]:
    """Tensors whose size no rank changes."""
    resized = {
        key for candidate in candidates for role, key in candidate.layer.keys.items() if role not in KEPT_ROLES
    }  # fmt: skip
    return (info for key, info in adapter.source.tensors.items() if key not in resized)


def _ranks_within_size(
    bidders: Sequence[Bidder], limit: float, fixed: int, bounds: RankBounds, size_of: SizeOf
) -> Sequence[int]:
    """Ranks whose whole file, header included, is at most ``limit`` bytes.

    The header's length depends on the ranks' digits. So the first guess gives the factors everything but the
    fixed tensors, and what the exact size then exceeds the limit by is taken from them, until it fits.
    """
    room = limit - fixed
    least = sum(bidder.cost * min(bounds.floor, len(bidder.singular_values)) for bidder in bidders)
    while room >= least:
        ranks = ranks_within_cost(bidders, room, bounds)
        excess = size_of(ranks) - limit
        if excess <= 0:
            return ranks
        spent = sum(bidder.cost * rank for bidder, rank in zip(bidders, ranks, strict=True))
        room = min(room - excess, spent - _LESS)  # a few bytes less could buy the same ranks again
    smallest = size_of([min(bounds.floor, len(bidder.singular_values)) for bidder in bidders])
    raise OptionError(f"{limit:,.0f} bytes were asked for; the smallest ranks make a file of {smallest:,} bytes")
