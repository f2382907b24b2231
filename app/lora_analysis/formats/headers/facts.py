"""What a header or a configuration says about an adapter, with types and under one name per fact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ...adapter import Finding
from ...json_ready import json_ready
from .values import Dynamic, Size

Rates = float | tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFacts:
    """Statements, not measurements: rank, alpha and base are what somebody wrote, and may be stale.

    None means that nothing is said. Facts whose names come from one trainer (``r``, ``base``, ``rank``)
    keep that name and also appear under the common one (``network_dim``, ``base_model_name``).
    """

    # Who wrote the file
    trainer: str | None = None  # "kohya sd-scripts", "musubi-tuner", "OneTrainer", "ai-toolkit", "PEFT", ...
    trainer_version: str | None = None
    revision: str | None = None  # OneTrainer's commit
    branch: str | None = None
    format: str | None = None  # the grammar of a configuration file: "peft" or "mlx"

    # What its author calls it
    title: str | None = None
    output_name: str | None = None
    display_name: str | None = None
    description: str | None = None
    author: str | None = None
    license: str | None = None
    version: str | None = None
    date: str | None = None
    source_url: str | None = None
    rating: int | None = None
    tags: tuple[str, ...] | None = None
    keywords: tuple[str, ...] | None = None
    trigger_phrase: str | None = None
    usage_hint: str | None = None
    comment: str | None = None
    thumbnail_chars: int | None = None  # length of the data URL; the picture itself is in the raw metadata
    merged_from: tuple[str, ...] | None = None
    embedding_tokens: tuple[str, ...] | None = None

    # The base model
    base_model_family: str | None = None
    base_model_version: str | None = None
    base_model_name: str | None = None
    base_model_sha256: str | None = None
    base_model_hash: str | None = None  # AutoV1 of the checkpoint, 8 hex digits
    base_model_revision: str | None = None
    base: str | None = None  # PEFT: base_model_name_or_path
    architecture: str | None = None
    implementation: str | None = None
    prediction_type: str | None = None
    v2: bool | None = None
    clip_skip: int | None = None
    vae_name: str | None = None
    vae_sha256: str | None = None

    # The network, as configured
    network_module: str | None = None
    network_algorithm: str | None = None
    network_dim: int | Dynamic | None = None
    network_alpha: float | Dynamic | None = None
    network_dropout: float | None = None
    conv_dim: int | None = None
    conv_alpha: float | None = None
    network_args: Mapping[str, Any] | None = None
    resized_from: int | None = None
    resized_to: int | None = None
    resize_method: str | None = None

    # PEFT, MLX and diffusers configurations
    component: str | None = None  # the first one that a header configures
    components: Mapping[str, Mapping[str, Any]] | None = None
    peft_type: str | None = None
    task_type: str | None = None
    r: int | None = None
    rank: int | None = None
    lora_alpha: float | None = None
    scale: float | None = None
    num_layers: int | None = None
    target_modules: tuple[str, ...] | str | None = None  # a regular expression or "all-linear" where it is text
    exclude_modules: tuple[str, ...] | None = None
    modules_to_save: tuple[str, ...] | None = None
    rank_pattern: Mapping[str, Any] | None = None
    alpha_pattern: Mapping[str, Any] | None = None
    use_rslora: bool | None = None
    use_dora: bool | None = None
    bias: str | None = None
    fan_in_fan_out: bool | None = None
    merged_linear: bool | None = None  # PEFT 0.1: one part per entry of a fused projection
    init_lora_weights: str | bool | None = None

    # Training
    training_method: str | None = None
    steps: int | None = None  # of this file
    max_steps: int | None = None  # of the whole run
    epoch: int | None = None
    num_epochs: int | None = None
    learning_rate: Rates | None = None
    unet_lr: Rates | None = None
    text_encoder_lr: Rates | None = None
    scheduler: str | None = None
    warmup_steps: float | None = None  # below 1: a share of all steps
    optimizer: str | None = None  # the class alone
    optimizer_path: str | None = None
    optimizer_args: Mapping[str, Any] | None = None
    batch_size: int | None = None
    gradient_accumulation_steps: int | None = None
    gradient_checkpointing: bool | None = None
    mixed_precision: str | None = None
    seed: int | None = None
    max_grad_norm: float | None = None
    max_token_length: int | None = None
    loss_type: str | None = None
    noise_offset: float | None = None
    min_snr_gamma: float | None = None
    dropout: float | None = None
    session_id: str | None = None
    started_at: str | None = None  # ISO 8601, UTC
    finished_at: str | None = None
    training_seconds: float | None = None

    # Data set
    resolution: Size | None = None
    images: int | None = None  # images times repeats, per epoch
    reg_images: int | None = None
    distinct_images: int | None = None
    batches_per_epoch: int | None = None
    enable_bucket: bool | None = None
    datasets: tuple[Mapping[str, Any], ...] | None = None
    dataset_folders: Mapping[str, Mapping[str, Any]] | None = None
    bucket_info: Mapping[str, Any] | None = None
    tag_frequencies: Mapping[str, int] | None = None  # summed over folders, most frequent first
    top_tags: tuple[str, ...] | None = None

    settings: Mapping[str, Any] = field(default_factory=dict)  # every other option, typed by its looks
    findings: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Every fact by name, as plain JSON values; facts that nobody states are None."""
        found = {each.name: json_ready(getattr(self, each.name)) for each in fields(self)}
        return {**found, "findings": [finding.to_dict() for finding in self.findings]}
