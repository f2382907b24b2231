"""``adapter_config.json`` as PEFT writes it, and its copies inside headers.

Source: PEFT 0.18 ``LoraConfig`` and its neighbours; ``enable_lora`` is PEFT 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from . import values
from .draft import Draft, Table

# Methods that start from a changed base: such an adapter fits the original only after a conversion.
_CHANGED_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")


def modules(value: Any) -> tuple[str, ...] | str | None:
    """A list of module names in the file's order, or the text of a pattern."""
    if isinstance(value, str):
        return values.text(value)
    if isinstance(value, (list, tuple)) and not value:
        return None
    return values.names(value)


def initialisation(value: Any) -> str | bool | None:
    """``True``, ``False`` or the name of a method."""
    return value if isinstance(value, bool) else values.text(value)


TABLE: Table = {
    "peft_type": ("peft_type", values.text),
    "task_type": ("task_type", values.text),
    "base_model_name_or_path": ("base", values.text),
    "revision": ("base_model_revision", values.text),
    "r": ("r", values.count),
    "lora_alpha": ("lora_alpha", values.number),
    "alpha": ("lora_alpha", values.number),  # LoHa and LoKr
    "lora_dropout": ("dropout", values.number),
    "bias": ("bias", values.text),
    "fan_in_fan_out": ("fan_in_fan_out", values.flag),
    "target_modules": ("target_modules", modules),
    "exclude_modules": ("exclude_modules", modules),
    "modules_to_save": ("modules_to_save", modules),
    "rank_pattern": ("rank_pattern", values.mapping),
    "alpha_pattern": ("alpha_pattern", values.mapping),
    "use_rslora": ("use_rslora", values.flag),
    "use_dora": ("use_dora", values.flag),
    "init_lora_weights": ("init_lora_weights", initialisation),
}


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether the configuration is PEFT's."""
    return config is not None and ("peft_type" in config or "lora_alpha" in config or "enable_lora" in config)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State what the configuration says."""
    if config is None:
        return
    state_config(draft, config)
    facts = draft.facts
    draft.state(
        format="peft",
        base_model_name=facts.get("base"),
        network_dim=facts.get("r") or None,
        network_alpha=facts.get("lora_alpha"),
        network_algorithm=str(facts["peft_type"]).lower() if facts.get("peft_type") else None,
        trainer_version=draft.read(config, "peft_version", values.text),
    )
    parts = config.get("enable_lora")
    draft.state(merged_linear=True if isinstance(parts, list) and any(part is True for part in parts) else None)
    draft.set_aside(
        (key, value) for key, value in config.items() if key not in TABLE and value not in (None, {}, [], False)
    )


def state_config(draft: Draft, config: Mapping[str, Any]) -> None:
    """State one configuration: of a file, or of one component in a header."""
    draft.take(config, TABLE)
    for name in ("rank_pattern", "alpha_pattern"):
        if not draft.facts.get(name):
            draft.facts.pop(name, None)
    facts = draft.facts
    draft.state(scale=scale_of(facts.get("r"), facts.get("lora_alpha"), facts.get("use_rslora")))
    method = facts.get("init_lora_weights")
    if isinstance(method, str) and method.lower().startswith(_CHANGED_BASE):
        draft.warn(
            "changed-base",
            f"init_lora_weights is {method}: trained against a changed base, so on the original base it is off "
            "unless it was converted",
        )


def scale_of(r: int | None, alpha: float | None, is_rslora: bool | None) -> float | None:
    """``alpha / r``, with rank-stabilised LoRA ``alpha / sqrt(r)`` (Kalajdzievski, arXiv 2312.03732)."""
    if not r or alpha is None:
        return None
    return alpha / (sqrt(r) if is_rslora else r)
