"""Which layers are asked for, and which cannot be used, from headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..adapter import Adapter, Finding
from ..errors import OptionError
from ..text import printable
from .values import SkippedLayer


def matching(names: Sequence[str], patterns: str | Sequence[str] | None) -> frozenset[str]:
    """Names that match any pattern; all of them where there is none. Every pattern has to match something."""
    if not patterns:
        return frozenset(names)
    matched: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            first = f"the first is {printable(names[0], limit=120)}" if names else "the file holds no layer"
            raise OptionError(f"{printable(pattern, limit=80)} matches none of {len(names)} layers; {first}")
        matched.update(found)
    return frozenset(matched)


def errors_by_layer(adapter: Adapter) -> dict[str, Finding]:
    """What opening the file found wrong with layers that it could describe all the same: rank 0, alpha NaN."""
    return {
        finding.layer: finding
        for finding in adapter.findings
        if finding.layer is not None and finding.severity == "error"
    }


def unusable_modules(adapter: Adapter) -> dict[str, SkippedLayer]:
    """Modules that could not become layers, such as one factor without the other: the first finding about each."""
    broken: dict[str, SkippedLayer] = {}
    for finding in adapter.findings:
        if finding.layer is not None and finding.layer not in adapter.layers:
            skipped = SkippedLayer(finding.layer, finding.code, finding.message, finding.severity == "error")
            broken.setdefault(finding.layer, skipped)
    return broken
