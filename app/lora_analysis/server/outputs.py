"""Names for what jobs write: never a path, and never one that is taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..errors import OutputError
from .catalog.store import Location
from .state import Server

_MOST_CHARACTERS = 150


def check_free(server: Server, name: str) -> None:
    """Raises: OutputError where something has the name, so that a client hears of it before the work."""
    if os.path.lexists(os.path.join(server.root_of_kind("outputs").path, name)):
        raise OutputError(f"outputs/{name} exists; choose another name")


def free_name(server: Server, place: Location, ending: str) -> str:
    """``<stem>_<ending>`` as a file, or as a folder where the input is one; with a number where it is taken."""
    stem, suffix = (place.name, "") if place.kind == "folder" else (os.path.splitext(place.name)[0], ".safetensors")
    stem = stem[:_MOST_CHARACTERS].strip(". ") or "adapter"
    folder = server.root_of_kind("outputs").path
    number = 1
    while True:
        name = f"{stem}_{ending}{'' if number == 1 else f'_{number}'}{suffix}"
        if not os.path.lexists(os.path.join(folder, name)):
            return name
        number += 1


def resize_ending(options: Mapping[str, Any]) -> str:
    """``r16`` for a fixed rank, else ``resized``."""
    return f"r{options['rank']}" if "rank" in options else "resized"
