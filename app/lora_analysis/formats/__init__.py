"""Bytes to values and back. Nothing here decomposes a matrix or speaks HTTP."""

from __future__ import annotations

from .opening import HEADER_LIMIT, open_adapter

__all__ = ["HEADER_LIMIT", "open_adapter"]
