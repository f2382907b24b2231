"""How many ranks each layer gets: one number, by its own spectrum, or under one budget for all."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from math import prod
from typing import NamedTuple

import numpy as np

from ..linalg.floats import Float64Array
from .options import ExtractOptions
from .units import Unit


class Spectrum(NamedTuple):
    """A layer's leading singular values and its exact norm."""

    values: Float64Array
    norm: float


def ranks_of(
    units: Mapping[str, Unit], spectra: Mapping[str, Spectrum], options: ExtractOptions, room: int
) -> dict[str, int]:
    """Rank by layer, at least 1 and at most ``options.limit``. ``room``: bytes for factors, under a size."""
    limits = {name: min(options.limit, unit.limit) for name, unit in units.items()}
    if options.rank is not None:
        return limits
    if options.energy is not None:
        return {name: _by_energy(spectra[name], options.energy, limit) for name, limit in limits.items()}
    return _under_budget(units, spectra, options, limits, room)


def _by_energy(spectrum: Spectrum, energy: float, limit: int) -> int:
    """The smallest rank whose squared singular values sum to at least the fraction; the limit where none does."""
    kept = np.cumsum(spectrum.values**2)
    reached = np.flatnonzero(kept >= energy * spectrum.norm**2 * (1 - 1e-12))
    return min(int(reached[0]) + 1 if len(reached) else limit, limit)


def _under_budget(
    units: Mapping[str, Unit],
    spectra: Mapping[str, Spectrum],
    options: ExtractOptions,
    limits: Mapping[str, int],
    room: int,
) -> dict[str, int]:
    """The component that saves the most error per byte first; singular values fall, so a layer's own order holds."""
    width = {"fp32": 4}.get(options.dtype, 2)
    costs = {name: width * (unit.shape[0] + prod(unit.shape[1:])) for name, unit in units.items()}
    ranks = dict.fromkeys(units, 1)
    left = sum(s.norm**2 for s in spectra.values()) - sum(float(s.values[0]) ** 2 for s in spectra.values())
    wanted = (options.error or 0.0) ** 2 * sum(s.norm**2 for s in spectra.values())
    used = sum(costs.values())
    heap = [(-(float(s.values[1]) ** 2) / costs[name], name) for name, s in spectra.items() if limits[name] > 1]
    heapq.heapify(heap)
    while heap:
        if options.error is not None and left <= wanted:
            break
        _, name = heapq.heappop(heap)
        if options.size is not None and used + costs[name] > room:
            continue  # a smaller layer may still fit
        rank = ranks[name]
        left -= float(spectra[name].values[rank]) ** 2
        used += costs[name]
        ranks[name] = rank + 1
        if rank + 1 < limits[name]:
            heapq.heappush(heap, (-(float(spectra[name].values[rank + 1]) ** 2) / costs[name], name))
    return ranks
