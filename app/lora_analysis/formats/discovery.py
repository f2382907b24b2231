"""What looks like an adapter or a checkpoint in a folder, by names alone."""

from __future__ import annotations

import os
import re

from .folder import CONFIG_NAME, WEIGHT_NAMES

ADAPTER_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".gguf")
PIPELINE_INDEX = "model_index.json"  # of diffusers: lists the components, which lie in folders of their names
DENOISERS = ("unet", "transformer", "transformer_2", "prior")
COMPONENTS = (*DENOISERS, "text_encoder", "text_encoder_2", "text_encoder_3")  # what adapters change


def is_adapter_folder(folder: str) -> bool:
    """Whether the folder is one adapter: it holds ``adapter_config.json`` or the index of sharded weights."""
    names = (CONFIG_NAME, *(f"{name}.index.json" for name in WEIGHT_NAMES))
    return any(os.path.lexists(os.path.join(folder, name)) for name in names)


_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.safetensors$", re.ASCII)


def is_checkpoint_folder(folder: str) -> bool:
    """Whether the folder holds one checkpoint in several files: exactly one index, and no adapter."""
    if is_adapter_folder(folder):
        return False
    with os.scandir(folder) as entries:
        return sum(entry.name.endswith(_INDEX) and not entry.name.startswith(".") for entry in entries) == 1


def pipeline_components(folder: str) -> list[str]:
    """The components of a pipeline that can be one adapter's base; none where the folder is none.

    Of two denoisers each has its own adapters: such a pipeline is no base.
    """
    if not os.path.isfile(os.path.join(folder, PIPELINE_INDEX)) or is_adapter_folder(folder):
        return []
    found = component_folders(folder)
    return found if sum(name in DENOISERS for name in found) <= 1 else []


def component_folders(folder: str) -> list[str]:
    """The folders in a pipeline's that are components which adapters change."""
    return [name for name in COMPONENTS if os.path.isdir(os.path.join(folder, name))]


def is_shard(name: str) -> bool:
    """Whether a file is one of several, by the way their names are numbered."""
    return _SHARD.search(name) is not None
