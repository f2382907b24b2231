"""What a conversion is asked to do, and what each dialect can express."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..errors import OptionError
from ..resizing.options import OUTPUT_DTYPES, OutputDtype

Target = Literal["kohya", "peft", "diffusers", "comfyui"]
ScalePolicy = Literal["keep", "baked"]


class Spoken(NamedTuple):
    """One dialect as this package writes it."""

    down: str  # the end of a factor's name
    up: str
    magnitude: str  # of DoRA's norms
    states_alpha: bool  # in a tensor per layer; else a document states it
    carries_other_kinds: bool  # LoHa, LoKr, differences, ... have names here


TARGETS: Mapping[Target, Spoken] = {
    "kohya": Spoken(".lora_down.weight", ".lora_up.weight", ".dora_scale", True, True),
    "comfyui": Spoken(".lora_A.weight", ".lora_B.weight", ".dora_scale", True, True),
    "peft": Spoken(".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector", False, False),
    "diffusers": Spoken(".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector", False, False),
}


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """The dialect to write, and how.

    ``rank``: of layers that become LoRA from another kind; None is exact. ``plain``: make LoRA of every kind, also
    where the target has names for it. ``uniform_rank``: one rank for all layers: smaller ones are padded with zeros,
    larger ones truncated. ``scale``: ``baked`` multiplies each layer's scale into its factors, so that alpha is the
    rank. ``component``: the part of the pipeline to write, for a PEFT folder, which holds one. ``family``: the base
    model, where the file does not say. ``drop``: leave out what the target cannot express.

    Raises: OptionError for what contradicts itself.
    """

    to: Target
    rank: int | None = None
    plain: bool = False
    uniform_rank: int | None = None
    scale: ScalePolicy = "keep"
    dtype: OutputDtype = "keep"
    component: str | None = None
    family: str | None = None
    drop: bool = False

    def __post_init__(self) -> None:
        _require_known("dialect", self.to, TARGETS)
        _require_known("dtype", self.dtype, ("keep", *OUTPUT_DTYPES))
        _require_known("scale policy", self.scale, ("keep", "baked"))
        for name, rank in (("rank", self.rank), ("uniform rank", self.uniform_rank)):
            if rank is not None and rank < 1:
                raise OptionError(f"a {name} of {rank} was asked for; it must be at least 1")

    @property
    def spoken(self) -> Spoken:
        return TARGETS[self.to]

    @property
    def makes_plain(self) -> bool:
        """Whether every kind becomes LoRA."""
        return self.plain or self.uniform_rank is not None or not self.spoken.carries_other_kinds

    @property
    def changes_factors(self) -> bool:
        """Whether factors that fit as they are get other values or types."""
        return self.uniform_rank is not None or self.scale == "baked" or self.dtype != "keep"

    def to_dict(self) -> dict[str, Any]:
        """For reports and provenance: what was asked, nothing that was left at its default."""
        stated: dict[str, Any] = {"to": self.to}
        for name, default in (
            ("rank", None), ("plain", False), ("uniform_rank", None), ("scale", "keep"), ("dtype", "keep"),
            ("component", None), ("family", None), ("drop", False),
        ):  # fmt: skip
            value = getattr(self, name)
            if value != default:
                stated[name] = value
        return stated


def convert_options(**asked: Any) -> ConvertOptions:
    """Options from keywords; what is None counts as not asked for. ``bake_scale=True`` is ``scale="baked"``.

    Raises: OptionError for what is unknown or contradicts itself.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    if given.pop("bake_scale", False):
        given["scale"] = "baked"
    known = ConvertOptions.__dataclass_fields__
    unknown = [key for key in given if key not in known]
    if unknown:
        raise OptionError(f"no option of a conversion is named {unknown[0]!r}; there are {', '.join(known)}")
    if "to" not in given:
        raise OptionError(f"name the dialect to write: {', '.join(TARGETS)}")
    for name in ("rank", "uniform_rank"):
        if name in given:
            given[name] = _whole(name, given[name])
    return ConvertOptions(**given)


def _whole(name: str, value: Any) -> int:
    try:
        number = float(value)
        if not isinstance(value, bool) and number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise OptionError(f"{name} is {value!r}; it must be a whole number")


def _require_known(what: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise OptionError(f"no {what} is named {value!r}; there are {', '.join(known)}")
