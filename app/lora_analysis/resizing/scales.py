"""Where the output states each layer's scale, and what the scale can therefore be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..adapter import Adapter, Layer
from ..formats.adapter_config import PEFT_PREFIX, configured_alpha
from ..formats.scale import StatedScales, stated_scales
from ..formats.spelling import Names
from .options import AlphaPolicy


def scales_of(adapter: Adapter) -> StatedScales:
    """What header and configuration of the input say about scales."""
    return stated_scales(adapter.metadata, adapter.config, adapter.dialect)


def new_scale(layer: Layer, names: Names, rank: int, policy: AlphaPolicy, stated: StatedScales) -> float:
    """What the new factors' product is multiplied with when the output is read.

    An alpha tensor or a configuration with patterns says what the policy wants. Where one alpha in the header stands
    for many layers it stays as it is, since layers that are not resized need it, and the factors take the rest.
    """
    wanted = layer.scale if policy == "keep-scale" else 1.0
    if (names.alpha is not None and policy != "baked") or stated.is_mlx:
        return wanted
    config = stated.config_for(layer.name)
    if config and config is not stated.config and not _has_document(config):
        return _shared(configured_alpha(config, layer.name), rank, wanted)
    if config and configured_alpha(config, layer.name.removeprefix(PEFT_PREFIX)) is not None:
        return wanted
    if stated.header_alpha is not None:
        return 1.0 if stated.is_gguf and stated.header_alpha == 0 else _shared(stated.header_alpha, rank, 1.0)
    return 1.0


def _shared(alpha: float | None, rank: int, otherwise: float) -> float:
    return alpha / rank if alpha else otherwise


def _has_document(config: Mapping[str, Any]) -> bool:
    """Whether a header's configuration is a whole one, with room for patterns, and not a bare pair of numbers."""
    return bool(config.keys() - {"r", "lora_alpha"})
