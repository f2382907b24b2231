"""What looks like an adapter in a folder, by names alone."""

from __future__ import annotations

import os

from .folder import CONFIG_NAME, WEIGHT_NAMES

ADAPTER_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".gguf")


def is_adapter_folder(folder: str) -> bool:
    """Whether the folder is one adapter: it holds ``adapter_config.json`` or the index of sharded weights."""
    names = (CONFIG_NAME, *(f"{name}.index.json" for name in WEIGHT_NAMES))
    return any(os.path.lexists(os.path.join(folder, name)) for name in names)
