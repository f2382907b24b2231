"""ai-toolkit: ``software`` and ``training_info``, two JSON strings, and a few plain keys.

Source: https://github.com/ostris/ai-toolkit, ``toolkit/metadata.py``. It writes
neither rank nor alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft, Table

TABLE: Table = {
    "name": ("title", values.text),
    "version": ("version", values.text),
}
PROGRESS: Table = {
    "step": ("steps", values.count),
    "epoch": ("epoch", values.count),
}


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether any key is of this grammar."""
    return "software" in metadata or "training_info" in metadata


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State what ai-toolkit says about the run."""
    draft.take(metadata, TABLE)
    draft.take(draft.read(metadata, "training_info", values.mapping) or {}, PROGRESS)
    draft.state(trigger_phrase=_trigger(draft, metadata))


def _trigger(draft: Draft, metadata: Mapping[str, Any]) -> str | None:
    """The trigger word: the trainer writes it as a data set ``1_word`` that holds the tag ``word``."""
    folders = draft.read(metadata, "ss_tag_frequency", values.mapping) if "software" in metadata else None
    if not folders or len(folders) != 1:
        return None
    ((folder, tags),) = folders.items()
    word = str(folder).removeprefix("1_")
    return word if isinstance(tags, Mapping) and word in tags else None
