"""The base model a header or a configuration names: free text, matched by words, never trusted.

Sources, in order: ``ss_base_model_version`` (kohya, musubi-tuner, ai-toolkit, OneTrainer), ModelSpec's
``modelspec.architecture``, PEFT's ``base_model_name_or_path`` (also inside diffusers' ``lora_adapter_metadata``),
MLX's ``model``, ``ss_v2``, GGUF's ``general.architecture``, and the weaker hints after them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from ...errors import FormatError
from ...text import printable
from ..strict_json import loads
from .verdict import Verdict
from .wordings import EXACT, VAGUE, WORDINGS

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_LONGEST_VALUE = 1024  # characters; a name is shorter, and a hostile value is not worth reading
_LONGEST_JSON = 100_000  # characters
_SHOWN = 60  # characters of a value in the evidence
_VERSION, _ARCHITECTURE = "ss_base_model_version", "modelspec.architecture"


def read_header(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> Verdict | None:
    """What the header and adapter_config.json say; the first source that names a known family."""
    for source, value in _sources(metadata, config or {}):
        found = _family_of(value)
        if found is not None:
            family, variant = found
            return Verdict(
                family, f"{source} {printable(value, limit=_SHOWN)!r}", variant, VAGUE.get(source, {}).get(family, ())
            )
    return None


def _sources(metadata: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(source, value) of everything that may name the base model, most reliable first."""
    values = (
        (_VERSION, metadata.get(_VERSION)),
        (_ARCHITECTURE, metadata.get(_ARCHITECTURE)),
        ("base_model_name_or_path", config.get("base_model_name_or_path")),
        *_diffusers_names(metadata.get("lora_adapter_metadata")),
        ("model", config.get("model")),
        ("ss_v2", "sd-v2" if _is_true(metadata.get("ss_v2")) else None),
        ("general.architecture", metadata.get("general.architecture")),
        ("general.base_model.0.name", metadata.get("general.base_model.0.name")),
        ("base_model_class", _member(config.get("auto_mapping"), "base_model_class")),
        ("ss_network_module", metadata.get("ss_network_module")),
        ("ss_sd_model_name", metadata.get("ss_sd_model_name")),
        ("base_model_name", _member(metadata.get("ot_config"), "base_model_name")),
        # Before mid 2023 kohya wrote ss_v2 only, and SD 1 or 2 was all there was.
        ("ss_v2", "sd-v1" if _is_false(metadata.get("ss_v2")) else None),
    )
    for source, value in values:
        if isinstance(value, str) and value.strip():
            yield source, value


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _is_false(value: object) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def _parsed(value: object) -> Mapping[str, Any]:
    """A JSON object, parsed already or still a string; empty for anything else."""
    if isinstance(value, str) and len(value) <= _LONGEST_JSON:
        try:
            value = loads(value, what="a header value")
        except FormatError:  # one of several hints: a broken one says nothing, whoever reads the field reports it
            return {}
    return value if isinstance(value, Mapping) else {}


def _member(value: object, name: str) -> object:
    return _parsed(value).get(name)


def _diffusers_names(value: object) -> Iterator[tuple[str, object]]:
    """``transformer.base_model_name_or_path`` and its like, inside one JSON string."""
    for name, stated in _parsed(value).items():
        if str(name).endswith("base_model_name_or_path"):
            yield "lora_adapter_metadata", stated


@lru_cache(maxsize=1024)  # a folder of adapters repeats a few names
def _family_of(value: str) -> tuple[str, str | None] | None:
    """Family and variant of a free text: the last part of a path first, then all of it."""
    text = value[:_LONGEST_VALUE].lower().rstrip("/\\")
    exact = EXACT.get(_words(text))
    if exact is not None:
        return exact
    name = re.split(r"[/\\]", text)[-1]
    return _matching(_words(name)) or _matching(_words(text))


def _words(text: str) -> str:
    """The text in lower case with one dash for everything between words, and at both ends."""
    return f"-{_SEPARATORS.sub('-', text).strip('-')}-"


def _matching(words: str) -> tuple[str, str | None] | None:
    for wording in WORDINGS:
        if all(fragment in words for fragment in wording.fragments):
            return wording.family, wording.variant
    return None
