"""Which modules of a base model an adapter touches, in the short names that ``target_modules`` uses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_INDEX = re.compile(r"\d+")
# Underscored names of kohya: everything after the last block number that more than a bare number follows.
_AFTER_BLOCK = re.compile(r".*?_\d+_(?=[A-Za-z])(?!proj$)")
_ATTENTION = re.compile(r"(?:attn\d?|self_attn|cross_attn|attention|self_attention)_(?=to_|[qkvo]_|[qkvo]$|out_proj)")
_PREFIX = re.compile(r"(?:lora|oft|lycoris)_(?:prior_)?(?:unet|transformer|te\d?)__?|lycoris_")


def target_modules(layers: Iterable[str]) -> dict[str, int]:
    """Short module names with the number of layers each stands for, most frequent first."""
    counts = Counter(short_name(layer) for layer in layers)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@lru_cache(maxsize=4096)
def short_name(layer: str) -> str:
    """``to_q``, ``to_out.0``, ``ff_net_0_proj``: the part of a layer's name that repeats from block to block."""
    if layer.count(":") == 1:  # cloneofsimo: a number in traversal order, no names
        return layer.partition(":")[0]
    if "." in layer:
        parts = layer.split(".")
        return ".".join(parts[-2:]) if len(parts) > 1 and _INDEX.fullmatch(parts[-1]) else parts[-1]
    bare = _PREFIX.sub("", layer, count=1)
    while match := _AFTER_BLOCK.match(bare):
        bare = bare[match.end() :]
    return _ATTENTION.sub("", bare, count=1)
