"""One way in which a program reads an adapter otherwise than it is meant, with the way out; and what several share."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from math import isclose, sqrt
from typing import Any, NamedTuple

from ..adapter import Adapter, Layer, Severity
from ..formats.adapter_config import number

_CLOSE = 1e-4  # relative; float32 and bf16 alphas differ by less from what is meant than anyone can see


class Misreading(NamedTuple):
    """``fix`` is a command, or a setting of the program."""

    severity: Severity
    code: str
    message: str
    fix: str
    layer: str | None = None  # the first of those it concerns

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


def converted(adapter: Adapter, *options: str, output: str = "OUT") -> str:
    """The ``lora convert`` that makes what the program reads."""
    return " ".join(["lora convert", shlex.quote(os.fspath(adapter.path)), *options, "-o", output])


def baked(adapter: Adapter) -> str:
    """The ``lora bake`` that needs no adapter any more."""
    return f"lora bake BASE {shlex.quote(os.fspath(adapter.path))} -o OUT"


def factored(adapter: Adapter) -> list[Layer]:
    """The plain LoRA layers."""
    return [layer for layer in adapter.layers.values() if layer.kind == "lora" and layer.rank]


def largest_rank(layers: Iterable[Layer]) -> int:
    return max((layer.rank or 0 for layer in layers), default=0)


def differs(scale: float, read: float) -> bool:
    """Whether a program that multiplies by ``read`` applies another strength."""
    return not isclose(scale, read, rel_tol=_CLOSE)


def stated_scale(adapter: Adapter, rank: int) -> float | None:
    """The scale that PEFT's two general numbers make for a rank; None where they are not there."""
    config = adapter.config or {}
    alpha = number(config.get("lora_alpha"))
    if alpha is None:
        alpha = 8.0 if "peft_type" in config else None  # PEFT's default
    if alpha is None or not rank:
        return None
    return alpha / (sqrt(rank) if config.get("use_rslora") is True else rank)


def magnitudes(adapter: Adapter, program: str) -> Iterator[Misreading]:
    """DoRA layers, for a program that refuses them."""
    found = [layer.name for layer in adapter.layers.values() if layer.magnitude_axis]
    if found:
        message = f"{len(found)} layers are DoRA; {program} refuses their norms"
        yield Misreading("error", "dora", message, baked(adapter), found[0])


def saved_modules(adapter: Adapter, program: str) -> Iterator[Misreading]:
    """Full copies of modules (``modules_to_save``), for a program that refuses them."""
    found = [extra.key for extra in adapter.extras if extra.category in ("saved-module", "token-rows")]
    if found:
        message = f"{len(found)} tensors replace the base's own (modules_to_save); {program} refuses them"
        yield Misreading("error", "saved-modules", message, baked(adapter), found[0])


def other_kinds(adapter: Adapter, program: str, fix: str) -> Iterator[Misreading]:
    """Layers that are no plain LoRA, for a program that reads nothing else."""
    kinds: dict[str, list[str]] = {}
    for layer in adapter.layers.values():
        if layer.kind != "lora" or "mid" in layer.keys:
            kinds.setdefault("Tucker" if layer.kind == "lora" else layer.kind, []).append(layer.name)
    for kind, names in kinds.items():
        message = f"{len(names)} layers are {kind}; {program} reads plain LoRA only"
        yield Misreading("error", "kind", message, fix, names[0])
