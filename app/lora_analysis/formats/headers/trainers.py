"""Which program wrote an adapter, from its header and configuration. No evidence: no answer.

Front ends of sd-scripts (kohya_ss, FluxGym, the trainer of Civitai, ComfyUI-FluxTrainer) leave no mark of
their own in a header; their files are those of sd-scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from . import values
from .diffusers import KEY as DIFFUSERS_KEY
from .diffusers import has_bare_pairs
from .draft import Draft

KOHYA, MUSUBI, LYCORIS = "kohya sd-scripts", "musubi-tuner", "LyCORIS"


class Trainer(NamedTuple):
    name: str
    version: str | None = None


# In free text ("software", "modelspec.implementation", ...), in this order.
_MENTIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), name)
    for pattern, name in (
        (r"ai[-_ ]?toolkit", "ai-toolkit"),
        (r"one[-_ ]?trainer", "OneTrainer"),
        (r"simple[-_ ]?tuner", "SimpleTuner"),
        (r"musubi", MUSUBI),
        (r"flux[-_ ]?gym|flux[-_ ]?trainer|sd-scripts|kohya", KOHYA),
        (r"diffusion[-_ ]?pipe", "diffusion-pipe"),
        (r"diffsynth", "DiffSynth-Studio"),
        (r"light[-_ ]?x2v", "LightX2V"),
        (r"unsloth", "unsloth"),
        (r"lycoris", LYCORIS),
        (r"x-?flux|xlabs", "XLabs x-flux"),
        (r"finetrainers", "finetrainers"),
        (r"invoke-?training|invokeai", "invoke-training"),
    )
)
_FREE_TEXT = ("software", "trainer", "trained_with", "generator", "created_by", "modelspec.implementation")

_MUSUBI_MODULE = re.compile(
    r"networks\.lora_(wan|framepack|flux_?2|flux_kontext|qwen|kandinsky|hv|hunyuan_video|z_?image|hidream|ideogram|krea|ltx|minimax)"
)
_MUSUBI_BASE = re.compile(
    r"hunyuan_video|wan|framepack|flux_kontext|flux_2|qwen_image|kandinsky|z_image|hidream|ideogram|krea|ltx|minimax",
    re.IGNORECASE,
)
_MUSUBI_DATA = ("video_directory", "video_jsonl_file", "image_directory", "image_jsonl_file", "frame_extraction")
_RUN_KEYS = (
    "ss_session_id",
    "ss_sd_scripts_commit_hash",
    "ss_v2",
    "ss_optimizer",
    "ss_training_started_at",
    "ss_steps",
)
OPERATION_KEY = "lora_analysis.operation"  # of files that we wrote
_WITHOUT_RUN = ("extract", "convert")  # these write a module for loaders, whoever trained the adapter, or nobody


def recognise(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> Trainer | None:
    """The program that wrote the file; facts already in ``draft`` are used, and none are added."""
    return (
        _named_software(draft, metadata)
        or _marked(metadata)
        or _kohya_family(draft, metadata)
        or _configured(draft, config or {})
        or _other_layouts(metadata)
        or _mentioned(metadata)
    )


def _named_software(draft: Draft, metadata: Mapping[str, Any]) -> Trainer | None:
    """ai-toolkit's ``software``: JSON with name and version; others put plain text there."""
    software = values.scalar(metadata.get("software"))
    if not isinstance(software, Mapping):
        return None
    name = draft.read(software, "name", values.text)
    return Trainer(_known_name(name) or name, draft.read(software, "version", values.text)) if name else None


def _marked(metadata: Mapping[str, Any]) -> Trainer | None:
    """Keys that one program alone writes."""
    if any(key.startswith("ot_") for key in metadata):
        return Trainer("OneTrainer")
    if "lycoris_config" in metadata or has_bare_pairs(metadata):
        return Trainer("SimpleTuner")
    return None


def _kohya_family(draft: Draft, metadata: Mapping[str, Any]) -> Trainer | None:
    module = draft.facts.get("network_module") or ""
    has_run = any(key in metadata for key in _RUN_KEYS)
    if not module and not has_run:
        return None  # ss_base_model_version alone is written by ai-toolkit, OneTrainer and editors too
    if not has_run and metadata.get(OPERATION_KEY) in _WITHOUT_RUN:
        return None
    if _is_musubi(draft, metadata, module):
        return Trainer(MUSUBI)
    is_lycoris = module.startswith(("lycoris", "locon"))
    if is_lycoris and not has_run and "ss_base_model_version" not in metadata:
        return Trainer(LYCORIS)  # its own extraction and conversion tools
    if is_lycoris or not module or module.startswith("networks."):
        return Trainer(KOHYA)
    return None


def _is_musubi(draft: Draft, metadata: Mapping[str, Any], module: str) -> bool:
    version = draft.facts.get("base_model_version") or ""
    datasets = draft.facts.get("datasets") or ()
    return (
        "ss_num_train_items" in metadata
        or _MUSUBI_MODULE.match(module) is not None
        or _MUSUBI_BASE.match(version) is not None
        or any(key in dataset for dataset in datasets for key in _MUSUBI_DATA)
    )


def _configured(draft: Draft, config: Mapping[str, Any]) -> Trainer | None:
    """From ``adapter_config.json``."""
    if draft.facts.get("format") == "mlx":
        return Trainer("mlx-lm")
    if draft.facts.get("format") != "peft":
        return None
    mapping = config.get("auto_mapping")
    is_unsloth = isinstance(mapping, Mapping) and mapping.get("unsloth_fixed") is True
    return Trainer("unsloth" if is_unsloth else "PEFT", draft.facts.get("trainer_version"))


def _other_layouts(metadata: Mapping[str, Any]) -> Trainer | None:
    if DIFFUSERS_KEY in metadata:
        return Trainer("diffusers")
    if any(key.startswith(("unet:", "text_encoder:")) and key.endswith(":rank") for key in metadata):
        return Trainer("cloneofsimo/lora")
    if isinstance(metadata.get("unet"), str) and metadata["unet"].startswith("["):
        return Trainer("cloneofsimo/lora")
    return None


def _mentioned(metadata: Mapping[str, Any]) -> Trainer | None:
    for key in _FREE_TEXT:
        name = _known_name(metadata.get(key))
        if name:
            return Trainer(name)
    return None


def _known_name(mention: Any) -> str | None:
    if not isinstance(mention, str):
        return None
    return next((name for pattern, name in _MENTIONS if pattern.search(mention[:300])), None)
