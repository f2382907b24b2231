"""Bytes to values and back. Nothing here decomposes a matrix or speaks HTTP.

The reader is loaded when it is asked for: the command line knows names of files long before it opens one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .opening import HEADER_LIMIT as HEADER_LIMIT
    from .opening import open_adapter as open_adapter

__all__ = ["HEADER_LIMIT", "open_adapter"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import opening

    return globals().setdefault(name, getattr(opening, name))
