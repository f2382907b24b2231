"""Rules that choose one layer's rank from its singular values.

Every rule is the *smallest* rank ``k`` that satisfies its definition, over the whole spectrum
``σ₁ ≥ σ₂ ≥ ... ≥ σₙ ≥ 0``, evaluated in float64. 1 is a possible answer, and the answer for a layer whose
singular values are all zero. ``S`` below is the sum of all ``σ``, ``E`` the sum of all ``σ²``; at ``k`` only the
``k`` largest are summed.

====================== ========= ======================================================================
rule                   value     smallest k with
====================== ========= ======================================================================
``fixed``              k ≥ 1     k itself, or n where that is less
``energy``             0 < v ≤ 1 ``E(k) ≥ v E``
``norm``               0 < v ≤ 1 ``√E(k) ≥ v √E``: the same as ``energy`` of v²
``sum``                0 < v ≤ 1 ``S(k) ≥ v S``
``error``              0 ≤ v < 1 ``√(E − E(k)) ≤ v √E``: the relative error of the layer
``ratio``              v ≥ 1     all ``σ > σ₁ / v`` kept
``absolute``           v ≥ 0     all ``σ ≥ v`` kept, v in weight units
``knee``               none      all σ up to and including the knee kept; see ``_knee``
====================== ========= ======================================================================

``sd_scripts:sv_ratio``, ``sd_scripts:sv_fro`` and ``sd_scripts:sv_cumulative`` are what kohya sd-scripts'
``networks/resize_lora.py`` (main, commit 48d368fa of February 2026) answers for ``ratio``, ``norm`` and ``sum``: one
component more than its own target needs, never 1 unless the layer is nearly zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType

import numpy as np

from ..errors import OptionError
from .floats import Float64Array

_NEARLY_ZERO = 1e-6  # sd-scripts' MIN_SV
_STRAIGHT = 1e-12  # a spectrum this close to a straight line has no knee, only rounding


@dataclass(frozen=True, slots=True)
class RankRule:
    """A rule's name, what its value means, and its definition as a function of a spectrum and a value."""

    name: str
    value: str  # what the value must be, in words; "" where there is none
    accepts: Callable[[float], bool]
    choose: Callable[[Float64Array, float], int]


@dataclass(frozen=True, slots=True)
class RankChoice:
    """A rule with its value, kept within ``floor`` and ``cap``: ``RankChoice("energy", 0.95, cap=64)``.

    Raises: OptionError for an unknown rule, a value outside its range, or bounds that exclude one another.
    """

    rule: str
    value: float = 0.0
    floor: int = 1
    cap: int | None = None

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise OptionError(f"no rank rule is named {self.rule!r}; there are {', '.join(RULES)}")
        rule = RULES[self.rule]
        if not (isfinite(self.value) and rule.accepts(self.value)):
            raise OptionError(f"rank rule {self.rule} got {self.value}; it needs {rule.value}")
        if self.floor < 1:
            raise OptionError(f"the smallest rank asked for is {self.floor}; it must be at least 1")
        if self.cap is not None and self.cap < self.floor:
            raise OptionError(f"the largest rank asked for is {self.cap}, the smallest {self.floor}")

    def of(self, singular_values: Float64Array) -> int:
        """The rank for a spectrum, largest value first: never above its length, and at least 1."""
        rank = max(select_rank(singular_values, self.rule, self.value), self.floor)
        if self.cap is not None:
            rank = min(rank, self.cap)
        return min(rank, max(len(singular_values), 1))


def select_rank(singular_values: Float64Array, rule: str, value: float = 0.0) -> int:
    """The rank that a rule gives for a spectrum, largest value first, without bounds. See the table above."""
    if len(singular_values) == 0 or singular_values[0] == 0:
        return 1
    return max(1, RULES[rule].choose(singular_values, value))


# -- definitions -------------------------------------------------------------------------------------


def _fixed(singular_values: Float64Array, rank: float) -> int:
    return min(int(rank), len(singular_values))


def _energy(singular_values: Float64Array, fraction: float) -> int:
    return _first_reaching(np.cumsum(_rescaled(singular_values) ** 2), fraction)


