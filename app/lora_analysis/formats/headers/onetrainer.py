"""OneTrainer: ``ot_branch``, ``ot_revision`` and, where the user allows it, the whole ``ot_config``.

Source: https://github.com/Nerogar/OneTrainer, ``DtypeModelSaverMixin`` and ``TrainConfig``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft, Table

TABLE: Table = {
    "ot_branch": ("branch", values.text),
    "ot_revision": ("revision", values.text),
}
CONFIG_TABLE: Table = {
    "training_method": ("training_method", values.text),
    "base_model_name": ("base_model_name", values.text),
    "peft_type": ("peft_type", values.text),
    "lora_rank": ("network_dim", values.rank),
    "lora_alpha": ("network_alpha", values.alpha),
    "lora_decompose": ("use_dora", values.flag),
    "dropout_probability": ("dropout", values.number),
    "learning_rate": ("learning_rate", values.numbers),
    "learning_rate_scheduler": ("scheduler", values.text),
    "learning_rate_warmup_steps": ("warmup_steps", values.number),
    "epochs": ("num_epochs", values.count),
    "batch_size": ("batch_size", values.count),
    "gradient_accumulation_steps": ("gradient_accumulation_steps", values.count),
    "train_dtype": ("mixed_precision", values.text),
    "seed": ("seed", values.integer),
    "clip_grad_norm": ("max_grad_norm", values.number),
    "clip_skip": ("clip_skip", values.integer),
    "offset_noise_weight": ("noise_offset", values.number),
    "aspect_ratio_bucketing": ("enable_bucket", values.flag),
}
_NESTED = frozenset({"optimizer", "unet", "text_encoder", "text_encoder_2", "prior", "resolution", "concepts"})


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether any key is of this grammar."""
    return any(key.startswith("ot_") for key in metadata)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State what the ``ot_*`` keys say; rank and alpha are in ``ot_config`` only."""
    draft.take(metadata, TABLE)
    options = draft.read(metadata, "ot_config", values.mapping) or {}
    draft.take(options, CONFIG_TABLE)
    resolution = options.get("resolution")
    several = isinstance(resolution, str) and "," in resolution  # "512,768": two sizes, not width and height
    draft.state(
        resolution=None if several else draft.parsed("resolution in ot_config", resolution, values.size),
        unet_lr=_part_rate(draft, options, "unet") or _part_rate(draft, options, "prior"),
        text_encoder_lr=_part_rate(draft, options, "text_encoder"),
        base_model_version=draft.read(options, "model_type", values.text),
    )
    _read_optimizer(draft, options.get("optimizer"))
    draft.set_aside((key, value) for key, value in options.items() if key not in CONFIG_TABLE and key not in _NESTED)


def _part_rate(draft: Draft, options: Mapping[str, Any], part: str) -> float | None:
    entry = options.get(part)
    return draft.read(entry, "learning_rate", values.number) if isinstance(entry, Mapping) else None


def _read_optimizer(draft: Draft, entry: Any) -> None:
    if isinstance(entry, str):
        draft.state(optimizer=entry)
    elif isinstance(entry, Mapping):
        arguments = {key: value for key, value in entry.items() if value is not None and key != "optimizer"}
        draft.state(optimizer=draft.read(entry, "optimizer", values.text), optimizer_args=arguments or None)
