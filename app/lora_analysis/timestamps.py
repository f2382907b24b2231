"""Moments as text: ISO 8601, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_time(seconds: float) -> str | None:
    """Seconds since 1970 as ``2024-09-11T15:17:43Z``; None where no calendar reaches."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return None
