"""What a resize will do to every layer, before anything is written.

The dry run, the interface's preview and the writer read the same value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import TYPE_CHECKING, Any, Literal

from ..adapter import Adapter, Layer
from ..formats.layout import TensorPlan
from .options import ResizeOptions

if TYPE_CHECKING:
    from ..formats.spelling import Spelling
    from ..linalg.decomposition import Known

Action = Literal["truncate", "cut", "pad", "cast", "keep"]


@dataclass(frozen=True, slots=True, eq=False)
class LayerPlan:
    """One layer's fate. ``reason`` says why it is left alone, or what to know about the change."""

    name: str
    kind: str
    action: Action
    old_rank: int | None
    new_rank: int | None
    scale: float  # what the new factors' product is multiplied with when they are read back
    norm: float | None = None  # Frobenius norm of the delta, where it was calculated
    error: float | None = None  # norm of what is dropped, where it was calculated
    reason: str | None = None
    spelling: Spelling | None = None
    tensors: tuple[TensorPlan, ...] = ()  # the layer's tensors in the output, changed ones and kept ones
    calculated: tuple[str, ...] = ()  # names of those that hold new values, alpha not counted

    @property
    def relative_error(self) -> float | None:
        """``error / norm``; 0 for a layer that is zero."""
        if self.error is None or self.norm is None:
            return None
        return self.error / self.norm if self.norm else 0.0

    @property
    def is_changed(self) -> bool:
        return self.action != "keep"

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.name,
            "kind": self.kind,
            "action": self.action,
            "old_rank": self.old_rank,
            "new_rank": self.new_rank,
            "relative_error": self.relative_error,
            "bytes": sum(tensor.nbytes for tensor in self.tensors),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, eq=False)
class ResizePlan:
    """Every layer's fate, the tensors and the header of the output, and its exact size."""

    adapter: Adapter
    options: ResizeOptions
    layers: Mapping[str, LayerPlan]
    tensors: Sequence[TensorPlan]  # the output file, in its order
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None  # the output's adapter_config.json, where the input has one
    size_after: int  # bytes of the weights file, exact
    notes: tuple[str, ...] = ()
    decompositions: Mapping[str, Known] = field(default_factory=dict, repr=False)  # reused by the writer

    @property
    def size_before(self) -> int:
        return self.adapter.source.size

    @property
    def kept(self) -> list[LayerPlan]:
        """Layers that are copied byte for byte; ``reason`` says why."""
        return [layer for layer in self.layers.values() if not layer.is_changed]

    @property
    def changed(self) -> list[LayerPlan]:
        return [layer for layer in self.layers.values() if layer.is_changed]

    @property
    def relative_error(self) -> float | None:
        """``sqrt(sum dropped^2 / sum norm^2)`` over the layers that change; None where it was not calculated.

        Before rounding to the output's types.
        """
        return total_error([(layer.error, layer.norm) for layer in self.changed])

    @property
    def rank_distribution(self) -> dict[int, int]:
        """Number of layers per new rank, smallest rank first."""
        counts = Counter(layer.new_rank for layer in self.layers.values() if layer.new_rank is not None)
        return dict(sorted(counts.items()))

    @property
    def rank_distribution_before(self) -> dict[int, int]:
        """Number of layers per stored rank of the input, smallest rank first."""
        counts = Counter(layer.old_rank for layer in self.layers.values() if layer.old_rank is not None)
        return dict(sorted(counts.items()))

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": "resize",
            "options": self.options.to_dict(),
            "layers_total": len(self.layers),
            "layers_changed": len(self.changed),
            "rank_distribution_before": {str(rank): n for rank, n in self.rank_distribution_before.items()},
            "rank_distribution": {str(rank): count for rank, count in self.rank_distribution.items()},
            "relative_error": self.relative_error,
            "size_before": self.size_before,
            "size_after": self.size_after,
            "notes": list(self.notes),
            "layers": [layer.to_dict() for layer in self.layers.values()],
        }


def total_error(pairs: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Relative Frobenius error of all layers together from ``(error, norm)`` pairs; None if any is unknown."""
    if any(error is None or norm is None for error, norm in pairs):
        return None
    dropped = sum(error**2 for error, _ in pairs if error is not None)
    whole = sum(norm**2 for _, norm in pairs if norm is not None)
    return sqrt(dropped / whole) if whole else 0.0


def rank_limit(layer: Layer) -> int:
    """The largest rank the layer's delta can have; 0 for what is no matrix."""
    if layer.shape is None or len(layer.shape) < 2:
        return 0
    out, *columns = layer.shape[1:] if layer.experts else layer.shape
    return min(out, prod(columns))
