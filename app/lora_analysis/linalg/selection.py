"""The k-th largest magnitude of values that do not fit into memory: exact, in a few passes.

Magnitudes of float64 numbers are ordered like their bits read as integers. A pass counts the values by 16 of their
bits, below those already known; the count names the next 16. After four passes all 64 are known, and usually after
two the values that are left fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from .floats import Float64Array

_BITS = 16
_LEVELS = 4
_FEW = 1 << 22  # values that may be gathered: 32 MB


@dataclass(slots=True)
class Selection:
    """Looks for the ``keep``-th largest magnitude. Feed it every value once per pass until ``is_done``.

    ``keep_of``: how many are kept of a number of values, which the first pass counts.
    """

    keep_of: Callable[[int], int]
    threshold: float | None = None
    _keep: int = 0
    _seen: int = 0
    _known: int = 0  # the leading bits of the answer
    _level: int = 0
    _left: int | None = None  # values that share them; None before the first pass
    _counts: np.ndarray = field(default_factory=lambda: np.zeros(1 << _BITS, np.int64))
    _gathered: list[Float64Array] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        return self.threshold is not None

    def part(self) -> Selection:
        """An empty copy to count some of the values in another thread; ``join`` brings it back."""
        return Selection(self.keep_of, None, self._keep, 0, self._known, self._level, self._left)

    def add(self, values: Float64Array) -> None:
        """Count values, or gather them where few are left."""
        bits = np.abs(np.ascontiguousarray(values)).reshape(-1).view(np.uint64)
        self._seen += len(bits)
        if self._level:
            bits = bits[bits >> np.uint64(64 - _BITS * self._level) == np.uint64(self._known)]
        if self._gathers:
            self._gathered.append(bits.view(np.float64))
            return
        shift = np.uint64(64 - _BITS * (self._level + 1))
        digits = ((bits >> shift) & np.uint64((1 << _BITS) - 1)).astype(np.int64)
        self._counts += np.bincount(digits, minlength=1 << _BITS)

    def join(self, part: Selection) -> None:
        """What another counted in this pass."""
        self._seen += part._seen
        self._counts += part._counts
        self._gathered += part._gathered

    def end_pass(self) -> None:
        """Draw the conclusion of a pass."""
        if not self._level and not self._seen:  # nothing to choose from
            self.threshold = 0.0
            return
        if not self._level:
            self._keep = self.keep_of(self._seen)
        if self._gathers:
            values = np.concatenate(self._gathered)
            self.threshold = float(np.partition(values, len(values) - self._keep)[len(values) - self._keep])
            self._gathered = []
            return
        above = np.cumsum(self._counts[::-1])[::-1]  # values with this digit or a larger one
        digit = int(np.flatnonzero(above >= self._keep)[-1])
        self._keep -= int(above[digit] - self._counts[digit])
        self._left = int(self._counts[digit])
        self._known = (self._known << _BITS) | digit
        self._level += 1
        self._counts = np.zeros(1 << _BITS, np.int64)
        if self._level == _LEVELS:
            self.threshold = float(np.array([self._known], np.uint64).view(np.float64)[0])

    @property
    def _gathers(self) -> bool:
        return self._left is not None and self._left <= _FEW


def kth_largest(passes: Callable[[], Iterable[Float64Array]], keep_of: Callable[[int], int]) -> float:
    """The smallest magnitude that stays of the values that ``passes()`` gives, again at each call."""
    selection = Selection(keep_of)
    while not selection.is_done:
        for values in passes():
            selection.add(values)
        selection.end_pass()
    assert selection.threshold is not None
    return selection.threshold
