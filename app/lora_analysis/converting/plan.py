"""What a conversion will do, before anything is written. The dry run and the writer read the same value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ..adapter import Adapter, Layer
from ..formats.layout import TensorPlan
from .options import ConvertOptions

# rename: the same bytes under other names. factor: another kind became LoRA. join: stacked factors of several layers.
# share: several layers with one down. slice: some rows, down copied. cut: the part's own block of stacked factors.
# reorder: the same rows in another order. rewrite: other rank, scale or type.
Action = Literal["rename", "factor", "join", "share", "slice", "cut", "reorder", "rewrite"]


class Move(NamedTuple):
    """Rows ``[start, stop)`` of an input's delta become rows from ``to`` of the output's."""

    start: int
    stop: int
    to: int


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An input layer, or the part of it that an output layer takes."""

    layer: Layer
    moves: tuple[Move, ...]
    columns: tuple[int, ...] | None = None  # of up that act on these rows; None for all


class Missing(NamedTuple):
    """Something of the input that the target has no way to say."""

    name: str  # of a layer or a tensor
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class Stored(NamedTuple):
    """A tensor of the output, and where its bytes come from: an input's tensor, a number, or a calculation."""

    tensor: TensorPlan
    raw: str | None = None  # name of the input tensor whose bytes it has
    value: float | None = None  # the one number it holds
    role: Literal["", "down", "up", "magnitude", "bias"] = ""


@dataclass(frozen=True, slots=True, eq=False)
class LayerPlan:
    """One layer of the output."""

    name: str
    kind: str
    action: Action
    sources: tuple[Source, ...]
    rows: int
    rank: int | None = None  # stored rank of the output; None where the kind has none
    truncate: int | None = None  # the rank that singular values are cut at; None where nothing is lost
    scale: float = 1.0  # what multiplies the output's factors when they are read
    alpha: float | None = None
    tensors: tuple[Stored, ...] = ()
    kernel: tuple[int, ...] | None = None  # of a convolution that the input stores flattened

    def to_dict(self) -> dict[str, Any]:
        return {
            "layer": self.name,
            "kind": self.kind,
            "action": self.action,
            "from": [source.layer.name for source in self.sources],
            "rank": self.rank,
            "alpha": self.alpha,
            "bytes": sum(one.tensor.nbytes for one in self.tensors),
        }


@dataclass(frozen=True, slots=True, eq=False)
class ConvertPlan:
    """Every layer of the output, what is left out, and the output's exact size."""

    adapter: Adapter
    options: ConvertOptions
    family: str
    layers: Mapping[str, LayerPlan]
    missing: tuple[Missing, ...]  # what the target cannot express; left out with ``drop``
    carried: tuple[Stored, ...]  # tensors that belong to no layer
    tensors: Sequence[Stored]  # the output file, in its order
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None  # adapter_config.json of a PEFT folder
    size_after: int  # bytes of the weights file, exact
    notes: tuple[str, ...] = ()

    @property
    def size_before(self) -> int:
        return self.adapter.source.size

    @property
    def actions(self) -> dict[str, int]:
        """Number of output layers per action, most frequent first."""
        return dict(Counter(layer.action for layer in self.layers.values()).most_common())

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": "convert",
            "options": self.options.to_dict(),
            "dialect_before": self.adapter.dialect,
            "base_model": self.family,
            "layers_before": len(self.adapter.layers),
            "layers_after": len(self.layers),
            "actions": self.actions,
            "missing": [one.to_dict() for one in self.missing],
            "size_before": self.size_before,
            "size_after": self.size_after,
            "notes": list(self.notes),
            "layers": [layer.to_dict() for layer in self.layers.values()],
        }
