"""What a merged adapter's header takes over from its inputs' headers, beyond what is true of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import FormatError
from ..formats.strict_json import dumps, loads
from .inputs import MergeInput
from .options import MetadataPolicy

TAGS_KEY = "ss_tag_frequency"
SOURCE_KEY = "lora_analysis.source."
# Statements about the bytes or the network of the input, which its header makes and the output's makes anew.
_STALE_PREFIXES = ("sshs_", "lora_analysis.", "ss_network_", "ss_steps", "ss_epoch", "ss_num_epochs")
_STALE = frozenset({"modelspec.hash_sha256", "lora_adapter_metadata", "lora_alpha", "r", "rank", "alpha"})


def inherited(inputs: Sequence[MergeInput], policy: MetadataPolicy) -> dict[str, str]:
    """What the policy adds to a fresh header."""
    if policy == "first":
        return _without_stale(inputs[0].adapter.metadata)
    if policy == "union":
        tags = _union_of_tags([item.adapter.metadata for item in inputs])
        return {TAGS_KEY: dumps(tags)} if tags else {}
    if policy == "full":
        return {
            f"{SOURCE_KEY}{number}": dumps({"name": item.name, "metadata": dict(item.adapter.metadata)})
            for number, item in enumerate(inputs)
        }
    return {}


def _without_stale(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else dumps(value)
        for key, value in metadata.items()
        if key not in _STALE and not key.startswith(_STALE_PREFIXES) and not key.endswith((".lora_alpha", ".r"))
    }


def _union_of_tags(headers: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Tag counts by image folder, those of folders with one name added up."""
    total: dict[str, Counter[str]] = {}
    for header in headers:
        for folder, tags in _tags(header).items():
            if isinstance(tags, Mapping):
                counts = {str(tag): count for tag, count in tags.items() if _is_count(count)}
                total.setdefault(str(folder), Counter()).update(counts)
    return {folder: dict(tags.most_common()) for folder, tags in total.items()}


def _tags(header: Mapping[str, Any]) -> Mapping[str, Any]:
    text = header.get(TAGS_KEY)
    try:
        found = loads(text, what=TAGS_KEY) if isinstance(text, str) else text
    except FormatError:  # the header parser reports it
        return {}
    return found if isinstance(found, Mapping) else {}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
