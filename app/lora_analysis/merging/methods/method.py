"""What a merge method is: a function of one layer's weighted deltas, and what has to be known to call it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ...adapter import FloatArray, LowRank
    from ...linalg.floats import Float64Array
    from ...linalg.tasks import LayerTasks

Settings: TypeAlias = Mapping[str, Any]


class Merged(NamedTuple):
    """The merged delta of one matrix."""

    factors: LowRank
    missing: float = 0.0  # Frobenius norm of what the factors leave out of it, measured


class Request(NamedTuple):
    """One matrix to merge."""

    layer: LayerTasks
    settings: Settings
    size: int  # the rank that the plan announced: no more columns than this
    thresholds: Mapping[int, float] | None = None  # by input, where they hold for all layers together


class Vectors(NamedTuple):
    """Differences that are no matrices: of biases, norms and the like, unweighted, all of one shape."""

    name: str
    values: Sequence[FloatArray]
    weights: Sequence[float]
    numbers: Sequence[int]  # of the inputs
    settings: Settings


class SizeRequest(NamedTuple):
    """What the announced rank of a layer follows from."""

    ranks: Sequence[int]  # of the inputs' deltas
    limit: int  # the smaller side
    asked: int | None  # the fixed rank asked for


def sum_of_ranks(request: SizeRequest) -> int:
    return sum(request.ranks)


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the registry.

    ``alone``: what happens to a layer that one input holds. ``kept``: it is ``w Δ``, for there is nothing to be
    reconciled; ``merged``: the method acts on every input by itself, so it acts here too.
    ``entries``: the arrays whose magnitudes are compared, where the method trims to a ``density``: once per pass over
    the layer, one array per task.
    """

    name: str
    says: str  # one line, for lists
    merge: Callable[[Request], Merged]
    parameters: Mapping[str, Any] = field(default_factory=dict)  # name -> default
    vectors: Callable[[Vectors], Float64Array] | None = None  # None: their weighted sum
    size: Callable[[SizeRequest], int] = sum_of_ranks
    alone: Literal["kept", "merged"] = "kept"
    most: int | None = None  # of inputs
    is_sum: bool = False  # the merged delta is Σ wₜ Δₜ
    rank: Literal["exact", "largest"] = "exact"  # where none is asked for: all of it, or the largest of the inputs'
    truncates: bool = True  # whether a rank or a budget may be asked for
    entries: Callable[[LayerTasks], Callable[[], Iterable[Sequence[Float64Array]]]] | None = None
    stored_factors: Literal["", "any", "equal"] = ""  # whether it needs plain LoRA pairs, and of equal rank
    normalize: bool = True  # unless said otherwise: a merge is a mean
    wrong: str = ""  # what a tool that is reproduced gets wrong
    check: Callable[[Settings], None] | None = None  # of parameters together; raises OptionError

    @property
    def is_compatibility(self) -> bool:
        """Whether it stands for another tool's behaviour."""
        return self.name.startswith("compat:")

    def to_dict(self) -> dict[str, Any]:
        """For lists."""
        return {
            "name": self.name,
            "says": self.says,
            "parameters": dict(self.parameters),
            "most_inputs": self.most,
            "wrong": self.wrong or None,
        }
