"""What a resize will do to every layer, before anything is written.

The dry run, the interface's preview and the writer read the same value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, prod
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
    norm: float | None = None  # Frobenius norm of the delta, where there is one and it was calculated
    error: float | None = None  # norm of what is dropped, where it was calculated; 0 where nothing changes
    reason: str | None = None
    spelling: Spelling | None = None
    tensors: tuple[TensorPlan, ...] = ()  # the layer's tensors in the output, changed ones and kept ones
    calculated: tuple[str, ...] = ()  # names of those that hold new values, alpha not counted
    bias_norm: float | None = None  # of the difference of the bias beside the weight, where it was calculated

    @property
    def relative_error(self) -> float | None:
        """``error / norm``; 0 for a layer that is zero, or kept as it is."""
        if not self.error:
            return self.error
        return self.error / self.norm if self.norm else None

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
        """``sqrt(sum dropped^2 / sum norm^2)`` over all layers that have a delta; None where it was not calculated.

        Layers that stay as they are count with their norms, and so do biases. Before rounding to the output's types.
        """
        return total_error(self.layers.values())

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


def total_error(layers: Iterable[LayerPlan]) -> float | None:
    """Relative Frobenius error of all layers together; None where that of a layer is unknown.

    Layers without a norm, which have no delta without the base weight, do not count.
    """
    known = list(layers)
    errors = [layer.error for layer in known if layer.error is not None]
    return relative(errors, norms_in(known)) if len(errors) == len(known) else None


def norms_in(layers: Iterable[LayerPlan]) -> list[float]:
    """The norms that are known, of deltas and of biases beside them."""
    return [norm for layer in layers for norm in (layer.norm, layer.bias_norm) if norm is not None]


def relative(errors: Iterable[float], norms: Iterable[float]) -> float:
    """The norm of everything that was lost over the norm of all there was; 0 where there was nothing."""
    whole = hypot(*norms)
    return hypot(*errors) / whole if whole else 0.0


def rank_limit(layer: Layer) -> int:
    """The largest rank the layer's delta can have; 0 for what is no matrix."""
    if layer.shape is None or len(layer.shape) < 2:
        return 0
    out, *columns = layer.shape[1:] if layer.experts else layer.shape
    return min(out, prod(columns))
