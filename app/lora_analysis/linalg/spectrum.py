"""What a spectrum says about a layer, in a few numbers.

All are functions of the singular values alone, so they do not change with the way the factors are written
(``up @ M`` and ``M⁻¹ @ down`` are the same layer). Ranks are counts of dimensions and do not depend on the scale.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from .floats import Float64Array
from .rank import select_rank


@dataclass(frozen=True, slots=True)
class SpectrumSummary:
    """Measures of one layer's singular values. Where all of them are zero, so are all measures."""

    count: int  # singular values the factors can give
    numerical_rank: int = 0  # singular values above count * 2**-52 * the largest
    largest: float = 0.0  # σ₁, the spectral norm, in weight units
    smallest_relative: float = 0.0  # σₙ / σ₁, 0 to 1
    frobenius_norm: float = 0.0  # √Σσ²
    nuclear_norm: float = 0.0  # Σσ
    effective_rank: float = 0.0  # see effective_rank
    energy_effective_rank: float = 0.0
    spectral_entropy: float = 0.0  # ln effective_rank, nats
    relative_entropy: float = 0.0  # spectral_entropy / ln count, 0 to 1; 0 for a single value
    stable_rank: float = 0.0
    participation_ratio: float = 0.0
    rank_90: int = 0  # smallest rank that keeps 90 % of the energy Σσ²
    rank_95: int = 0
    rank_99: int = 0

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def summarise(singular_values: Float64Array) -> SpectrumSummary:
    """All measures of a spectrum, largest value first."""
    largest = float(singular_values[0]) if len(singular_values) else 0.0
    if largest == 0.0:
        return SpectrumSummary(len(singular_values))
    relative = singular_values / largest
    effective = effective_rank(relative)
    entropy = max(float(np.log(effective)), 0.0)  # a single value has -0.0 or a rounding below
    return SpectrumSummary(
        count=len(singular_values),
        numerical_rank=int(np.count_nonzero(relative > len(relative) * np.finfo(np.float64).eps)),
        largest=largest,
        smallest_relative=float(relative[-1]),
        frobenius_norm=largest * float(np.linalg.norm(relative)),
        nuclear_norm=largest * float(np.sum(relative)),
        effective_rank=effective,
        spectral_entropy=entropy,
        relative_entropy=entropy / float(np.log(len(relative))) if len(relative) > 1 else 0.0,
        energy_effective_rank=effective_rank(relative**2),
        stable_rank=stable_rank(relative),
        participation_ratio=participation_ratio(relative),
        rank_90=select_rank(singular_values, "energy", 0.90),
        rank_95=select_rank(singular_values, "energy", 0.95),
        rank_99=select_rank(singular_values, "energy", 0.99),
    )


def effective_rank(weights: Float64Array) -> float:
    """``exp(−Σ p ln p)`` with ``p = weights / Σ weights``: from 1, one value only, to their number, all alike.

    Of the singular values it is the effective rank of O. Roy and M. Vetterli, EUSIPCO 2007. Other programs
    calculate it of their squares, which gives a smaller number: ``energy_effective_rank`` here.
    """
    p = weights[weights > 0] / np.sum(weights)
    return float(np.exp(-np.sum(p * np.log(p))))


def stable_rank(singular_values: Float64Array) -> float:
    """``Σσ² / σ₁²`` (M. Rudelson, R. Vershynin, J. ACM 54 (2007) 21)."""
    return float(np.sum((singular_values / singular_values[0]) ** 2))


def participation_ratio(singular_values: Float64Array) -> float:
    """``(Σσ²)² / Σσ⁴``: how many equal components would share the energy alike."""
    energies = (singular_values / singular_values[0]) ** 2
    return float(np.sum(energies) ** 2 / np.sum(energies**2))
