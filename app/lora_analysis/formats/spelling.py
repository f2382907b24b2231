"""How new factors of a layer are spelled: its own names, its own orientation, its own dialect.

A layer that was LoRA keeps its tensor names. One that was something else (LoHa, LoKr, Tucker, a difference)
becomes LoRA beside its neighbours, with the names its dialect gives LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..adapter import Layer, LowRank, TensorInfo
from .kinds import is_mlx_embedding

if TYPE_CHECKING:
    from ..adapter import FloatArray

Orientation = Literal["plain", "embedding", "mlx", "mlx-embedding", "mlx-experts", "parameter-experts"]
Shape = tuple[int, ...]

_FACTOR_ROLES: Mapping[str, tuple[str, str]] = {
    "plain": ("down", "up"),
    "embedding": ("embedding_down", "embedding_up"),
    "mlx": ("down_t", "up_t"),
}
# Names of a LoRA pair that a dialect's own readers know, for a layer that was none.
_KOHYA_ENDINGS = (".lora_down.weight", ".lora_up.weight")
_PEFT_ENDINGS = (".lora_A.weight", ".lora_B.weight")
_PEFT_LIKE = frozenset({"peft", "diffsynth"})
# Roles that stay beside new factors: what they mean does not change with the rank. ``up_bias`` is scaled like the
# factors, so its values change where the scale does.
KEPT_ROLES = frozenset(
    {"dora", "magnitude", "bias", "norm_bias", "up_bias", "reshape", "sparse_indices", "sparse_values", "sparse_size"}
)


class Names(NamedTuple):
    """Tensor names of one layer's factors; ``alpha`` is None where the file states no alpha per layer."""

    down: str
    up: str
    alpha: str | None


@dataclass(frozen=True, slots=True)
class Spelling:
    """Where a layer's new factors go, and in which orientation."""

    names: Names
    orientation: Orientation
    is_new: bool  # the layer was no plain LoRA pair
    is_flat: bool  # a 1x1 kernel is not spelled: both factors are stored as matrices

    def shapes(self, shape: Shape, rank: int) -> tuple[Shape, Shape]:
        """Shapes of the stored down and up for a delta of ``shape`` (of one expert, preceded by their number)."""
        match self.orientation:
            case "embedding":  # the delta is (vocab, dim), A is (rank, vocab), B is (dim, rank)
                return (rank, shape[0]), (shape[1], rank)
            case "mlx":
                return (shape[1], rank), (rank, shape[0])
            case "mlx-embedding":
                return (shape[0], rank), (rank, shape[1])
            case "mlx-experts":
                return (shape[0], rank, shape[2]), (*shape[:2], rank)
            case "parameter-experts":
                return (shape[0] * rank, shape[2]), (shape[1], rank * shape[0])
        out, width, *kernel = shape
        if self.is_flat or not kernel:
            return (rank, width), (out, rank)
        return (rank, width, *kernel), (out, rank, *(1 for _ in kernel))

    def arrays(self, parts: Sequence[LowRank]) -> tuple[FloatArray, FloatArray]:
        """Factors (one pair, or one per expert) as the stored down and up."""
        import numpy as np

        first = parts[0]
        match self.orientation:
            case "embedding":
                return first.up.T, first.down.T
            case "mlx":
                return first.down.T, first.up.T
            case "mlx-embedding":
                return first.up, first.down
            case "mlx-experts":
                return np.stack([part.down for part in parts]), np.stack([part.up for part in parts])
            case "parameter-experts":  # A stacks the experts slowest, B fastest
                ups = np.stack([part.up for part in parts], axis=2)
                return np.concatenate([part.down for part in parts]), ups.reshape(ups.shape[0], -1)
        down_shape, up_shape = self.shapes(first.shape, first.rank)
        return first.down.reshape(down_shape), first.up.reshape(up_shape)


def spelling_of(
    layer: Layer, dialect: str, neighbours: Mapping[str, Layer], tensors: Mapping[str, TensorInfo]
) -> Spelling:
    """The spelling of a layer's new factors."""
    alpha = layer.keys.get("alpha")
    for orientation, (down, up) in _FACTOR_ROLES.items():
        # AdaLoRA's pair is bare parameters (".lora_A"): LoRA's readers look for ".lora_A.weight".
        if down in layer.keys and up in layer.keys and layer.kind != "adalora":
            names = Names(layer.keys[down], layer.keys[up], alpha)
            is_new = "mid" in layer.keys or _is_grouped(layer, tensors)
            flat = len(tensors[names.down].shape) == 2
            return Spelling(names, _oriented(orientation, layer), is_new, flat and not is_new)
    down_ending, up_ending = _endings(dialect, neighbours)
    if alpha is None and down_ending == _KOHYA_ENDINGS[0] and layer.kind != "full":
        alpha = f"{layer.name}.alpha"
    names = Names(layer.name + down_ending, layer.name + up_ending, alpha)
    return Spelling(names, "plain", is_new=True, is_flat=False)


def _oriented(orientation: str, layer: Layer) -> Orientation:
    if orientation == "mlx":
        if layer.experts:
            return "mlx-experts"
        return "mlx-embedding" if is_mlx_embedding(layer.name) else "mlx"
    if orientation == "embedding":
        return "embedding"
    return "parameter-experts" if layer.experts else "plain"


def is_grouped_convolution(layer: Layer, tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether the factors belong to a convolution with groups, whose loaders expect block-diagonal ones."""
    if not _is_grouped(layer, tensors):
        return False
    is_merged_linear = len(tensors[layer.keys["up"]].shape) == 3 and len(tensors[layer.keys["down"]].shape) == 2
    return not is_merged_linear


def _is_grouped(layer: Layer, tensors: Mapping[str, TensorInfo]) -> bool:
    """Block-diagonal factors: a merged linear's, for which new ones are plain, or a grouped convolution's."""
    if layer.experts or not {"down", "up"} <= layer.keys.keys() or "mid" in layer.keys:
        return False
    return tensors[layer.keys["down"]].shape[0] != tensors[layer.keys["up"]].shape[1]


def _endings(dialect: str, neighbours: Mapping[str, Layer]) -> tuple[str, str]:
    """What the file already says for LoRA, else what the dialect says."""
    for layer in neighbours.values():
        if layer.kind == "lora" and "down" in layer.keys and layer.keys["down"].startswith(layer.name):
            return layer.keys["down"][len(layer.name) :], layer.keys["up"][len(layer.name) :]
    return _PEFT_ENDINGS if dialect in _PEFT_LIKE else _KOHYA_ENDINGS
