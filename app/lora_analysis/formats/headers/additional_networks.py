"""``ssmd_*``: what people type into the metadata editor of sd-webui-additional-networks.

Source: https://github.com/kohya-ss/sd-webui-additional-networks, ``scripts/metadata_editor.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft, Table

_PREFIX = "ssmd_"

TABLE: Table = {
    "ssmd_display_name": ("display_name", values.text),
    "ssmd_version": ("version", values.text),
    "ssmd_keywords": ("keywords", values.names),
    "ssmd_author": ("author", values.text),
    "ssmd_source": ("source_url", values.text),
    "ssmd_description": ("description", values.text),
    "ssmd_rating": ("rating", values.integer),
    "ssmd_tags": ("tags", values.names),
}
_PICTURES = "ssmd_cover_images"  # base64, not a fact


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether any key is of this grammar."""
    return any(key.startswith(_PREFIX) for key in metadata)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State what the editor wrote."""
    draft.take(metadata, TABLE)
    draft.set_aside(
        (key, values.scalar(value))
        for key, value in metadata.items()
        if key.startswith(_PREFIX) and key not in TABLE and key != _PICTURES
    )
