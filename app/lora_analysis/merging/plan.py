"""What a merge will do, before anything is written. The dry run, the interface's preview and the writer read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..resizing.plan import LayerPlan, ResizePlan, total_error
from .factored import Run
from .inputs import MergeInput
from .matching import Dropped
from .notes import observed_notes
from .observations import interference, total_interference, with_missing
from .options import MergeOptions
from .summed import SummedLayer


@dataclass(frozen=True, slots=True, eq=False)
class MergePlan:
    """The inputs with their weights, and the rewriting of their sum."""

    inputs: tuple[MergeInput, ...]
    options: MergeOptions
    sums: Mapping[str, SummedLayer]
    rewriting: ResizePlan  # of the sum; its ``old_rank`` is the rank of the exact sum
    dropped: tuple[Dropped, ...]
    stated_notes: tuple[str, ...]  # known from headers alone
    run: Run

    @property
    def layers(self) -> Mapping[str, LayerPlan]:
        """Norms and errors, where they were calculated, are those of the whole merged delta."""
        seen = self.run.observations
        return {name: with_missing(layer, seen.get(name)) for name, layer in self.rewriting.layers.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks, those on values included as far as values were read."""
        return self.notes_on(self.layers)

    def notes_on(self, layers: Mapping[str, LayerPlan]) -> tuple[str, ...]:
        """The same with layers as they were measured."""
        return (*self.stated_notes, *observed_notes(self.options, self.run.observations, layers, self.inputs))

    @property
    def interference(self) -> dict[str, Any] | None:
        """How far the inputs agree over all layers; None where no values were read."""
        return total_interference((made.layer for made in self.sums.values()), self.run.observations)

    @property
    def size_after(self) -> int:
        """Bytes of the output's weights file, exact."""
        return self.rewriting.size_after

    @property
    def relative_error(self) -> float | None:
        """Frobenius norm of what truncation drops, over that of the sum; None where it was not calculated."""
        if self.options.is_exact and self.options.is_plain_sum:
            return 0.0
        return total_error(self.layers.values())

    @property
    def ranks(self) -> dict[int, int]:
        """Number of layers per rank, smallest rank first."""
        return self.rewriting.rank_distribution

    @property
    def layers_dropped(self) -> int:
        """Layers of the inputs, each input's counted, that are not in the sum."""
        return sum(drop.name in self.inputs[drop.input].adapter.layers for drop in self.dropped)

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": "merge",
            "method": self.options.method,
            "options": self.options.to_dict(),
            "inputs": [_input_to_dict(self, number) for number in range(len(self.inputs))],
            "layers_total": len(self.layers),
            "rank_distribution": {str(rank): count for rank, count in self.ranks.items()},
            "relative_error": self.relative_error,
            "size_before": self.rewriting.size_before,
            "size_after": self.size_after,
            "interference": self.interference,
            "notes": list(self.notes),
            "dropped": [drop.to_dict() for drop in self.dropped],
            "layers": [self.layer_to_dict(layer) for layer in self.layers.values()],
        }

    def layer_to_dict(self, layer: LayerPlan) -> dict[str, Any]:
        """One layer of the plan, or as measured."""
        made = self.sums[layer.name]
        return {
            "layer": layer.name,
            "kinds": list(made.kinds),
            "inputs": list(made.inputs),
            "interference": interference(made.layer, self.run.observations.get(layer.name)),
            "exact_rank": layer.old_rank,
            "rank": layer.new_rank,
            "relative_error": layer.relative_error,
            "bytes": sum(tensor.nbytes for tensor in layer.tensors),
        }


def _input_to_dict(plan: MergePlan, number: int) -> dict[str, Any]:
    item = plan.inputs[number]
    held = [made for made in plan.sums.values() if number in made.inputs]
    return {
        "path": item.adapter.path,
        "weight": item.weight,
        "requested_weight": item.requested_weight,
        "dialect": item.adapter.dialect,
        "base_model": item.adapter.base_model.family,
        "size_bytes": item.adapter.source.size,
        "layers": len(item.adapter.layers),
        "layers_merged": len(held),
        "layers_alone": sum(len(made.inputs) == 1 for made in held),
    }
