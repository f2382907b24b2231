"""Names for what jobs write: never a path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_MOST_CHARACTERS = 150
_DONE = {"merge": "merged", "bake": "baked", "extract": "extracted"}


def default_name(kind: str, options: Mapping[str, Any], name: str, *, is_folder: bool, number: int = 1) -> str:
    """``<stem>_r16.safetensors`` and the like; from the second on with ``number``.

    A folder gives a folder, but for a conversion and an extraction, where the dialect decides.
    """
    stem = (name if is_folder else os.path.splitext(name)[0])[:_MOST_CHARACTERS].strip(". ") or "adapter"
    makes_folder = options["to"] == "peft" if kind in ("convert", "extract") else is_folder
    numbered = "" if number == 1 else f"_{number}"
    return f"{stem}_{_ending(kind, options)}{numbered}{'' if makes_folder else '.safetensors'}"


def report_name(name: str) -> str:
    """Of the page about an adapter."""
    stem = name[:_MOST_CHARACTERS].removesuffix(".safetensors").strip(". ") or "adapter"
    return f"{stem}.report.html"


def _ending(kind: str, options: Mapping[str, Any]) -> str:
    """``r16`` for a resize to a fixed rank, the dialect of a conversion, else what is done."""
    if kind == "resize":
        return f"r{options['rank']}" if "rank" in options else "resized"
    return str(options["to"]) if kind == "convert" else _DONE[kind]
