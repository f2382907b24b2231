"""Numbers, dates and names in the words people use; plain strings, no console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..text import quantity as quantity
from ..text import size as size

BARS = "▁▂▃▄▅▆▇█"
MAX_BARS = 16


def duration(seconds: float) -> str:
    """``43 min``, ``2 h 05 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def rates(value: Any) -> str:
    """A learning rate, or one for each part."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(rates(item) for item in value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def spread(distribution: Mapping[str, int]) -> str:
    """Values with how often each occurs: ``8`` where all agree, ``4–8, mostly 8`` where they do not."""
    if not distribution:
        return "none"
    values = sorted(distribution, key=float)
    if len(values) == 1:
        return values[0]
    most = max(values, key=lambda value: (distribution[value], float(value)))
    return f"{values[0]}–{values[-1]}, mostly {most}"


def sparkline(distribution: Mapping[str, int]) -> str:
    """A histogram of at most 16 characters over values that are numbers, in their order."""
    values = sorted(distribution, key=float)
    if len(values) <= MAX_BARS:
        counts = [distribution[value] for value in values]
    else:
        low, high = float(values[0]), float(values[-1])
        counts = [0] * MAX_BARS
        for value in values:
            counts[min(int((float(value) - low) / (high - low) * MAX_BARS), MAX_BARS - 1)] += distribution[value]
    top = max(counts)
    # An empty bin stays blank; the smallest bar still shows that something is there.
    return "".join(BARS[max(0, -(-count * len(BARS) // top) - 1)] if count else " " for count in counts)


def counted(counts: Mapping[str, int], *, limit: int | None = None) -> str:
    """``unet 60, text_encoder 12``; what is beyond ``limit`` is counted."""
    items = list(counts.items())
    named = [f"{name} {count:,}" for name, count in items[:limit]]
    if limit is not None and len(items) > limit:
        named.append(f"… {len(items) - limit} more")
    return ", ".join(named)


def sentence(parts: Iterable[str | None]) -> str:
    """The parts that are there, with commas between them."""
    return ", ".join(part for part in parts if part)
