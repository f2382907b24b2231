"""A smaller rank for an adapter, where its spectra allow one: with the reasons, and the exact size it would have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from glob import escape
from itertools import takewhile
from math import fsum
from typing import TYPE_CHECKING, Any

from ..adapter import Adapter
from ..errors import LoraAnalysisError, OptionError
from ..formats import open_adapter
from ..json_ready import encodable
from ..resizing.planning import plan_resize
from ..resizing.request import options_of
from .calculation import spectrum

if TYPE_CHECKING:
    from .values import LayerSpectrum, Spectrum

ENERGY = 0.99  # of Σσ² over all layers: a relative error of 10 %


@dataclass(frozen=True, slots=True)
class Candidate:
    """One rank for every layer; layers of a smaller rank keep theirs."""

    rank: int
    energy_kept: float  # of Σσ² over all layers, 0 to 1


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The smallest rank among 1, 2, 4, ... that keeps ``energy`` of the whole; ``rank`` None where none is smaller."""

    rank: int | None
    energy: float  # asked for
    energy_kept: float
    worst_layer: str | None  # that would lose most
    worst_kept: float
    size_before: int  # bytes
    size_after: int  # exact, as planned
    statement: str
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        found["worst_layer"] = None if self.worst_layer is None else encodable(self.worst_layer)
        return {**found, "reasons": list(self.reasons), "candidates": [asdict(one) for one in self.candidates]}


def recommend(
    adapter: str | os.PathLike[str] | Adapter,
    found: Spectrum | None = None,
    *,
    energy: float = ENERGY,
    workers: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Recommendation:
    """The rank that an adapter seems to need. ``found``: its spectrum, where it was calculated already.

    Weights are all it looks at: whether pictures or answers stay as they were is for eyes to say.
    Raises: OptionError for an energy that is no fraction; what ``open_adapter`` raises; CancelledError.
    """
    if not 0 < energy <= 1:
        raise OptionError(f"the energy to keep is {energy}; it must be above 0 and at most 1")
    if not isinstance(adapter, Adapter):
        with open_adapter(adapter, lenient_metadata=True) as opened:
            return recommend(opened, found, energy=energy, workers=workers, cancel=cancel)
    spectra = found if found is not None else spectrum(adapter, workers=workers, cancel=cancel)
    layers = [layer for layer in spectra.layers if not layer.is_dead]
    candidates = tuple(Candidate(rank, kept_energy(layers, rank)) for rank in _ladder(layers))
    chosen = next((one for one in candidates if one.energy_kept >= energy), None)
    if chosen is None:
        why = (
            f"no rank below the stored ones keeps {energy:.0%} of the energy"
            if layers
            else "no layer has a delta that is not zero"
        )
        return _leave(adapter, energy, candidates, why)
    try:
        size = _planned_size(adapter, chosen.rank)
    except LoraAnalysisError as error:
        return _leave(adapter, energy, candidates, f"it cannot be resized: {error.message}")
    if size >= adapter.source.size:
        return _leave(
            adapter, energy, candidates, f"rank {chosen.rank} would keep enough, and the file would not shrink"
        )
    return _recommended(adapter, energy, candidates, chosen, size, layers)


def kept_energy(layers: Sequence[LayerSpectrum], rank: int) -> float:
    """The fraction of Σσ² that the ``rank`` largest singular values of every layer hold; 1 where all is zero."""
    import numpy as np

    largest = max((layer.summary.largest for layer in layers), default=0.0)
    if not largest:
        return 1.0
    kept = fsum(float(np.sum(np.square(layer.singular_values[:rank] / largest))) for layer in layers)
    whole = fsum((layer.summary.frobenius_norm / largest) ** 2 for layer in layers)
    return min(kept / whole, 1.0)


def _ladder(layers: Sequence[LayerSpectrum]) -> list[int]:
    """Powers of two below the largest rank."""
    largest = max((layer.rank or layer.summary.count for layer in layers), default=0)
    return list(takewhile(lambda rank: rank < largest, (1 << step for step in range(largest.bit_length()))))


def _planned_size(adapter: Adapter, rank: int) -> int:
    # A fixed rank fills smaller ones up with zeros; those stay as they are here.
    smaller = {escape(name): layer.rank for name, layer in adapter.layers.items() if 0 < (layer.rank or 0) < rank}
    options = options_of(rank=rank, rank_for=smaller) if smaller else options_of(rank=rank)
    return plan_resize(adapter, options, predict=False).size_after


def _leave(adapter: Adapter, energy: float, candidates: tuple[Candidate, ...], why: str) -> Recommendation:
    size = adapter.source.size
    return Recommendation(
        None, energy, 1.0, None, 1.0, size, size, f"leave the rank as it is: {why}", (why,), candidates
    )


def _recommended(
    adapter: Adapter,
    energy: float,
    candidates: tuple[Candidate, ...],
    chosen: Candidate,
    size: int,
    layers: Sequence[LayerSpectrum],
) -> Recommendation:
    shares = [(kept_energy([layer], chosen.rank), layer.label) for layer in layers]
    worst_kept, worst = min(shares)
    before = adapter.source.size
    statement = (
        f"rank {chosen.rank} keeps {_percent(chosen.energy_kept)} of the energy: {before / size:.1f}× smaller"
        f" ({before / 1e6:.3g} MB to {size / 1e6:.3g} MB)"
    )
    reasons = [
        f"the relative error of all deltas together would be {(1 - chosen.energy_kept) ** 0.5:.1%}",
        f"{sum(kept >= energy for kept, _ in shares):,} of {len(shares):,} layers keep {energy:.0%} or more; "
        f"{worst} keeps least, {_percent(worst_kept)}",
    ]
    smaller = [one for one in candidates if one.rank < chosen.rank]
    if smaller:
        reasons.append(f"rank {smaller[-1].rank} would keep {_percent(smaller[-1].energy_kept)}")
    noisy = [layer for layer in layers if layer.noise_floor > 0]
    if noisy:
        below = sum(layer.above_noise <= chosen.rank for layer in noisy)
        reasons.append(
            f"heuristic: {len(noisy):,} layers have a tail as flat as noise; in {below:,} all before it is kept"
        )
    return Recommendation(
        chosen.rank,
        energy,
        chosen.energy_kept,
        worst,
        worst_kept,
        before,
        size,
        statement,
        tuple(reasons),
        candidates,
    )


def _percent(fraction: float) -> str:
    """Never rounded up to a whole that it is not: 99.96 % stays below 100 %."""
    return f"{int(fraction * 1000) / 10:g} %"
