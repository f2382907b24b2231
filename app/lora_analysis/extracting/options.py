"""What an extraction is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from ..converting.options import TARGETS, Spoken, Target
from ..errors import OptionError
from ..resizing.options import OUTPUT_DTYPES

Dtype = Literal["fp32", "fp16", "bf16"]
_WAYS = ("rank", "energy", "error", "size")


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """One of ``rank`` (of every layer), ``energy`` (smallest rank per layer that keeps this fraction of Σσ²), ``error``
    (relative, of the whole) and ``size`` (bytes of the file) is set.

    ``max_rank``: no layer gets more. ``power``: iterations of the range finder; each sharpens the singular vectors.
    ``full_norms``: also differences of norms and biases, whole. Raises: OptionError for what contradicts itself.
    """

    to: Target
    rank: int | None = None
    energy: float | None = None
    error: float | None = None
    size: int | None = None
    max_rank: int = 256
    dtype: Dtype = "fp16"
    seed: int = 0
    power: int = 3
    full_norms: bool = False
    component: str | None = None
    family: str | None = None

    def __post_init__(self) -> None:
        if self.to not in TARGETS:
            raise OptionError(f"no dialect is named {self.to!r}; there are {', '.join(TARGETS)}")
        if self.dtype not in OUTPUT_DTYPES:
            raise OptionError(f"no dtype is named {self.dtype!r}; there are {', '.join(OUTPUT_DTYPES)}")
        given = [name for name in _WAYS if getattr(self, name) is not None]
        if len(given) != 1:
            raise OptionError("give one way to choose ranks: --rank, --energy, --error or --size")
        value = getattr(self, given[0])
        if not isfinite(value) or value <= 0 or (given[0] in ("energy", "error") and value > 1):
            needed = "a fraction above 0, at most 1" if given[0] in ("energy", "error") else "above 0"
            raise OptionError(f"{given[0]} is {value}; it must be {needed}")
        if self.max_rank < 1 or self.power < 0:
            raise OptionError("the largest rank must be at least 1, and power at least 0")
        if self.full_norms and not TARGETS[self.to].carries_other_kinds:
            raise OptionError(f"{self.to} has no name for differences of norms and biases; leave --full-norms out")

    @property
    def spoken(self) -> Spoken:
        return TARGETS[self.to]

    @property
    def limit(self) -> int:
        """The largest rank of any layer."""
        return self.rank if self.rank is not None else self.max_rank

    def to_dict(self) -> dict[str, Any]:
        way = next(name for name in _WAYS if getattr(self, name) is not None)
        stated: dict[str, Any] = {"to": self.to, way: getattr(self, way), "dtype": self.dtype, "seed": self.seed}
        if way != "rank":
            stated["max_rank"] = self.max_rank
        return stated | {"power": self.power, "full_norms": self.full_norms}
