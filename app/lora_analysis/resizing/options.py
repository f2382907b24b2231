"""What a resize is asked to do."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from ..errors import OptionError

if TYPE_CHECKING:
    from ..adapter import Layer
    from ..linalg.rank import RankChoice
    from .recipes import Recipe

Method = Literal["svd", "pad_truncate"]
OutputDtype = Literal["keep", "fp32", "fp16", "bf16", "fp8"]
AlphaPolicy = Literal["keep-scale", "rank", "baked"]
BudgetKind = Literal["size", "parameters", "error"]

METHODS: tuple[str, ...] = ("svd", "pad_truncate")
OUTPUT_DTYPES: dict[str, str] = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8": "F8_E4M3"}
ALPHA_POLICIES: tuple[str, ...] = ("keep-scale", "rank", "baked")
BUDGET_KINDS: tuple[str, ...] = ("size", "parameters", "error")


@dataclass(frozen=True, slots=True)
class Budget:
    """One limit for all layers together: bytes of file, number of parameters, or relative error of the adapter."""

    kind: BudgetKind
    limit: float

    def __post_init__(self) -> None:
        _require_known("budget", self.kind, BUDGET_KINDS)
        if not isfinite(self.limit) or self.limit < 0 or (self.kind == "error" and self.limit > 1):
            needed = "a fraction from 0 to 1" if self.kind == "error" else "a number of at least 0"
            raise OptionError(f"a budget of {self.limit} {self.kind} was asked for; it is {needed}")


@dataclass(frozen=True, slots=True)
class ResizeOptions:
    """How ranks are chosen and how the result is stored. Exactly one of ``choice``, ``budget``, ``recipe`` is set.

    ``choice`` is a rank rule per layer, ``conv_choice`` the same for k x k convolutions where they differ,
    ``table`` gives layers matching a glob a fixed rank, first match wins. ``budget`` shares one limit among all
    layers, ``recipe`` scores every component; both choose every rank, so neither goes with the two before.
    ``floor`` and ``cap`` bound what a rule, a budget or a recipe answers, not the ranks of the table.

    ``alpha``: ``keep-scale`` keeps alpha / rank of every layer, ``rank`` stores alpha = rank, ``baked`` stores no
    alpha at all; the delta is the same. ``keep_structure`` leaves alone what is no plain LoRA pair.

    Raises: OptionError for what contradicts itself.
    """

    choice: RankChoice | None = None
    budget: Budget | None = None
    recipe: Recipe | None = None
    base: str | None = None  # checkpoint whose norms the recipe compares with
    conv_choice: RankChoice | None = None
    table: tuple[tuple[str, int], ...] = ()
    floor: int = 1
    cap: int | None = None
    method: Method = "svd"
    dtype: OutputDtype = "keep"
    alpha: AlphaPolicy = "keep-scale"
    keep_structure: bool = False

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.choice, self.budget, self.recipe)) != 1:
            raise OptionError("give one way to choose ranks: --rank, --energy, --size, --error, --recipe, ...")
        _require_known("method", self.method, METHODS)
        _require_known("dtype", self.dtype, ("keep", *OUTPUT_DTYPES))
        _require_known("alpha policy", self.alpha, ALPHA_POLICIES)
        self._check_ranks()
        if self.recipe is not None and self.recipe.needs_base and self.base is None:
            raise OptionError("the recipe compares with the base model; name its checkpoint with --base")
        if self.base is not None and (self.recipe is None or not self.recipe.needs_base):
            raise OptionError(
                "a base checkpoint serves the scores spn_ckpt and fro_ckpt of a recipe; none was asked for"
            )
        if self.choice is None and (self.conv_choice is not None or self.table):
            raise OptionError("a budget or a recipe chooses every rank; it does not go with --conv-rank or --rank-for")
        choices = [choice for choice in (self.choice, self.conv_choice) if choice is not None]
        if self.method == "pad_truncate" and (not choices or any(choice.rule != "fixed" for choice in choices)):
            raise OptionError("pad_truncate cuts to a fixed rank; it has no singular values to apply a rule to")

    def _check_ranks(self) -> None:
        if self.floor < 1:
            raise OptionError(f"the smallest rank asked for is {self.floor}; it must be at least 1")
        if self.cap is not None and self.cap < self.floor:
            raise OptionError(f"the largest rank asked for is {self.cap}, the smallest {self.floor}")
        for pattern, rank in self.table:
            if rank < 1:
                raise OptionError(f"rank {rank} was asked for {pattern}; the smallest rank is 1")

    def choice_for(self, layer: Layer) -> RankChoice | None:
        """The rule of one layer: the table's, the convolutions', or the general one; None under a budget."""
        from ..linalg.rank import RankChoice

        for pattern, rank in self.table:
            if fnmatchcase(layer.name, pattern):
                return RankChoice("fixed", rank)
        choice = self.conv_choice if self.conv_choice is not None and layer.is_conv else self.choice
        if choice is None or choice.rule == "fixed":
            return choice
        return RankChoice(choice.rule, choice.value, max(self.floor, choice.floor), self.cap or choice.cap)

    @property
    def is_fixed(self) -> bool:
        """Whether every rank is stated, so that no singular value is needed to choose one."""
        choices = [choice for choice in (self.choice, self.conv_choice) if choice is not None]
        return bool(choices) and all(choice.rule == "fixed" for choice in choices)

    def to_dict(self) -> dict[str, Any]:
        """For reports and provenance: what was asked, nothing that was left at its default."""
        stated: dict[str, Any] = {"method": self.method, "dtype": self.dtype, "alpha": self.alpha}
        for name, choice in (("rule", self.choice), ("conv_rule", self.conv_choice)):
            if choice is not None:
                stated[name] = {"name": choice.rule, "value": choice.value}
        if self.budget is not None:
            stated["budget"] = {"kind": self.budget.kind, "limit": self.budget.limit}
        if self.recipe is not None:
            stated["recipe"] = self.recipe.text
        if self.table:
            stated["table"] = [list(row) for row in self.table]
        if self.floor != 1:
            stated["min_rank"] = self.floor
        if self.cap is not None:
            stated["max_rank"] = self.cap
        if self.keep_structure:
            stated["keep_structure"] = True
        return stated


def _require_known(what: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise OptionError(f"no {what} is named {value!r}; there are {', '.join(known)}")
