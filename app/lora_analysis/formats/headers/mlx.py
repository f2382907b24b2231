"""``adapter_config.json`` as mlx-lm writes it: LoRA parameters among all arguments of the training command.

Source: https://github.com/ml-explore/mlx-lm, ``mlx_lm/lora.py``. ``scale`` is applied as it is; an
``alpha`` beside it has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft, Table

TABLE: Table = {
    "fine_tune_type": ("training_method", values.text),
    "model": ("base_model_name", values.text),
    "num_layers": ("num_layers", values.integer),  # -1: all; otherwise counted from the last
    "lora_layers": ("num_layers", values.integer),
    "iters": ("steps", values.count),
    "learning_rate": ("learning_rate", values.numbers),
    "batch_size": ("batch_size", values.count),
    "optimizer": ("optimizer", values.text),
    "seed": ("seed", values.integer),
    "grad_checkpoint": ("gradient_checkpointing", values.flag),
    "max_seq_length": ("max_token_length", values.count),
}
PARAMETERS: Table = {
    "rank": ("rank", values.count),
    "scale": ("scale", values.number),
    "dropout": ("dropout", values.number),
    "keys": ("target_modules", values.names),
}
_MARKS = frozenset({"lora_parameters", "lora_layers", "fine_tune_type"})
_NESTED = frozenset({"lora_parameters", "optimizer_config", "lr_schedule"})


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether the configuration is mlx-lm's."""
    return config is not None and "peft_type" not in config and not _MARKS.isdisjoint(config)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State what the configuration says."""
    if config is None:
        return
    draft.take(draft.read(config, "lora_parameters", values.mapping) or {}, PARAMETERS)
    draft.take(config, TABLE)
    draft.state(
        format="mlx", network_dim=draft.facts.get("rank") or None, optimizer_args=_optimizer_args(draft, config)
    )
    schedule = config.get("lr_schedule")
    if isinstance(schedule, Mapping):
        draft.state(scheduler=draft.read(schedule, "name", values.text))
    draft.set_aside((key, value) for key, value in config.items() if key not in TABLE and key not in _NESTED)


def _optimizer_args(draft: Draft, config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """mlx-lm keeps the arguments of every optimizer; those of the one in use count."""
    every = config.get("optimizer_config")
    chosen = every.get(draft.facts.get("optimizer")) if isinstance(every, Mapping) else None
    return chosen if isinstance(chosen, Mapping) and chosen else None