def _norm(singular_values: Float64Array, fraction: float) -> int:
    return _first_reaching(np.sqrt(np.cumsum(_rescaled(singular_values) ** 2)), fraction)


def _sum(singular_values: Float64Array, fraction: float) -> int:
    return _first_reaching(np.cumsum(_rescaled(singular_values)), fraction)


def _error(singular_values: Float64Array, fraction: float) -> int:
    # Summed from the small end: E - E(k) as a difference has lost the small values to rounding.
    tails = np.sqrt(np.cumsum(_rescaled(singular_values)[::-1] ** 2)[::-1])
    return int(np.count_nonzero(tails > fraction * tails[0]))


def _ratio(singular_values: Float64Array, ratio: float) -> int:
    return int(np.count_nonzero(singular_values > singular_values[0] / ratio))


def _absolute(singular_values: Float64Array, threshold: float) -> int:
    return int(np.count_nonzero(singular_values >= threshold))


def _knee(singular_values: Float64Array, _: float) -> int:
    """Position of the point farthest below the chord from the first to the last singular value.

    With ``x = (i - 1) / (n - 1)`` and ``y = (σᵢ - σₙ) / (σ₁ - σₙ)`` that is the first largest ``1 - x - y``: the
    knee of V. Satopaa et al., "Finding a Kneedle in a haystack" (2011), offline, without smoothing, sensitivity 0.
    A spectrum nowhere below its chord has no knee and keeps every value.
    """
    first, last = singular_values[0], singular_values[-1]
    if first == last:
        return len(singular_values)
    x = np.linspace(0.0, 1.0, len(singular_values))
    below = 1.0 - x - (singular_values - last) / (first - last)
    knee = int(np.argmax(below))
    return knee + 1 if below[knee] > _STRAIGHT else len(singular_values)


def _rescaled(singular_values: Float64Array) -> Float64Array:
    """The spectrum times a power of two, which is exact, so that squares neither over- nor underflow."""
    exponent = int(np.frexp(singular_values[0])[1])
    return np.ldexp(singular_values, -exponent)


def _first_reaching(cumulative: Float64Array, fraction: float) -> int:
    """Smallest k for which the k-th cumulative value is at least that fraction of the last one."""
    return int(np.searchsorted(cumulative, fraction * cumulative[-1], side="left")) + 1


def _one_more(choose: Callable[[Float64Array, float], int]) -> Callable[[Float64Array, float], int]:
    """sd-scripts' answer: it turns the minimal count into an index and then adds one again.

    It also limits the index to the number of singular values of the dense delta, less one; components beyond
    the stored rank are zero, so the number of values given here is the limit that matters.
    """

    def choose_one_more(singular_values: Float64Array, value: float) -> int:
        if singular_values[0] <= _NEARLY_ZERO:
            return 1
        return min(max(choose(singular_values, value), 1) + 1, len(singular_values))

    return choose_one_more


def _is_fraction(value: float) -> bool:
    return 0.0 < value <= 1.0


_FRACTION = "a fraction above 0 and at most 1"
_TIMES = "a number of at least 1"
_TABLE = (
    RankRule("fixed", "a whole number of at least 1", lambda v: v >= 1 and v == int(v), _fixed),
    RankRule("energy", _FRACTION, _is_fraction, _energy),
    RankRule("norm", _FRACTION, _is_fraction, _norm),
    RankRule("sum", _FRACTION, _is_fraction, _sum),
    RankRule("error", "a fraction of at least 0 and below 1", lambda v: 0.0 <= v < 1.0, _error),
    RankRule("ratio", _TIMES, lambda v: v >= 1.0, _ratio),
    RankRule("absolute", "a number of at least 0", lambda v: v >= 0.0, _absolute),
    RankRule("knee", "no value", lambda v: v == 0.0, _knee),
    RankRule("sd_scripts:sv_ratio", _TIMES, lambda v: v >= 1.0, _one_more(_ratio)),
    RankRule("sd_scripts:sv_fro", _FRACTION, _is_fraction, _one_more(_norm)),
    RankRule("sd_scripts:sv_cumulative", _FRACTION, _is_fraction, _one_more(_sum)),
)
RULES: Mapping[str, RankRule] = MappingProxyType({rule.name: rule for rule in _TABLE})
