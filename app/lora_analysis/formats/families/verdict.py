"""What one source (names and shapes, or the header) says about the base model, and how two are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from ...adapter import BaseModel
from .structure import Structure
from .vocabulary import UNKNOWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """A family, and why."""

    family: str
    evidence: str  # a clause: what was seen
    variant: str | None = None
    rivals: tuple[str, ...] = ()  # families this source cannot tell from ``family``, likeliest first
    overruled_by: tuple[str, ...] = ()  # "family/variant" of a header that explains an exception
    alike: tuple[str, ...] = ()  # families that look the same in the exception, where no header says which it is

    @property
    def label(self) -> str:
        return f"{self.family}/{self.variant}" if self.variant else self.family


Rule: TypeAlias = Callable[[Structure], Verdict | None]

# A vision-language model whose vision tower was left alone looks like the language model inside it, and the text
# encoder of an image model, saved in a folder of its own, like the whole CLIP or T5.
_BUILT_ON: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "llava": ("llama", "mistral", "qwen2", "phi3"),
        "qwen2-vl": ("qwen2",),
        "qwen3-vl": ("qwen3", "qwen3-moe", "qwen2-vl"),
        "paligemma": ("gemma", "gemma2"),
        "blip": ("bert", "opt", "t5"),
        "sd15": ("clip",),
        "sd21": ("clip",),
        "sdxl": ("clip",),
        "flux1": ("clip", "t5"),
    }
)


def combine(by_keys: Verdict | None, by_header: Verdict | None) -> BaseModel:
    """One answer of two: names and shapes first, the header where they leave it open, both where they disagree."""
    if by_keys is None or by_keys.family == UNKNOWN:
        return _header_alone(by_keys, by_header)
    if by_header is None:
        is_sure = not (by_keys.rivals or by_keys.alike)
        return _answer(by_keys, from_keys=by_keys.family if is_sure else None, from_header=None)
    if by_header.family == by_keys.family or by_keys.family in by_header.rivals:
        return _agreement(by_keys, by_header)
    if _leaves_open(by_keys, by_header):
        evidence = f"{_ambiguity(by_keys)}; {by_header.evidence} decides"
        # The size of the likeliest model is not that of its rival; a decoder keeps its size in a larger model.
        variant = by_header.variant or (by_keys.variant if not by_keys.rivals else None)
        return BaseModel(by_header.family, None, by_header.family, evidence, variant)
    evidence = f"{_ambiguity(by_keys)}; {by_header.evidence} disagrees"
    return BaseModel(by_keys.family, by_keys.family, by_header.family, evidence, by_keys.variant)


def _header_alone(by_keys: Verdict | None, by_header: Verdict | None) -> BaseModel:
    seen = by_keys.evidence if by_keys is not None else "no rule fits the names and shapes"
    if by_header is None:
        return BaseModel(UNKNOWN, None, None, f"{seen}, and the header names no known model")
    return BaseModel(by_header.family, None, by_header.family, f"{by_header.evidence}; {seen}", by_header.variant)


def _agreement(by_keys: Verdict, by_header: Verdict) -> BaseModel:
    from_keys = None if by_keys.rivals else by_keys.family
    evidence = f"{_ambiguity(by_keys)}; {by_header.evidence} {'decides' if by_keys.rivals else 'agrees'}"
    return BaseModel(by_keys.family, from_keys, by_keys.family, evidence, by_keys.variant or by_header.variant)


def _leaves_open(by_keys: Verdict, by_header: Verdict) -> bool:
    return (
        by_header.family in by_keys.rivals
        or by_header.label in by_keys.overruled_by
        or by_keys.family in _BUILT_ON.get(by_header.family, ())
    )


def _answer(verdict: Verdict, *, from_keys: str | None, from_header: str | None) -> BaseModel:
    evidence = _ambiguity(verdict, verdict.rivals or verdict.alike)
    return BaseModel(verdict.family, from_keys, from_header, evidence, verdict.variant)


def _ambiguity(verdict: Verdict, others: tuple[str, ...] | None = None) -> str:
    """The evidence, with the families that would look the same: the rivals, unless others are named."""
    rivals = verdict.rivals if others is None else others
    if not rivals:
        return verdict.evidence
    return f"{verdict.evidence} (ambiguous: {' or '.join((verdict.family, *rivals))})"
