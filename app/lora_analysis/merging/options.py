"""What a merge is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite
from typing import Any

from ..errors import OptionError
from ..resizing.options import Budget, OutputDtype, ResizeOptions
from ..resizing.request import BUDGETS, RULES, options_of

_CANCELLED = 1e-12  # of the sum of magnitudes: 0.1 + 0.2 - 0.3 is 5e-17 in floating point, and means 0
# Words of a resize that a merge understands: those that choose ranks.
_RANK_WORDS = (*RULES, *BUDGETS, "conv_rank", "rank_for", "min_rank", "max_rank")


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How weights are read and how the sum is stored.

    ``normalize`` divides the weights by their sum. Without ``truncation`` the sum is exact, its ranks the sums of the
    inputs' ranks; with it ranks are chosen as in a resize of the exact sum. ``dtype``: ``keep`` stores each layer in
    the most precise type among the inputs that hold it. ``allow_disjoint`` merges inputs that share no layer,
    ``drop_unsupported`` leaves out what has no sum.

    Raises: OptionError for what contradicts itself.
    """

    normalize: bool = True
    truncation: ResizeOptions | None = None
    dtype: OutputDtype = "keep"
    allow_disjoint: bool = False
    drop_unsupported: bool = False

    def __post_init__(self) -> None:
        if self.truncation is not None and (self.truncation.method != "svd" or self.truncation.recipe is not None):
            raise OptionError("a sum is truncated by its singular values: give a rank rule or a budget")
        self.as_resize()  # checks the rest

    @property
    def is_exact(self) -> bool:
        """Whether nothing is truncated."""
        return self.truncation is None

    def as_resize(self) -> ResizeOptions:
        """What is asked of the sum; an exact merge is one that may not err."""
        asked = self.truncation or ResizeOptions(budget=Budget("error", 0.0))
        return replace(asked, dtype=self.dtype, alpha="rank", keep_structure=False)

    def to_dict(self) -> dict[str, Any]:
        """For reports and provenance: what was asked."""
        ranks = {} if self.truncation is None else self.truncation.to_dict()
        stated = {key: value for key, value in ranks.items() if key not in ("method", "dtype", "alpha")}
        stated |= {"normalize": self.normalize, "dtype": self.dtype}
        return stated | ({"drop_unsupported": True} if self.drop_unsupported else {})


def merge_options(
    *,
    normalize: bool = True,
    dtype: OutputDtype = "keep",
    allow_disjoint: bool = False,
    drop_unsupported: bool = False,
    **ranks: Any,
) -> MergeOptions:
    """Options from keywords. ``ranks`` are the words of a resize: ``rank=32``, ``energy=0.95``, ``size=50e6`` (bytes),
    ``error=0.05``, ``max_rank=64``, ...; see :func:`..resizing.request.options_of`. None counts as not asked for.

    Raises: OptionError for what is unknown, no number, or contradicts itself.
    """
    asked = {key: value for key, value in ranks.items() if value is not None}
    unknown = [key for key in asked if key not in _RANK_WORDS]
    if unknown:
        own = ("normalize", "dtype", "allow_disjoint", "drop_unsupported")
        raise OptionError(f"no option of a merge is named {unknown[0]!r}; there are {', '.join((*own, *_RANK_WORDS))}")
    return MergeOptions(
        normalize=normalize,
        truncation=options_of(**asked) if asked else None,
        dtype=dtype,
        allow_disjoint=allow_disjoint,
        drop_unsupported=drop_unsupported,
    )


def effective_weights(weights: Sequence[float], *, normalize: bool) -> tuple[float, ...]:
    """The weights that act: as given, or divided by their sum.

    Raises: OptionError for a weight that is no finite number, where all are 0, and where they are to be normalised
    and sum to 0.
    """
    for position, weight in enumerate(weights, start=1):
        if not isfinite(weight):
            raise OptionError(f"weight {position} is {weight}; a weight is a finite number")
    if not any(weights):
        raise OptionError("all weights are 0; nothing would be left")
    if not normalize:
        return tuple(map(float, weights))
    total = fsum(weights)
    if abs(total) <= _CANCELLED * fsum(map(abs, weights)):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise OptionError(f"the weights {shown} sum to 0 and cannot be normalised; ask for --no-normalize")
    return tuple(weight / total for weight in weights)
