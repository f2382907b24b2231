"""ComfyUI (0.3.7x, ``comfy/lora.py`` and ``comfy/weight_adapter``): alpha from a tensor per layer, or none."""

from __future__ import annotations

from collections.abc import Iterator

from ..adapter import Adapter
from ..formats.architectures import fused_in, is_pipeline
from .misreading import Misreading, baked, converted

_NAME = "ComfyUI"
_UNREAD = frozenset({"peft", "mlx", "gguf", "cloneofsimo"})
_UNREAD_KINDS = frozenset({"adalora", "vera", "fourierft", "ia3"})


def check(adapter: Adapter) -> Iterator[Misreading]:
    fix = converted(adapter, "--to comfyui", output="OUT.safetensors")
    if adapter.dialect in _UNREAD:
        message = f"{_NAME} does not know {adapter.dialect} names; it would load nothing and say so only in its log"
        yield Misreading("error", "dialect", message, fix)
    silent = [layer for layer in adapter.layers.values() if layer.scale_origin in ("header", "config")]
    wrong = [layer for layer in silent if layer.scale != 1.0 and layer.opaque is None]
    if wrong:
        message = (
            f"{len(wrong)} layers state their alpha outside of the tensors, where {_NAME} does not look; it applies "
            f"scale 1 in place of {wrong[0].scale:.4g}"
        )
        yield Misreading("error", "scale", message, fix, wrong[0].name)
    yield from _kinds(adapter, fix)
    yield from _unknown(adapter, fix)
    by_row = [layer.name for layer in adapter.layers.values() if layer.magnitude_axis == "out"]
    if by_row:
        message = f"{len(by_row)} layers have DoRA norms of rows; {_NAME} divides by the norms of the base alone"
        yield Misreading("warning", "dora", message, baked(adapter), by_row[0])


def _kinds(adapter: Adapter, fix: str) -> Iterator[Misreading]:
    kinds: dict[str, list[str]] = {}
    for layer in adapter.layers.values():
        if layer.kind in _UNREAD_KINDS:
            kinds.setdefault(layer.kind, []).append(layer.name)
    for kind, names in kinds.items():
        yield Misreading("error", "kind", f"{len(names)} layers are {kind}, which {_NAME} cannot apply", fix, names[0])


def _unknown(adapter: Adapter, fix: str) -> Iterator[Misreading]:
    """Names that stand for no module of the base model: ComfyUI prints "lora key not loaded" and goes on."""
    family = adapter.base_model.family
    if not is_pipeline(family) or adapter.dialect in _UNREAD:
        return
    unknown = [layer.name for layer in adapter.layers.values() if fused_in(layer.name, family) is None]
    unknown = [name for name in unknown if adapter.layers[name].kind != "modulation"]
    if unknown:
        message = f"{len(unknown)} names are no module of {family}; {_NAME} skips them"
        yield Misreading("error", "unknown-names", message, fix, unknown[0])
