"""One budget for all layers: what each rank costs in this file, and the ranks that fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from ..adapter import Adapter
from ..errors import OptionError
from ..formats.dtypes import BITS
from ..formats.spelling import KEPT_ROLES
from ..linalg.budget import Bidder, RankBounds, ranks_within_cost, ranks_within_error
from .candidate import Candidate
from .options import Budget, ResizeOptions

SizeOf = Callable[[Sequence[int]], int]  # exact bytes of the file that these ranks give


def ranks_for_budget(
    adapter: Adapter, options: ResizeOptions, candidates: Sequence[Candidate], size_of: SizeOf
) -> Sequence[int]:
    """The ranks that keep the most energy within the budget, one per candidate.

    Raises: OptionError where even the smallest ranks do not fit.
    """
    budget = options.budget
    assert budget is not None  # the caller asks for a budget only where there is one
    bounds = RankBounds(options.floor, options.cap)
    bidders = [_bidder(candidate, budget) for candidate in candidates]
    if budget.kind == "error":
        return ranks_within_error(bidders, budget.limit, bounds)
    resized = _resized_keys(candidates)
    if budget.kind == "parameters":
        others = sum(prod(info.shape) for key, info in adapter.source.tensors.items() if key not in resized)
        return ranks_within_cost(bidders, budget.limit - others, bounds)
    fixed = sum(info.nbytes for key, info in adapter.source.tensors.items() if key not in resized)
    return _ranks_within_size(bidders, budget.limit, fixed, bounds, size_of)


def _bidder(candidate: Candidate, budget: Budget) -> Bidder:
    layer = candidate.layer
    assert candidate.spectrum is not None  # a budget asks for every spectrum first
    sizes = [prod(shape) for shape in candidate.spelling.shapes(layer.shape or (), 1)]
    if budget.kind != "size":
        return Bidder(candidate.spectrum, float(sum(sizes)))
    bits = sum(size * BITS[dtype] for size, dtype in zip(sizes, candidate.dtypes, strict=True))
    return Bidder(candidate.spectrum, bits / 8)


def _resized_keys(candidates: Sequence[Candidate]) -> set[str]:
    return {
        key for candidate in candidates for role, key in candidate.layer.keys.items() if role not in KEPT_ROLES
    }  # fmt: skip


def _ranks_within_size(
    bidders: Sequence[Bidder], limit: float, fixed: int, bounds: RankBounds, size_of: SizeOf
) -> Sequence[int]:
    """Ranks whose whole file, header included, is at most ``limit`` bytes.

    The header's length depends on the ranks' digits. So the first guess gives the factors everything but the
    fixed tensors, and what the exact size then exceeds the limit by is taken from them, until it fits.
    """
    room = limit - fixed
    while room > 0:
        ranks = ranks_within_cost(bidders, room, bounds)
        excess = size_of(ranks) - limit
        if excess <= 0:
            return ranks
        room -= excess
    raise OptionError(f"{limit:,.0f} bytes were asked for; the file needs more without any factor")
