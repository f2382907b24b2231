"""The one word for what a file holds: lora, locon, dora, loha, lokr, full, lora+full, ..."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from ..adapter import VECTOR_KINDS, Layer

_DIFFERENCES = frozenset({"diff", "bias"})  # roles
_MIN_LOCON_LAYERS = 2  # one k x k layer is a patch embedding, not a convolutional adapter


def algorithm_of(
    layers: Mapping[str, Layer], *, is_control: bool = False, is_controlnet: bool = False, is_full: bool = False
) -> str:
    """The adapter's algorithm, most used first where a file mixes them (``lokr+lora``).

    ``locon`` is LoRA that reaches the k x k convolutions of a 2-D network; ``dora`` is LoRA with trained
    norms; ``+full`` says that whole differences stand beside factors. ``not-lora``: no update at all;
    ``full-weights``: parameters stored whole, in place of the base's.
    """
    counts = Counter(layer.kind for layer in layers.values())
    matrices = [kind for kind, _ in counts.most_common() if kind not in VECTOR_KINDS and kind != "full"]
    if not matrices:
        return "full" if counts else "full-weights" if is_full else "not-lora"
    if matrices == ["lora"]:
        if is_controlnet:
            return "control-lora"
        if is_control:
            return "flux-control"
        name = _name_of_lora(layers.values())
    else:
        name = "+".join(matrices)
    return f"{name}+full" if _has_differences(counts, layers.values()) else name


def _name_of_lora(layers: Iterable[Layer]) -> str:
    """dora, locon or lora: DoRA where most layers have a magnitude."""
    factored = [layer for layer in layers if layer.kind == "lora"]
    if 2 * len([None for layer in factored if layer.magnitude_axis is not None]) >= len(factored):
        return "dora"
    if any("mid" in layer.keys for layer in factored):
        return "locon"
    kernels = [layer.shape[2:] for layer in factored if layer.shape is not None and len(layer.shape) == 4]
    return "locon" if sum(prod(kernel) > 1 for kernel in kernels) >= _MIN_LOCON_LAYERS else "lora"


def _has_differences(counts: Mapping[str, int], layers: Iterable[Layer]) -> bool:
    """Whole differences of weights or biases; norms trained beside factors (``w_norm``) do not count."""
    if counts.get("full") or counts.get("modulation"):
        return True
    return not all(_DIFFERENCES.isdisjoint(layer.keys) for layer in layers)
