"""Ranks for all layers at once: the most energy within a cost, or the least cost within an error.

Every component of every layer competes with every other by what it brings per what it costs,
``σ² / cost``; the best are taken in that order. Within a layer that order is the order of its singular values, so
any number of components taken is a rank. ``docs/budgets.md`` proves that the result is optimal for the cost it
reaches, and less than one component away from the optimum where a budget falls between two such costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .floats import Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Bidder:
    """One layer in the competition for a budget."""

    singular_values: Float64Array  # largest first, scale included, so that layers compare
    cost: float  # of one rank, above 0: bytes, or parameters (out + in * k)


@dataclass(frozen=True, slots=True)
class RankBounds:
    """No layer gets fewer than ``floor`` (its own number of values permitting) nor more than ``cap``."""

    floor: int = 1
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.floor < 1 or (self.cap is not None and self.cap < self.floor):
            raise OptionError(f"ranks from {self.floor} to {self.cap} were asked for; 1 <= floor <= cap is needed")


ANY_RANK = RankBounds()


class _Auction(NamedTuple):
    """Components above every layer's floor, best first, and what the floors alone cost and leave out."""

    layers: NDArray[np.intp]  # whose component it is
    energies: Float64Array  # σ²
    costs: Float64Array
    floors: tuple[int, ...]
    floor_cost: float
    total: float  # all σ² of all layers, of those that stay as they are too
    unreachable: float  # σ² above the caps


def ranks_within_cost(bidders: Sequence[Bidder], budget: float, bounds: RankBounds = ANY_RANK) -> tuple[int, ...]:
    """The ranks that keep the most energy for a total cost of at most ``budget``, in the unit of the costs.

    A larger budget never gives a layer a smaller rank. Components that are exactly zero are not bought.
    Raises: OptionError where the smallest ranks already cost more.
    """
    auction = _open(bidders, bounds)
    if not isfinite(budget) or auction.floor_cost > budget:
        raise OptionError(
            f"a budget of {budget:g} was asked for; rank {bounds.floor} everywhere costs {auction.floor_cost:g}"
        )
    spent = auction.floor_cost + np.cumsum(auction.costs)
    taken = int(np.searchsorted(spent, budget, side="right"))
    return _ranks(auction, taken)


def ranks_within_error(
    bidders: Sequence[Bidder], error: float, bounds: RankBounds = ANY_RANK, kept: Sequence[float] = ()
) -> tuple[int, ...]:
    """The cheapest ranks with a relative error of all layers together of at most ``error``.

    The error is ``√(Σ dropped σ² / Σ σ²)``: the Frobenius norm of everything dropped over that of the adapter.
    ``kept``: norms of layers that belong to the adapter and drop nothing.
    Raises: OptionError for an error outside 0 to 1, or where the cap makes it unreachable.
    """
    if not 0.0 <= error <= 1.0:
        raise OptionError(f"a relative error of {error} was asked for; it lies between 0 and 1")
    auction = _open(bidders, bounds, kept)
    # Summed from the small end, so that the last components count. left[t] is dropped after t are taken.
    left = auction.unreachable + np.concatenate([np.cumsum(auction.energies[::-1])[::-1], [0.0]])
    allowed = error**2 * auction.total
    if left[-1] > allowed:
        least = sqrt(left[-1] / auction.total)
        raise OptionError(f"a relative error of {error:g} was asked for; ranks up to {bounds.cap} leave {least:.3g}")
    return _ranks(auction, int(np.count_nonzero(left > allowed)))


def _open(bidders: Sequence[Bidder], bounds: RankBounds, kept: Sequence[float] = ()) -> _Auction:
    _require_costs(bidders)
    *spectra, others = _rescaled([*(bidder.singular_values for bidder in bidders), np.sort(kept)[::-1]])
    floors = tuple(min(bounds.floor, len(spectrum)) for spectrum in spectra)
    energies = [spectrum[floor : bounds.cap] ** 2 for spectrum, floor in zip(spectra, floors, strict=True)]
    counts = [len(values) for values in energies]
    layers = np.repeat(np.arange(len(bidders)), counts)
    costs = np.repeat(np.array([bidder.cost for bidder in bidders], dtype=np.float64), counts)
    flat = np.concatenate([np.empty(0), *energies])
    order = np.argsort(-flat / costs, kind="stable")  # equal offers in the order of the layers
    order = order[flat[order] > 0]
    return _Auction(
        layers=layers[order],
        energies=flat[order],
        costs=costs[order],
        floors=floors,
        floor_cost=sum(bidder.cost * floor for bidder, floor in zip(bidders, floors, strict=True)),
        total=float(sum(np.sum(spectrum**2) for spectrum in (*spectra, others))),
        unreachable=float(sum(np.sum(spectrum[bounds.cap :] ** 2) for spectrum in spectra)) if bounds.cap else 0.0,
    )


def _require_costs(bidders: Sequence[Bidder]) -> None:
    for number, bidder in enumerate(bidders):
        if not (isfinite(bidder.cost) and bidder.cost > 0):
            raise OptionError(f"layer {number} costs {bidder.cost} per rank; a cost is a finite number above 0")


def _rescaled(spectra: list[Float64Array]) -> list[Float64Array]:
    """All spectra times one power of two, which is exact, so that squares neither over- nor underflow."""
    largest = max((spectrum[0] for spectrum in spectra if len(spectrum)), default=0.0)
    exponent = int(np.frexp(largest)[1])
    return [np.ldexp(spectrum, -exponent) for spectrum in spectra]


def _ranks(auction: _Auction, taken: int) -> tuple[int, ...]:
    extra = np.bincount(auction.layers[:taken], minlength=len(auction.floors))
    return tuple(floor + int(more) for floor, more in zip(auction.floors, extra, strict=True))
