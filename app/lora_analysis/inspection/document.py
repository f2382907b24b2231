"""The parts of an inspection as the blocks of one JSON document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os.path import splitext
from typing import Any

from ..adapter import Finding
from ..formats.hashes import FileHashes, embedded_autov3
from ..formats.headers import HeaderFacts
from ..json_ready import json_ready
from ..text import printable
from .file_facts import FileFacts
from .summary import AdapterSummary

_MODEL_FACTS = (
    "output_name",
    "title",
    "display_name",
    "author",
    "description",
    "license",
    "version",
    "date",
    "source_url",
    "rating",
    "tags",
    "keywords",
    "trigger_phrase",
    "usage_hint",
    "comment",
    "merged_from",
    "embedding_tokens",
    "base_model_name",
    "base_model_version",
    "base_model_sha256",
    "base_model_hash",
    "architecture",
    "prediction_type",
    "clip_skip",
    "vae_name",
    "network_module",
    "network_args",
    "resized_from",
    "resized_to",
    "resize_method",
    "component",
    "components",
    "peft_type",
    "task_type",
    "modules_to_save",
    "use_rslora",
    "init_lora_weights",
)
_TRAINING_FACTS = (
    "trainer",
    "trainer_version",
    "revision",
    "learning_rate",
    "unet_lr",
    "text_encoder_lr",
    "batch_size",
    "gradient_accumulation_steps",
    "epoch",
    "num_epochs",
    "steps",
    "max_steps",
    "optimizer",
    "optimizer_args",
    "scheduler",
    "warmup_steps",
    "mixed_precision",
    "seed",
    "loss_type",
    "noise_offset",
    "min_snr_gamma",
    "max_grad_norm",
    "max_token_length",
    "dropout",
    "gradient_checkpointing",
    "session_id",
    "started_at",
    "finished_at",
    "training_seconds",
    "resolution",
    "images",
    "reg_images",
    "distinct_images",
    "batches_per_epoch",
    "enable_bucket",
    "datasets",
    "dataset_folders",
    "bucket_info",
    "top_tags",
    "tag_frequencies",
    "settings",
)


def file_block(file: FileFacts, hashes: Iterable[FileHashes]) -> dict[str, Any]:
    """``file_info``: of several weight files the digests stand in a list, of one beside its name."""
    block = file.to_dict()
    every = [each.to_dict() for each in hashes]
    if len(every) == 1:
        block.update({key: value for key, value in every[0].items() if key not in ("name", "size_bytes")})
    elif every:
        block["hashes"] = every
    return block


def model_block(
    file: FileFacts,
    summary: AdapterSummary,
    facts: HeaderFacts,
    metadata: Mapping[str, Any],
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """``model_info``: what the adapter is. Rank and alpha are those of the tensors where they have any."""
    rank, family = summary.rank, summary.base_model.family
    named = facts.display_name or facts.title or facts.output_name or splitext(file.name)[0]
    return {
        "format": summary.dialect,
        "container": summary.container,
        "model_name": json_ready(named),
        "base_model": json_ready(facts.base_model_name or facts.base_model_version)
        or (family if family != "unknown" else None),
        "base_model_family": family,
        "network_rank": rank["mode"] if rank else facts.network_dim,
        "network_alpha": json_ready(summary.alpha if summary.alpha is not None else facts.network_alpha),
        **_chosen(facts, _MODEL_FACTS),
        "stated": _chosen(
            facts, ("network_dim", "network_alpha", "conv_dim", "conv_alpha", "scale", "base_model_family")
        ),
        "embedded_autov3": embedded_autov3(metadata),
        "all_metadata": json_ready(metadata),
        "adapter_config": json_ready(config),
    }


def training_block(summary: AdapterSummary, facts: HeaderFacts) -> dict[str, Any]:
    """``training_info``: how it was made, as far as anybody wrote that down."""
    method = facts.training_method or facts.network_algorithm or summary.algorithm
    return {"training_method": json_ready(method), "epochs": facts.num_epochs, **_chosen(facts, _TRAINING_FACTS)}


def architecture_block(summary: AdapterSummary, facts: HeaderFacts) -> dict[str, Any]:
    """``architecture_info``: what the tensors are."""
    rank = summary.rank
    return {
        "algorithm": summary.algorithm,
        "base_model_family": summary.base_model.family,
        "base_model": summary.base_model.to_dict(),
        "layers": summary.layers,
        "convolutions": summary.convolutions,
        "parameters": summary.parameters,
        "rank": rank["mode"] if rank else None,
        "rank_range": rank,
        "rank_distribution": {str(value): count for value, count in summary.ranks.items()},
        "alpha": json_ready(summary.alpha),
        "alpha_distribution": _by_text(summary.alphas),
        "scale_distribution": _by_text(summary.scales),
        "scale_origins": dict(summary.scale_origins),
        "target_modules": list(summary.target_modules),
        "target_module_layers": dict(summary.target_modules),
        "stated_target_modules": json_ready(facts.target_modules),
        "layer_kinds": dict(summary.kinds),
        "components": dict(summary.components),
        "text_encoders": list(summary.text_encoders),
        "dtypes": dict(summary.dtypes),
        "dora_layers": summary.dora_layers,
        "opaque_layers": dict(summary.opaque),
        "extra_tensors": dict(summary.extras),
    }


def validation_block(findings: Iterable[Finding]) -> dict[str, Any]:
    """``validation_info``: valid is what has no error; warnings and remarks do not count against it."""
    every = list(findings)
    errors = [printable(finding.message) for finding in every if finding.severity == "error"]
    return {
        "is_valid": not errors,
        "errors": errors,
        "warnings": [printable(finding.message) for finding in every if finding.severity == "warning"],
        "findings": [finding.to_dict() for finding in every],
    }


def _chosen(facts: HeaderFacts, names: Iterable[str]) -> dict[str, Any]:
    return {name: json_ready(getattr(facts, name)) for name in names}


def _by_text(distribution: Mapping[float, int]) -> dict[str, int]:
    """JSON keys are text: ``"16"``, ``"0.5"``, ``"inf"``."""
    return {f"{value:.6g}": count for value, count in distribution.items()}
