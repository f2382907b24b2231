"""What a merge is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..resizing.options import Budget, OutputDtype, ResizeOptions

if TYPE_CHECKING:
    from ..linalg.rank import RankChoice

_CANCELLED = 1e-12  # of the sum of magnitudes: 0.1 + 0.2 - 0.3 is 5e-17 in floating point, and means 0


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How weights are read and how the sum is stored.

    ``normalize`` divides the weights by their sum. Without ``choice`` and ``budget`` the sum is exact, its ranks the
    sums of the inputs' ranks; ``choice`` is a rank rule per layer, ``budget`` one limit for the whole file.
    ``dtype``: ``keep`` stores each layer in the most precise type among the inputs that hold it.
    ``allow_disjoint`` merges inputs that share no layer, ``drop_unsupported`` leaves out what has no sum.

    Raises: OptionError for what contradicts itself.
    """

    normalize: bool = True
    choice: RankChoice | None = None
    budget: Budget | None = None
    dtype: OutputDtype = "keep"
    allow_disjoint: bool = False
    drop_unsupported: bool = False

    def __post_init__(self) -> None:
        if self.choice is not None and self.budget is not None:
            raise OptionError("give one rank rule or one budget: --rank or --energy, --size or --error")
        self.as_resize()  # checks the rest

    @property
    def is_exact(self) -> bool:
        """Whether nothing is truncated."""
        return self.choice is None and self.budget is None

    def as_resize(self) -> ResizeOptions:
        """What is asked of the sum; an exact merge is one that may not err."""
        budget = Budget("error", 0.0) if self.is_exact else self.budget
        return ResizeOptions(choice=self.choice, budget=budget, dtype=self.dtype, alpha="rank")

    def to_dict(self) -> dict[str, Any]:
        """For reports and provenance."""
        stated: dict[str, Any] = {"normalize": self.normalize, "dtype": self.dtype}
        if self.choice is not None:
            stated["rule"] = {"name": self.choice.rule, "value": self.choice.value}
        if self.budget is not None:
            stated["budget"] = {"kind": self.budget.kind, "limit": self.budget.limit}
        if self.drop_unsupported:
            stated["drop_unsupported"] = True
        return stated


def merge_options(
    *,
    rank: int | None = None,
    energy: float | None = None,
    size_bytes: float | None = None,
    error: float | None = None,
    **fields: Any,
) -> MergeOptions:
    """Options from plain values: at most one way to choose ranks, and the other fields of :class:`MergeOptions`.

    ``energy`` is kept in every layer, a fraction; ``error`` is the relative error of the whole, 0 to 1.
    Raises: OptionError for more than one way, an impossible value, or a field that does not exist.
    """
    from ..linalg.rank import RankChoice

    ways = {"--rank": rank, "--energy": energy, "--size": size_bytes, "--error": error}
    stated = [name for name, value in ways.items() if value is not None]
    if len(stated) > 1:
        raise OptionError(f"{' and '.join(stated)} all choose ranks; give one")
    if rank is not None:
        if isinstance(rank, bool) or not isinstance(rank, int):
            raise OptionError(f"rank {rank!r} was asked for; a rank is a whole number of at least 1")
        fields["choice"] = RankChoice("fixed", rank)
    elif energy is not None:
        fields["choice"] = RankChoice("energy", energy)
    elif size_bytes is not None:
        fields["budget"] = Budget("size", size_bytes)
    elif error is not None:
        fields["budget"] = Budget("error", error)
    unknown = fields.keys() - MergeOptions.__dataclass_fields__
    if unknown:
        known = ", ".join(MergeOptions.__dataclass_fields__)
        raise OptionError(f"a merge has no option {', '.join(sorted(unknown))}; its options are {known}")
    return MergeOptions(**fields)


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
