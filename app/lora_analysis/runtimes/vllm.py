"""vLLM (0.10, ``lora/peft_helper.py`` and ``config/lora.py``): PEFT folders, one rank and one alpha for all layers."""

from __future__ import annotations

from collections.abc import Iterator

from ..adapter import Adapter
from ..formats.adapter_config import number
from .misreading import (
    Misreading,
    converted,
    differs,
    factored,
    largest_rank,
    magnitudes,
    other_kinds,
    saved_modules,
    stated_scale,
)

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank may be
_DEFAULT_RANK = 16
_NAME = "vLLM"


def check(adapter: Adapter) -> Iterator[Misreading]:
    plain = converted(adapter, "--to peft", output="FOLDER")
    if adapter.dialect != "peft" or adapter.config is None:
        yield Misreading("error", "dialect", f"{_NAME} reads PEFT folders; this is {adapter.dialect}", plain)
        return
    yield from other_kinds(adapter, _NAME, plain)
    yield from magnitudes(adapter, _NAME)
    yield from saved_modules(adapter, _NAME)
    yield from _names(adapter, plain)
    yield from _scales(adapter)
    yield from _ranks(adapter)


def _names(adapter: Adapter, fix: str) -> Iterator[Misreading]:
    named = [layer.name for layer in factored(adapter) if layer.keys.get("down", "").count(".lora_A.") != 0
             and not layer.keys["down"].endswith(".lora_A.weight")]  # fmt: skip
    if named:
        message = f"{len(named)} layers carry an adapter's name (.lora_A.default.weight); {_NAME} refuses such keys"
        yield Misreading("error", "named-adapter", message, fix, named[0])
    biased = [layer.name for layer in factored(adapter) if "up_bias" in layer.keys]
    if biased:
        yield Misreading(
            "error", "bias", f"{len(biased)} layers have a bias (lora_bias); {_NAME} refuses it", fix, biased[0]
        )


def _scales(adapter: Adapter) -> Iterator[Misreading]:
    """``lora_alpha / r`` of the configuration for every layer: patterns and stored ranks are not looked at."""
    layers = factored(adapter)
    stated = int(number((adapter.config or {}).get("r")) or 8)
    read = stated_scale(adapter, stated)
    wrong = [layer for layer in layers if read is None or differs(layer.scale, read)]
    rank = next((rank for rank in _RANKS if rank >= largest_rank(layers)), _RANKS[-1])
    fix = converted(adapter, f"--to peft --uniform-rank {rank} --bake-scale", output="FOLDER")
    if wrong:
        first = wrong[0]
        message = (
            f"{len(wrong)} layers have a scale of their own (rank_pattern, alpha_pattern), e.g. {first.scale:.4g}; "
            f"{_NAME} multiplies all by {read or 0:.4g}"
        )
        yield Misreading("error", "scale", message, fix, first.name)
    larger = [layer for layer in layers if (layer.rank or 0) > stated]
    if larger:
        message = f"{len(larger)} layers have a rank above the configuration's r {stated}, by which {_NAME} makes room"
        yield Misreading("error", "rank-above-config", message, fix, larger[0].name)


def _ranks(adapter: Adapter) -> Iterator[Misreading]:
    rank = largest_rank(factored(adapter))
    if rank > _RANKS[-1]:
        fix = f"lora resize {adapter.path} --rank {_RANKS[-1]} -o FOLDER"
        yield Misreading("error", "rank-limit", f"rank {rank} is above {_NAME}'s largest, {_RANKS[-1]}", fix)
    elif rank > _DEFAULT_RANK:
        needed = next(limit for limit in _RANKS if limit >= rank)
        message = f"rank {rank} is above {_NAME}'s default limit of {_DEFAULT_RANK}"
        yield Misreading("warning", "rank-limit", message, f"vllm serve ... --max-lora-rank {needed}")
