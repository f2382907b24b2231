"""Header metadata and configs of the demo adapters, field by field as each trainer writes them.

Every value in a safetensors header is a string; nested data is JSON inside one. All names, hashes and numbers are
invented.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

Header = dict[str, str]

STARTED = 1_726_000_000.0  # 2024-09-10: fixed, so that the same call writes the same bytes
TAGS = {
    "1girl": 96, "solo": 63, "hat": 63, "long hair": 58, "brown hair": 55, "smile": 40, "looking at viewer": 39,
    "outdoors": 31, "vest": 28, "skirt": 28, "cat": 25, "blush": 19, "witch hat": 19, "book": 16, "socks": 12,
    "blue sky": 9, "armband": 7, "sitting": 5, "cup": 4, ":d": 3, "v-shaped eyebrows": 1,
}  # fmt: skip


def invented_hash(name: str) -> str:
    """64 hexadecimal digits that stand for a file nobody has."""
    return sha256(f"demo {name}".encode()).hexdigest()


def kohya(title: str, *, module: str, base: str, rank: str, alpha: str, resolution: int, **fields: str) -> Header:
    """The ``ss_*`` fields of kohya's sd-scripts; ``fields`` adds or replaces (names without ``ss_``)."""
    folder = f"10_{title}"
    header = {
        "ss_output_name": title,
        "ss_session_id": "3141592653",
        "ss_training_started_at": str(STARTED),
        "ss_training_finished_at": str(STARTED + 2571.3),
        "ss_sd_scripts_commit_hash": invented_hash("trainer")[:40],
        "ss_network_module": module,
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_network_args": "{}",
        "ss_base_model_version": base,
        "ss_v2": "False",
        "ss_sd_model_name": f"{base}.safetensors",
        "ss_new_sd_model_hash": invented_hash(base),
        "ss_learning_rate": "0.0001",
        "ss_unet_lr": "0.0001",
        "ss_text_encoder_lr": "5e-05",
        "ss_lr_scheduler": "cosine_with_restarts",
        "ss_lr_warmup_steps": "100",
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
        "ss_num_epochs": "10",
        "ss_epoch": "8",
        "ss_steps": "1640",
        "ss_max_train_steps": "2050",
        "ss_num_train_images": "1020",
        "ss_num_reg_images": "0",
        "ss_mixed_precision": "bf16",
        "ss_seed": "42",
        "ss_clip_skip": "2",
        "ss_min_snr_gamma": "5.0",
        "ss_noise_offset": "0.03",
        "ss_tag_frequency": json.dumps({folder: TAGS}),
        "ss_dataset_dirs": json.dumps({folder: {"n_repeats": 10, "img_count": 102}}),
        "ss_resolution": f"({resolution}, {resolution})",
        "ss_batch_size_per_device": "4",
        "ss_enable_bucket": "True",
        "ss_bucket_info": json.dumps(_buckets(resolution)),
        "sshs_model_hash": "",  # both are filled in on writing
        "sshs_legacy_hash": "",
    }
    return header | {f"ss_{name}": value for name, value in fields.items()}


def _buckets(resolution: int) -> dict[str, Any]:
    wide = [resolution * 5 // 4 // 64 * 64, resolution * 4 // 5 // 64 * 64]
    buckets = {
        "0": {"resolution": [resolution, resolution], "count": 610},
        "1": {"resolution": wide, "count": 190},
        "2": {"resolution": wide[::-1], "count": 220},
    }
    return {"buckets": buckets, "mean_img_ar_error": 0.0319}


def modelspec(title: str, architecture: str, resolution: int) -> Header:
    """Stability ModelSpec 1.0.1, as image trainers fill it in."""
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": title,
        "modelspec.date": "2024-09-10T21:29:31",
        "modelspec.resolution": f"{resolution}x{resolution}",
        "modelspec.prediction_type": "epsilon",
        "modelspec.encoder_layer": "2",
        "modelspec.author": "a demo library",
        "modelspec.license": "CC0-1.0",
    }


