"""GGUF adapters: ``general.*`` and ``adapter.*`` keys.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, version 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft, Table

TABLE: Table = {
    "general.name": ("title", values.text),
    "general.author": ("author", values.text),
    "general.version": ("version", values.text),
    "general.description": ("description", values.text),
    "general.license": ("license", values.text),
    "general.source.url": ("source_url", values.text),
    "general.architecture": ("architecture", values.text),
    "general.base_model.0.name": ("base_model_name", values.text),
    "adapter.type": ("network_algorithm", values.text),
    "adapter.lora.alpha": ("network_alpha", values.number),
}


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether the header is of this grammar."""
    return "general.architecture" in metadata or "adapter.type" in metadata


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State what the header says."""
    draft.take(metadata, TABLE)
