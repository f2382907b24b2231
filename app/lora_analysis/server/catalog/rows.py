"""From an inspection to a row of the catalog: the few facts that a list shows, filters and sorts by."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import Any

from ...adapter import TensorInfo
from ...formats.base_weights import shapes_of
from ...formats.families import LABELS, infer_base_model
from ...json_ready import encodable, json_ready

MAX_TAGS = 100  # kept per adapter for search and facets
_MAX_DOCUMENT = 4_000_000  # bytes, compressed; a larger one is made again where it is asked for
_TEXT = 200  # characters of a title or a trigger word


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Columns of ``items`` that come from the file's header. Empty where it could not be read."""

    base_model: str | None = None
    base_model_label: str | None = None
    algorithm: str | None = None
    dialect: str | None = None
    container: str | None = None
    trainer: str | None = None
    title: str | None = None
    trigger: str | None = None
    rank: int | None = None  # of most layers
    rank_min: int | None = None
    rank_max: int | None = None
    alpha: float | None = None
    parameters: int | None = None
    layers: int | None = None
    dtype: str | None = None  # of most layers
    dora: int = 0
    checkpoint: int = 0  # whether it holds base weights, and can be named as the base of an adapter
    autov3: str | None = None  # as the header states it
    errors: int = 0
    warnings: int = 0
    error_code: str | None = None
    error_message: str | None = None
    top_tags: str = "[]"  # JSON: [[tag, count], ...]
    document: bytes | None = None  # the whole inspection, compressed JSON


FACT_COLUMNS = tuple(field.name for field in fields(Facts))


def facts_of(document: Mapping[str, Any]) -> Facts:
    """The row of an inspection's document."""
    model, adapter = document["model_info"], document["adapter"]
    training, findings = document["training_info"], document["validation_info"]["findings"]
    rank = adapter["rank"] or {}
    family = adapter["base_model"]
    return Facts(
        base_model=family,
        base_model_label=LABELS.get(family, family),
        algorithm=adapter["algorithm"],
        dialect=adapter["dialect"],
        container=adapter["container"],
        trainer=_short(training["trainer"]),
        title=_short(model["title"] or model["display_name"] or model["output_name"]),
        trigger=_short(model["trigger_phrase"]),
        rank=rank.get("mode"),
        rank_min=rank.get("min"),
        rank_max=rank.get("max"),
        alpha=adapter["alpha"],  # finite: the document is strict JSON
        parameters=_storable(adapter["parameters"]),
        layers=adapter["layers"],
        dtype=next(iter(adapter["dtypes"]), None),
        dora=int(adapter["dora"]),
        autov3=_short(model["embedded_autov3"]),
        errors=sum(finding["severity"] == "error" for finding in findings),
        warnings=sum(finding["severity"] == "warning" for finding in findings),
        top_tags=json.dumps(_tags(training, model)),
        document=packed(document),
    )


def facts_of_checkpoint(tensors: Mapping[str, TensorInfo]) -> dict[str, Any] | None:
    """What the columns say of a file or folder without adapter layers; None where it holds no weight either."""
    shapes = shapes_of(tensors)
    if not shapes:
        return None
    family = infer_base_model(shapes, {}).family
    values: Counter[str] = Counter()
    for info in tensors.values():
        values[info.dtype] += prod(info.shape)
    return {
        "base_model": family,
        "base_model_label": LABELS.get(family, family),
        "container": "safetensors",
        "parameters": _storable(values.total()),
        "dtype": values.most_common(1)[0][0],
        "checkpoint": 1,
    }


def facts_of_error(error: Mapping[str, str]) -> Facts:
    """The row of a file that cannot be read."""
    return Facts(errors=1, error_code=error["code"], error_message=error["message"])


def packed(document: Mapping[str, Any]) -> bytes | None:
    """The document as compressed JSON; None where it is too large to keep."""
    data = zlib.compress(json.dumps(json_ready(document), allow_nan=False).encode(), 6)
    return data if len(data) <= _MAX_DOCUMENT else None


def unpacked(data: bytes) -> bytes:
    """The JSON that :func:`packed` kept."""
    return zlib.decompress(data)


def _tags(training: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Trained tags with their counts, most frequent first; else the tags that the author wrote."""
    counted = training["tag_frequencies"]
    if isinstance(counted, dict) and counted:
        pairs = [(tag, count) for tag, count in counted.items() if isinstance(count, int)]
        pairs.sort(key=lambda pair: -pair[1])
    else:
        pairs = [(str(tag), 0) for tag in model["tags"] or ()]
    return [(encodable(tag)[:_TEXT], min(count, 1 << 53)) for tag, count in pairs[:MAX_TAGS]]


def _short(value: Any) -> str | None:
    return None if value is None else encodable(str(value))[:_TEXT]


def _storable(value: int | None) -> int | None:
    """SQLite keeps integers of 64 bits; a header can promise more."""
    return None if value is None or abs(value) >= 1 << 63 else value