def onetrainer(title: str, rank: int, alpha: float) -> Header:
    """OneTrainer: ModelSpec fields and its whole configuration as JSON."""
    config = {
        "__version": 7,
        "training_method": "LORA",
        "model_type": "STABLE_DIFFUSION_XL_10_BASE",
        "base_model_name": "stabilityai/stable-diffusion-xl-base-1.0",
        "learning_rate": 0.0003,
        "epochs": 60,
        "batch_size": 2,
        "resolution": "1024",
        "train_dtype": "BFLOAT_16",
        "peft_type": "LORA",
        "lora_rank": rank,
        "lora_alpha": alpha,
        "lora_decompose": True,
        "optimizer": {"optimizer": "PRODIGY"},
    }
    return {
        **modelspec(title, "stable-diffusion-xl-v1-base", 1024),
        "ot_branch": "master",
        "ot_revision": invented_hash("onetrainer")[:7],
        "ot_config": json.dumps(config),
        "ss_base_model_version": "sdxl_",
    }


def ai_toolkit(title: str, base: str, steps: int, epoch: int) -> Header:
    """ai-toolkit: JSON in ``software`` and ``training_info``; neither rank nor alpha."""
    software = {"name": "ai-toolkit", "repo": "https://github.com/ostris/ai-toolkit", "version": "0.7.21"}
    return {
        "format": "pt",
        "name": title,
        "version": "1.0",
        "software": json.dumps(software),
        "training_info": json.dumps({"step": steps, "epoch": epoch}),
        "ss_base_model_version": base,
        "ss_output_name": title,
        "ss_tag_frequency": json.dumps({f"1_{title}": {title: 1}}),
    }


def diffusers(rank: int, alpha: float, targets: list[str]) -> Header:
    """diffusers since mid 2025: the PEFT config of each component in one JSON string."""
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_dora": False,
        "use_rslora": False,
        "init_lora_weights": True,
    }
    named = {f"transformer.{key}": value for key, value in sorted(config.items())}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(named, indent=2)}


def peft_lora() -> dict[str, Any]:
    """``adapter_config.json`` with rank-stabilised scaling and a lower rank for the values."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "peft_version": "0.18.1",
        "base_model_name_or_path": "meta-llama/Llama-3.2-1B-Instruct",
        "r": 8,
        "lora_alpha": 16,
        "lora_dropout": 0.05,
        "bias": "none",
        "fan_in_fan_out": False,
        "target_modules": ["q_proj", "v_proj"],
        "rank_pattern": {"v_proj": 4},
        "alpha_pattern": {"v_proj": 8},
        "modules_to_save": None,
        "use_rslora": True,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def peft_ia3() -> dict[str, Any]:
    """``adapter_config.json`` of an (IA)^3 adapter."""
    return {
        "peft_type": "IA3",
        "task_type": "CAUSAL_LM",
        "peft_version": "0.18.1",
        "base_model_name_or_path": "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        "target_modules": ["k_proj", "v_proj", "down_proj"],
        "feedforward_modules": ["down_proj"],
        "fan_in_fan_out": False,
        "modules_to_save": None,
        "init_ia3_weights": True,
        "inference_mode": True,
    }


def mlx() -> dict[str, Any]:
    """``adapter_config.json`` of mlx-lm: the scale is used as it is, the alpha beside it is not."""
    return {
        "fine_tune_type": "lora",
        "model": "Qwen/Qwen2.5-0.5B-Instruct",
        "num_layers": 4,
        "lora_parameters": {"rank": 8, "alpha": 16, "dropout": 0.0, "scale": 10.0},
        "iters": 1000,
        "batch_size": 4,
        "learning_rate": 1e-05,
        "max_seq_length": 2048,
        "seed": 0,
    }
