"""``ss_*``: what kohya's sd-scripts and musubi-tuner write, and everybody who took over their names.

Source: ``train_network.py`` of https://github.com/kohya-ss/sd-scripts, ``hv_train_network.py`` of
https://github.com/kohya-ss/musubi-tuner; older names were observed in files of 2023. Options without a
name of their own here land in ``settings``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...timestamps import utc_time
from . import values
from .datasets import read_datasets
from .draft import Draft, Table
from .optimizer import parse_optimizer

_PREFIX = "ss_"

TABLE: Table = {
    "ss_output_name": ("output_name", values.text),
    "ss_training_comment": ("comment", values.text),
    "ss_session_id": ("session_id", values.text),
    "ss_sd_scripts_commit_hash": ("trainer_version", values.text),
    "ss_v2": ("v2", values.flag),
    "ss_base_model_version": ("base_model_version", values.text),
    "ss_sd_model_name": ("base_model_name", values.text),
    "ss_sd_model_hash": ("base_model_hash", values.text),
    "ss_new_sd_model_hash": ("base_model_sha256", values.text),
    "ss_vae_name": ("vae_name", values.text),
    "ss_new_vae_hash": ("vae_sha256", values.text),
    "ss_clip_skip": ("clip_skip", values.integer),
    "ss_network_module": ("network_module", values.text),
    "ss_network_dim": ("network_dim", values.rank),
    "ss_network_alpha": ("network_alpha", values.alpha),
    "ss_network_dropout": ("network_dropout", values.number),
    "ss_network_args": ("network_args", values.mapping),
    "ss_steps": ("steps", values.count),
    "ss_max_train_steps": ("max_steps", values.count),
    "ss_epoch": ("epoch", values.count),
    "ss_num_epochs": ("num_epochs", values.count),
    "ss_learning_rate": ("learning_rate", values.numbers),
    "ss_unet_lr": ("unet_lr", values.numbers),
    "ss_text_encoder_lr": ("text_encoder_lr", values.numbers),
    "ss_lr_scheduler": ("scheduler", values.text),
    "ss_lr_warmup_steps": ("warmup_steps", values.number),
    "ss_gradient_accumulation_steps": ("gradient_accumulation_steps", values.count),
    "ss_gradient_checkpointing": ("gradient_checkpointing", values.flag),
    "ss_mixed_precision": ("mixed_precision", values.text),
    "ss_seed": ("seed", values.integer),
    "ss_max_grad_norm": ("max_grad_norm", values.number),
    "ss_max_token_length": ("max_token_length", values.count),
    "ss_loss_type": ("loss_type", values.text),
    "ss_noise_offset": ("noise_offset", values.number),
    "ss_min_snr_gamma": ("min_snr_gamma", values.number),
}
# Read by functions below or in datasets.py, not by the table.
_READ_ELSEWHERE = frozenset(
    {
        "ss_optimizer",
        "ss_training_started_at",
        "ss_training_finished_at",
        "ss_datasets",
        "ss_tag_frequency",
        "ss_dataset_dirs",
        "ss_reg_dataset_dirs",
        "ss_bucket_info",
        "ss_resolution",
        "ss_num_train_images",
        "ss_num_train_items",
        "ss_num_reg_images",
        "ss_num_batches_per_epoch",
        "ss_enable_bucket",
        "ss_batch_size_per_device",
        "ss_total_batch_size",
    }
)
_KNOWN = TABLE.keys() | _READ_ELSEWHERE

# "Dynamic resize with sv_fro: 0.9 from 128; ...", "dimension is resized from 128 to 32; ...",
# "Truncated from rank 128 to 32;...", "Resized with ... from dim 64"
_RESIZED = re.compile(r"(?:resized?|truncated)\b[^;]{0,200}?\bfrom (?:dim |rank )?(\d{1,7})(?: to (\d{1,7}))?", re.I)
_METHOD = re.compile(r"resized? with ([\w.]+):? ?([\d.]+)?", re.I)


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether any key is of this grammar."""
    return any(key.startswith(_PREFIX) for key in metadata)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State everything the ``ss_*`` keys say."""
    draft.take(metadata, TABLE)
    _read_optimizer(draft, metadata)
    _read_network(draft)
    _read_times(draft, metadata)
    _read_resize(draft)
    read_datasets(draft, metadata)
    draft.set_aside(
        (key.removeprefix(_PREFIX), values.scalar(value))
        for key, value in metadata.items()
        if key.startswith(_PREFIX) and key not in _KNOWN
    )


def _read_optimizer(draft: Draft, metadata: Mapping[str, Any]) -> None:
    printed = draft.read(metadata, "ss_optimizer", values.text)
    if printed is not None:
        optimizer = parse_optimizer(printed)
        arguments = optimizer.arguments or None
        draft.state(optimizer=optimizer.name, optimizer_path=optimizer.path, optimizer_args=arguments)


def _read_network(draft: Draft) -> None:
    """The arguments of the network module: typed, and those that say what kind of adapter it is."""
    raw = draft.facts.get("network_args") or {}
    arguments = {str(key): values.scalar(value) for key, value in raw.items()}
    if arguments:
        draft.facts["network_args"] = arguments
    draft.state(
        conv_dim=draft.parsed("conv_dim", raw.get("conv_dim"), values.count),
        conv_alpha=draft.parsed("conv_alpha", raw.get("conv_alpha"), values.number),
        network_algorithm=_algorithm(draft.facts.get("network_module"), arguments),
    )


def _algorithm(module: str | None, arguments: Mapping[str, Any]) -> str | None:
    if module is None:
        return None
    package, _, name = module.rpartition(".")
    if "lycoris" in package or "locon" in module:
        return str(arguments.get("algo") or "lora").lower()  # LyCORIS' default is its LoCon, named lora
    if package != "networks":
        return None
    return "lora" if name.startswith("lora") and name != "lora_fa" else name.partition("_flux")[0]


def _read_times(draft: Draft, metadata: Mapping[str, Any]) -> None:
    started = draft.read(metadata, "ss_training_started_at", values.number)
    finished = draft.read(metadata, "ss_training_finished_at", values.number)
    draft.state(
        started_at=_moment(draft, "ss_training_started_at", started),
        finished_at=_moment(draft, "ss_training_finished_at", finished),
    )
    if started is None or finished is None:
        return
    if finished < started:
        draft.warn("header-value", "ss_training_finished_at is before ss_training_started_at")
    else:
        draft.state(training_seconds=round(finished - started, 2))


def _moment(draft: Draft, key: str, seconds: float | None) -> str | None:
    moment = None if seconds is None else utc_time(seconds)
    if seconds is not None and moment is None:
        draft.warn("header-value", f"{key} is {seconds:g}; expected seconds since 1970")
    return moment


def _read_resize(draft: Draft) -> None:
    """Resize scripts leave their only trace in the comment."""
    comment = draft.facts.get("comment")
    match = _RESIZED.search(comment[:2_000]) if comment else None
    if not comment or not match:
        return
    method = _METHOD.search(comment[:2_000])
    draft.state(
        resized_from=int(match[1]),
        resized_to=int(match[2]) if match[2] else None,
        resize_method=method[0].partition(" with ")[2] if method else None,
    )
