"""Names for what jobs write: never a path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_MOST_CHARACTERS = 150


def default_name(name: str, ending: str, number: int = 1, *, is_folder: bool) -> str:
    """``<stem>_<ending>`` as a file, or as a folder where the input is one; with ``number`` from the second on."""
    stem, suffix = (name, "") if is_folder else (os.path.splitext(name)[0], ".safetensors")
    stem = stem[:_MOST_CHARACTERS].strip(". ") or "adapter"
    return f"{stem}_{ending}{'' if number == 1 else f'_{number}'}{suffix}"


def ending_for(kind: str, options: Mapping[str, Any]) -> str:
    """``r16`` for a resize to a fixed rank, else what is done."""
    if kind == "resize":
        return f"r{options['rank']}" if "rank" in options else "resized"
    return {"merge": "merged"}.get(kind, kind)
