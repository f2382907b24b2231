"""What of a spectrum may be noise: two estimates, both heuristic, neither a theorem about LoRA.

**Rounding.** A factor stored with unit roundoff ``u`` is off by a relative ``0.42 u`` (root mean square over a
mantissa whose logarithm is uniform). Such errors in ``up`` and ``down`` add a delta of the Frobenius norm

    |scale| · 0.42 √(u_up² + u_down²) · √Σₖ ‖upₖ‖² ‖downₖ‖²

which spreads over about ``rank`` directions: the floor is that norm over √rank. Where the factors' columns are
themselves the singular directions (a file that was resized by SVD), small values keep their digits and the floor is
too high.

**Plateau.** Entries of independent noise in ``q`` dimensions of an ``m × n`` delta give singular values that differ
by no more than ``(1 + δ) / (1 - δ)`` with ``δ = √(q/m) + √(q/n)`` (the edges of V. Marchenko, L. Pastur, Math. USSR
Sb. 1 (1967) 457-483, for either factor). The longest tail that is as flat as this is called the plateau. Published
rules for the number of components (Gavish and Donoho, IEEE Trans. Inf. Theory 60 (2014) 5040-5053) assume all min(m,
n) values to be there; a LoRA has ``rank``.
"""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

import numpy as np

from .floats import Float64Array

_RMS = 0.4247  # √((3/8) / (3 ln 2)): E[(err / x)²] = u² / 3 · E[1 / m²] for a mantissa m in [1, 2)
_LEAST = 4  # shorter tails are flat by themselves
_WIDEST = 0.5  # δ above: nearly every tail would pass
# Unit roundoff: half the distance from 1 to the next number.
_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8_e4m3fn": 2.0**-4,
    "float8_e5m2": 2.0**-3,
}


class Floor(NamedTuple):
    """A level, in the units of the singular values, and how many of them are above it."""

    level: float
    above: int


def rounding_floor(
    singular_values: Float64Array, up: Float64Array, down: Float64Array, scale: float, dtypes: tuple[str, str]
) -> Floor | None:
    """``up`` and ``down``: squared lengths of the factors along the rank. None for a type that is not listed above."""
    if not all(dtype in _ROUNDOFF for dtype in dtypes) or not len(up):
        return None
    roundoff = hypot(_ROUNDOFF[dtypes[0]], _ROUNDOFF[dtypes[1]])
    level = abs(scale) * _RMS * roundoff * float(np.sqrt(np.mean(up * down)))
    return Floor(level, int(np.count_nonzero(singular_values > level)))


def plateau(singular_values: Float64Array, shape: tuple[int, int]) -> Floor:
    """The longest tail that noise could explain: its root mean square, and how many values stand before it.

    Level 0 and all values where no tail of at least four is flat enough.
    """
    count = len(singular_values)
    if count < _LEAST or singular_values[-1] <= 0:
        return Floor(0.0, int(np.count_nonzero(singular_values)))
    tails = np.arange(count, _LEAST - 1, -1)  # lengths, longest first
    half = np.sqrt(tails / shape[0]) + np.sqrt(tails / shape[1])
    half = np.where(half < _WIDEST, half, np.nan)
    flat = singular_values[count - tails] * (1 - half) <= singular_values[-1] * (1 + half)  # NaN compares false
    if not flat.any():
        return Floor(0.0, count)
    above = int(np.argmax(flat))
    return Floor(float(np.sqrt(np.mean(np.square(singular_values[above:])))), above)
