"""Whether a name for an output is free."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import count
from typing import Any

from ..errors import OutputError
from .catalog.store import Location
from .naming import default_name
from .state import Server


def check_free(server: Server, name: str) -> None:
    """Raises: OutputError where something has the name, so that a client hears of it before the work."""
    if os.path.lexists(os.path.join(server.root_of_kind("outputs").path, name)):  # the queue looks for promised ones
        raise OutputError(f"outputs/{name} exists; choose another name")


def free_name(server: Server, kind: str, options: Mapping[str, Any], place: Location) -> str:
    """The default name, with a number where it is taken, or promised to a job that has not ended."""
    promised = server.jobs.promised_outputs()
    folder, is_folder = server.root_of_kind("outputs").path, place.kind == "folder"
    names = (default_name(kind, options, place.name, is_folder=is_folder, number=number) for number in count(1))
    return next(name for name in names if name not in promised and not os.path.lexists(os.path.join(folder, name)))
