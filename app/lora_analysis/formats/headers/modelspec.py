"""ModelSpec 1.0.1, the ``modelspec.*`` keys.

Source: https://github.com/Stability-AI/ModelSpec. Its digest is read with the other hashes, see ``hashes``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft, Table

_PREFIX = "modelspec."

TABLE: Table = {
    "modelspec.title": ("title", values.text),
    "modelspec.architecture": ("architecture", values.text),
    "modelspec.implementation": ("implementation", values.text),
    "modelspec.implementation_version": ("trainer_version", values.text),
    "modelspec.description": ("description", values.text),
    "modelspec.author": ("author", values.text),
    "modelspec.date": ("date", values.text),
    "modelspec.license": ("license", values.text),
    "modelspec.usage_hint": ("usage_hint", values.text),
    "modelspec.trigger_phrase": ("trigger_phrase", values.text),
    "modelspec.tags": ("tags", values.names),
    "modelspec.merged_from": ("merged_from", values.names),
    "modelspec.prediction_type": ("prediction_type", values.text),
    "modelspec.encoder_layer": ("clip_skip", values.integer),
    "modelspec.resolution": ("resolution", values.size),
}
_READ_ELSEWHERE = frozenset({"modelspec.thumbnail", "modelspec.hash_sha256", "modelspec.sai_model_spec"})


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether any key is of this grammar."""
    return any(key.startswith(_PREFIX) for key in metadata)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State everything the ``modelspec.*`` keys say."""
    draft.take(metadata, TABLE)
    thumbnail = metadata.get("modelspec.thumbnail")
    draft.state(thumbnail_chars=len(thumbnail) if isinstance(thumbnail, str) and thumbnail else None)
    draft.set_aside(
        (key, values.scalar(value))
        for key, value in metadata.items()
        if key.startswith(_PREFIX) and key not in TABLE and key not in _READ_ELSEWHERE
    )
