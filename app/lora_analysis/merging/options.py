"""What a merge is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import fsum, isfinite
from typing import Any, Literal, NamedTuple

from ..errors import OptionError
from ..resizing.options import Budget, OutputDtype, ResizeOptions
from ..resizing.request import BUDGETS, RULES, options_of
from .methods import DEFAULT, method_named
from .methods.method import Method, Settings
from .methods.parameters import PARAMETERS, settings_of

MetadataPolicy = Literal["fresh", "first", "union", "full"]
METADATA_POLICIES: tuple[str, ...] = ("fresh", "first", "union", "full")
_CANCELLED = 1e-12  # of the sum of magnitudes: 0.1 + 0.2 - 0.3 is 5e-17 in floating point, and means 0
# Words of a resize that a merge understands: those that choose ranks.
_RANK_WORDS = (*RULES, *BUDGETS, "conv_rank", "rank_for", "min_rank", "max_rank")
_OWN = ("method", "normalize", "dtype", "metadata", "layer_weights", "allow_disjoint", "drop_unsupported")


class BaseRecord(NamedTuple):
    """A checkpoint: its name, and the SHA-256 of the weights that were used."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class MergeOptions:
    """How weights are read, how deltas are merged and how the result is stored.

    ``method``: a name of the registry, ``parameters`` its numbers as asked for. ``normalize`` divides the weights by
    their sum; None leaves it to the method. Without ``truncation`` the merged delta keeps every rank it has; with it
    ranks are chosen as in a resize of it. ``dtype``: ``keep`` stores each layer in the most precise type among the
    inputs that hold it. ``metadata``: a new header, the first input's, a new one with the sum of the tag counts, or a
    new one with all inputs' headers in it. ``allow_disjoint`` merges inputs that share no layer, ``drop_unsupported``
    leaves out what has no sum.

    Raises: OptionError for what contradicts itself, is unknown or not allowed.
    """

    normalize: bool | None = None
    truncation: ResizeOptions | None = None
    dtype: OutputDtype = "keep"
    allow_disjoint: bool = False
    drop_unsupported: bool = False
    method: str = DEFAULT
    parameters: Mapping[str, Any] = field(default_factory=dict)
    metadata: MetadataPolicy = "fresh"
    base: BaseRecord | None = None  # the checkpoint that made DoRA inputs differences, for the record
    words: Mapping[str, Any] = field(default_factory=dict)  # the ranks as they were asked for, for recipes
    settings: Settings = field(init=False, default_factory=dict)  # every parameter of the method

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", settings_of(self.how, self.parameters))
        if self.truncation is not None and (self.truncation.method != "svd" or self.truncation.recipe is not None):
            raise OptionError("a sum is truncated by its singular values: give a rank rule or a budget")
        if self.truncation is not None and not self.how.truncates:
            raise OptionError(f"{self.method} is exact and never truncated; leave the rank out, or take weighted_sum")
        if self.metadata not in METADATA_POLICIES:
            raise OptionError(
                f"no metadata policy is named {self.metadata!r}; there are {', '.join(METADATA_POLICIES)}"
            )
        self.as_resize()  # checks the rest

    @property
    def how(self) -> Method:
        """The method. Raises: OptionError for an unknown name."""
        return method_named(self.method)

    @property
    def normalizes(self) -> bool:
        """Whether weights are divided by their sum."""
        return self.how.normalize if self.normalize is None else self.normalize

    @property
    def is_exact(self) -> bool:
        """Whether nothing of the merged delta is cut off."""
        return self.truncation is None and self.how.rank == "exact"

    @property
    def is_plain_sum(self) -> bool:
        """Whether the result is ``Σ wₜ Δₜ`` and nothing is done to it before or after."""
        return self.how.is_sum and not self.settings["pico"] and not self.settings["svc"]

    def as_resize(self) -> ResizeOptions:
        """What is asked of the merged adapter; an exact merge is one that may not err."""
        asked = self.truncation or ResizeOptions(budget=Budget("error", 0.0))
        return replace(asked, dtype=self.dtype, alpha="rank", keep_structure=False)

    def to_dict(self) -> dict[str, Any]:
        """For reports and provenance: what was asked, and every number that had a say."""
        ranks = {} if self.truncation is None else self.truncation.to_dict()
        stated = {key: value for key, value in ranks.items() if key not in ("method", "dtype", "alpha")}
        stated |= {"method": self.method, "normalize": self.normalizes, "dtype": self.dtype}
        if not self.is_plain_sum or self.settings["lambda"] != 1:
            stated["parameters"] = _with_a_say(self.settings)
        if self.base is not None:
            stated["base"] = self.base._asdict()
        if self.metadata != "fresh":
            stated["metadata"] = self.metadata
        return stated | ({"drop_unsupported": True} if self.drop_unsupported else {})

    def keywords(self) -> dict[str, Any] | None:
        """What ``merge_options`` makes the same options from; None where ranks were not given in words."""
        if self.truncation is not None and not self.words:
            return None
        stated: dict[str, Any] = {"method": self.method, "normalize": self.normalizes, "dtype": self.dtype}
        stated |= {**self.words, **_with_a_say(self.settings), "metadata": self.metadata}
        flags = {"allow_disjoint": self.allow_disjoint, "drop_unsupported": self.drop_unsupported}
        return stated | {key: True for key, value in flags.items() if value}


def _with_a_say(settings: Settings) -> dict[str, Any]:
    """Parameters without those that are None or belong to a step that is not taken."""
    idle = () if settings.get("svc") else ("svc_floor",)
    return {key: value for key, value in settings.items() if value is not None and key not in idle}


def merge_options(
    *,
    method: str = DEFAULT,
    normalize: bool | None = None,
    dtype: OutputDtype = "keep",
    metadata: MetadataPolicy = "fresh",
    allow_disjoint: bool = False,
    drop_unsupported: bool = False,
    **others: Any,
) -> MergeOptions:
    """Options from keywords. ``others`` are parameters of the method (``density=0.3``, ``seed=1``, ``lambda_=0.8``; see
    ``methods.parameters``) and the words of a resize: ``rank=32``, ``energy=0.95``, ``size=50e6`` (bytes),
    ``error=0.05``, ``max_rank=64``, ...; see :func:`..resizing.request.options_of`. None counts as not asked for.

    Raises: OptionError for what is unknown, no number, or contradicts itself.
    """
    asked = {"lambda" if key == "lambda_" else key: value for key, value in others.items() if value is not None}
    parameters = {key: value for key, value in asked.items() if key in PARAMETERS}
    ranks = {key: value for key, value in asked.items() if key not in PARAMETERS and value is not False}
    unknown = [key for key in ranks if key not in _RANK_WORDS]
    if unknown:
        known = ", ".join((*_OWN, *PARAMETERS, *_RANK_WORDS))
        raise OptionError(f"no option of a merge is named {unknown[0]!r}; there are {known}")
    return MergeOptions(
        normalize=normalize,
        truncation=options_of(**ranks) if ranks else None,
        dtype=dtype,
        allow_disjoint=allow_disjoint,
        drop_unsupported=drop_unsupported,
        method=method,
        parameters=parameters,
        metadata=metadata,
        words=_canonical(ranks),
    )


def _canonical(ranks: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers that mean the same are written the same, whoever asks: recipes are compared byte by byte.

    They were checked before; ``rank_for`` may hold texts.
    """
    found = {key: _shortest(value) for key, value in ranks.items() if key != "rank_for"}
    if "rank_for" in ranks:
        found["rank_for"] = {str(pattern): _shortest(float(rank)) for pattern, rank in ranks["rank_for"].items()}
    return found


def _shortest(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
