"""llama.cpp (``convert_lora_to_gguf.py``, ``llama-adapter.cpp``, late 2025): one alpha over every tensor's own rank."""

from __future__ import annotations

from collections.abc import Iterator

from ..adapter import Adapter
from ..formats.adapter_config import number
from .misreading import Misreading, converted, differs, factored, largest_rank, magnitudes, other_kinds, saved_modules

_NAME = "llama.cpp"


def check(adapter: Adapter) -> Iterator[Misreading]:
    if adapter.dialect == "gguf":
        return  # its own form, already converted
    plain = converted(adapter, "--to peft", output="FOLDER")
    if adapter.dialect != "peft" or adapter.config is None:
        message = f"{_NAME} reads a GGUF, which its converter makes of a PEFT folder; this is {adapter.dialect}"
        yield Misreading("error", "dialect", message, plain)
        return
    yield from other_kinds(adapter, _NAME, plain)
    yield from magnitudes(adapter, _NAME)
    yield from saved_modules(adapter, _NAME)
    yield from _scales(adapter)


def _scales(adapter: Adapter) -> Iterator[Misreading]:
    """``lora_alpha`` over the rank of the tensor: use_rslora, alpha_pattern and rank_pattern are not looked at."""
    layers = factored(adapter)
    alpha = number((adapter.config or {}).get("lora_alpha"))
    read = {layer.name: (alpha if alpha is not None else 8.0) / (layer.rank or 1) for layer in layers}
    wrong = [layer for layer in layers if differs(layer.scale, read[layer.name])]
    if wrong:
        first = wrong[0]
        message = (
            f"{len(wrong)} layers have another scale than lora_alpha over their rank (rsLoRA, patterns), e.g. "
            f"{first.scale:.4g}; {_NAME} multiplies by {read[first.name]:.4g}"
        )
        options = f"--to peft --uniform-rank {largest_rank(layers)} --bake-scale"
        yield Misreading("error", "scale", message, converted(adapter, options, output="FOLDER"), first.name)
    biased = [layer.name for layer in layers if "up_bias" in layer.keys]
    if biased:
        message = f"{len(biased)} layers have a bias (lora_bias); {_NAME} has no place for it"
        yield Misreading("error", "bias", message, converted(adapter, "--to peft --drop", output="FOLDER"), biased[0])
