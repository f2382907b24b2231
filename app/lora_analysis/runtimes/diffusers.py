"""diffusers (0.36, ``loaders/lora_pipeline.py`` and ``lora_conversion_utils.py``)."""

from __future__ import annotations

from collections.abc import Iterator

from ..adapter import Adapter
from .misreading import Misreading, converted, factored, other_kinds

_NAME = "diffusers"
_READ = frozenset({"diffusers", "diffusers-legacy", "kohya", "bfl", "xlabs"})
# Prefixes that its converters take off for transformers, and not for UNets.
_TRANSFORMER_ONLY = frozenset({"comfyui", "diffsynth", "native"})
_UNETS = frozenset({"sd15", "sd21", "sdxl", "sdxl-refiner", "kolors"})


def check(adapter: Adapter) -> Iterator[Misreading]:
    fix = converted(adapter, "--to diffusers", output="pytorch_lora_weights.safetensors")
    readable = adapter.dialect in _READ or (
        adapter.dialect in _TRANSFORMER_ONLY and adapter.base_model.family not in _UNETS
    )
    if not readable:
        message = f"{_NAME} has no converter for {adapter.dialect} names of {adapter.base_model.family}"
        yield Misreading("error", "dialect", message, fix)
    yield from other_kinds(adapter, _NAME, fix)
    by_column = [layer.name for layer in adapter.layers.values() if layer.magnitude_axis == "in"]
    if by_column:
        message = f"{len(by_column)} layers have DoRA norms of columns; {_NAME} takes them for norms of rows"
        yield Misreading("error", "dora-axis", message, f"lora bake BASE {adapter.path} -o OUT", by_column[0])
    yield from _scales(adapter, fix)


def _scales(adapter: Adapter, fix: str) -> Iterator[Misreading]:
    """Alpha tensors and ``lora_adapter_metadata`` are read. Without either, one alpha stands for every rank."""
    layers = factored(adapter)
    if "lora_adapter_metadata" in adapter.metadata:
        return
    elsewhere = [layer for layer in layers if layer.scale_origin in ("header", "config") and layer.scale != 1.0]
    if elsewhere:
        message = f"{len(elsewhere)} layers have their scale where {_NAME} does not look; it applies 1"
        yield Misreading("error", "scale", message, fix, elsewhere[0].name)
    without = [layer for layer in layers if layer.scale_origin == "default"]
    ranks = {layer.rank for layer in without}
    if len(ranks) > 1:  # get_peft_kwargs: lora_alpha is the most common rank, rank_pattern the others
        message = (
            f"ranks differ ({min(r or 0 for r in ranks)} to {max(r or 0 for r in ranks)}) and no alpha is stated; "
        )
        message += f"{_NAME} scales every rank but the most common one wrongly"
        yield Misreading("error", "scale", message, fix, without[0].name)
