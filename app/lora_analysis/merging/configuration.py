"""``adapter_config.json`` of a sum, before its ranks and alphas are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..formats.adapter_config import PEFT_PREFIX
from .inputs import MergeInput, Share

# Lists that name parts of the model: the sum has them all.
_UNITED = ("modules_to_save", "target_parameters")


def summed_config(inputs: Sequence[MergeInput], layers: Mapping[str, Sequence[Share]]) -> dict[str, Any] | None:
    """The configuration of the exact sum, its scale 1: the first input's, with what the others add. None without one.

    Ranks and alphas are still the first input's; ``resizing.configuration.output_config`` states those of the output.
    """
    first = inputs[0].adapter.config
    if first is None:
        return None
    config = dict(first)
    if isinstance(config.get("lora_parameters"), Mapping):  # MLX: one absolute scale
        return {**config, "lora_parameters": {**config["lora_parameters"], "scale": 1.0}}
    if "peft_type" not in config:
        return config
    others = [item.adapter.config or {} for item in inputs]
    config["target_modules"] = _targets([other.get("target_modules") for other in others], layers)
    config |= {key: united for key in _UNITED if (united := _union(other.get(key) for other in others))}
    if any(other.get("lora_bias") is True for other in others):
        config["lora_bias"] = True
    # The sum starts from no initialisation, and its alphas are stated for the plain scale.
    if "use_dora" in config:  # what was DoRA is a plain difference now
        config["use_dora"] = False
    return config | {"use_rslora": False, "init_lora_weights": True, "inference_mode": True}


def _targets(stated: Sequence[Any], layers: Mapping[str, Sequence[Share]]) -> Any:
    """What the inputs agree on, the union of lists, else every module by its name."""
    if all(targets == stated[0] for targets in stated):
        return stated[0]
    if all(isinstance(targets, list) for targets in stated):
        return _union(stated)
    return [name.removeprefix(PEFT_PREFIX) for name in layers]


def _union(lists: Iterable[Any]) -> list[str]:
    """Every entry of those that are lists, once, in order of appearance."""
    return list(dict.fromkeys(str(entry) for found in lists if isinstance(found, list) for entry in found))
