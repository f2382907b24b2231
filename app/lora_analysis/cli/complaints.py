"""Layers that should have been part of a result and could not be: one line each on stderr, the first few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .output import complain

MAX_COMPLAINTS = 10


class Missing(NamedTuple):
    """A layer that is missing from a result."""

    name: str
    reason: str
    adapter: str = ""  # where there are several


def complain_of_layers(missing: Sequence[Missing], rest: str) -> None:
    """``rest``: what more of them are called, ``without a spectrum``."""
    for layer in missing[:MAX_COMPLAINTS]:
        named = layer.reason.startswith(layer.name)  # messages of the readers name the layer themselves
        line = layer.reason if named else f"{layer.name}: {layer.reason}"
        complain(f"{layer.adapter}: {line}" if layer.adapter else line)
    if len(missing) > MAX_COMPLAINTS:
        complain(f"{len(missing) - MAX_COMPLAINTS} more layers {rest}, see --json")
