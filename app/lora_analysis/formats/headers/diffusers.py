"""diffusers >= 0.34: ``lora_adapter_metadata``, one JSON string with a PEFT configuration per component.

Its keys have the component in front: ``transformer.r``, ``text_encoder.lora_alpha``. SimpleTuner writes the
same names straight into the header, as strings. Source: ``loaders/lora_base.py`` of diffusers 0.36.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from . import peft, values
from .draft import Draft

KEY = "lora_adapter_metadata"
COMPONENTS = ("transformer", "transformer_2", "unet", "text_encoder", "text_encoder_2", "text_encoder_3")


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether the header configures components."""
    return KEY in metadata or has_bare_pairs(metadata)


def has_bare_pairs(metadata: Mapping[str, Any]) -> bool:
    """SimpleTuner's form: ``transformer.lora_alpha`` as a header key."""
    return any(f"{component}.lora_alpha" in metadata for component in COMPONENTS)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State each component's configuration, and the first one's as that of the file."""
    stated = draft.read(metadata, KEY, values.mapping) or {}
    configs: dict[str, dict[str, Any]] = {}
    for component, name, value in [*_split(stated), *_split(metadata)]:
        configs.setdefault(component, {}).setdefault(name, value)
    components = {component: _one(draft, component, each) for component, each in configs.items()}
    if not components:
        return
    first = next(iter(components))
    draft.state(component=first, components=components, **components[first])
    draft.state(network_dim=components[first].get("r") or None, network_alpha=components[first].get("lora_alpha"))
    draft.state(base_model_name=draft.facts.get("base"))


def _split(pairs: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for key, value in pairs.items():
        component, dot, name = str(key).partition(".")
        if dot and component in COMPONENTS:
            yield component, name, value


def _one(draft: Draft, component: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of one component; its problems go to the file's, with the component named."""
    inner = Draft()
    peft.state_config(inner, config)
    for finding in inner.findings:
        draft.warn(finding.code, f"{component}.{finding.message}")
    return inner.facts
