"""What the headers, configurations and structures of several adapters say differently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..adapter import Adapter
from ..formats.headers import HeaderFacts, parse_header
from ..json_ready import json_ready
from .values import Difference

# Long tables, and what is shown otherwise: two trainings never agree on them.
_LEFT_OUT = {"datasets", "dataset_folders", "bucket_info", "tag_frequencies", "components", "settings", "findings"}
_TEXT_LIMIT = 500


def differences_of(adapters: Sequence[Adapter], facts: Sequence[HeaderFacts]) -> tuple[Difference, ...]:
    """Structure first, then every stated fact, then every other setting; only what differs."""
    return tuple(found for found in _all(adapters, facts) if any(value != found.values[0] for value in found.values))


def facts_of(adapters: Sequence[Adapter]) -> list[HeaderFacts]:
    return [parse_header(adapter.metadata, adapter.config) for adapter in adapters]


def _all(adapters: Sequence[Adapter], facts: Sequence[HeaderFacts]) -> Iterator[Difference]:
    structures = [_structure(adapter) for adapter in adapters]
    for field in structures[0]:
        yield Difference(field, tuple(structure[field] for structure in structures))
    stated = [fact.to_dict() for fact in facts]
    for field in stated[0]:
        if field not in _LEFT_OUT:
            yield Difference(field, tuple(_short(one[field]) for one in stated))
    settings = [fact.settings for fact in facts]
    for key in dict.fromkeys(key for one in settings for key in one):
        yield Difference(f"settings.{key}", tuple(_short(json_ready(one.get(key))) for one in settings))


def _structure(adapter: Adapter) -> dict[str, Any]:
    layers = adapter.layers.values()
    return {
        "dialect": adapter.dialect,
        "algorithm": adapter.algorithm,
        "base_model.family": adapter.base_model.family,
        "layers": len(adapter.layers),
        "ranks": _counted(layer.rank for layer in layers if layer.rank is not None),
        "scales": _counted(float(f"{layer.scale:.6g}") for layer in layers),
        "dtypes": _counted(dtype for layer in layers for dtype in layer.dtypes),
        "components": _counted(layer.component for layer in layers),
        "size_bytes": adapter.source.size,
    }


def _counted(values: Any) -> dict[str, int]:
    """The ten most frequent values, with how often each occurs."""
    return {str(value): count for value, count in Counter(values).most_common(10)}


def _short(value: Any) -> Any:
    return f"{value[:_TEXT_LIMIT]}…" if isinstance(value, str) and len(value) > _TEXT_LIMIT else value
