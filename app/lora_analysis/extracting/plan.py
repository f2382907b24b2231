"""What an extraction will write, before any value is read. The dry run and the writer read the same value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .. import __version__
from ..converting.configuration import component_configs, lora_config
from ..converting.plan import LayerPlan, Stored
from ..formats.adapter_config import PEFT_PREFIX
from ..formats.checkpoint import Checkpoint
from ..formats.digests import PLACEHOLDERS
from ..formats.headers.trainers import OPERATION_KEY
from ..formats.layout import TensorPlan, aligned, predicted_size
from ..formats.strict_json import dumps
from ..resizing.options import OUTPUT_DTYPES
from ..resizing.provenance import HISTORY_KEY
from .options import ExtractOptions
from .units import Found, Unit, find_units


@dataclass(frozen=True, slots=True, eq=False)
class ExtractPlan:
    """Which weights are compared and what is left out, from the headers alone.

    Ranks are limits: whether a weight differs at all, and how, its values tell. ``size_least`` and ``size_most`` are
    the weights file's bytes where every weight differs, at rank 1 (or the rank asked for) and at the largest ranks.
    """

    tuned: Checkpoint
    base: Checkpoint
    options: ExtractOptions
    found: Found
    size_least: int
    size_most: int

    def limit(self, unit: Unit) -> int | None:
        """The largest rank the layer can get; None for a vector, which is kept whole."""
        return None if unit.is_vector else min(self.options.limit, unit.limit)

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": "extract",
            "options": self.options.to_dict(),
            "tuned": os.fspath(self.tuned.path),
            "base": os.fspath(self.base.path),
            "base_model": self.found.family,
            "layers_compared": len(self.found.units),
            "size_least": self.size_least,
            "size_most": self.size_most,
            "skipped": [{"name": name, "reason": reason} for name, reason in self.found.skipped.items()],
            "layers": [
                {
                    "layer": unit.name,
                    "from": [piece.key for piece in unit.pieces],
                    "shape": list(unit.shape),
                    "max_rank": self.limit(unit),
                }
                for unit in self.found.units
            ],
        }


def plan_extract(tuned: Checkpoint, base: Checkpoint, options: ExtractOptions) -> ExtractPlan:
    """Read both headers; no value. Raises: OptionError as :func:`.units.find_units`."""
    plan = ExtractPlan(tuned, base, options, find_units(tuned, base, options), 0, 0)
    most = {unit.name: limit for unit in plan.found.units if (limit := plan.limit(unit)) is not None}
    least = most if options.rank is not None else dict.fromkeys(most, 1)
    small, large = (_size(plan, ranks) for ranks in (least, most))
    if options.size is not None:
        large = max(small, min(large, options.size))
    return replace(plan, size_least=small, size_most=large)


def _size(plan: ExtractPlan, ranks: Mapping[str, int]) -> int:
    made = contents(plan, {unit.name: unit for unit in plan.found.units}, ranks)
    return predicted_size([one.tensor for one in made.tensors], made.metadata)


class Contents(NamedTuple):
    """Every tensor of an output, its header and its configuration."""

    layers: Mapping[str, LayerPlan]
    units: Mapping[str, Unit]
    tensors: list[Stored]
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None


def contents(plan: ExtractPlan, units: Mapping[str, Unit], ranks: Mapping[str, int]) -> Contents:
    """The output with these layers, at these ranks; vectors have none."""
    options, family = plan.options, plan.found.family
    dtype = OUTPUT_DTYPES[options.dtype]
    layers = {name: _layer(unit, ranks.get(name), dtype, options) for name, unit in units.items()}
    stored = [one for plan in layers.values() for one in plan.tensors]
    by_name = {one.tensor.name: one for one in stored}
    tensors = [by_name[tensor.name] for tensor in aligned([one.tensor for one in stored])]
    factored = {name: layer for name, layer in layers.items() if layer.rank}
    config = _config(factored, family) if options.to == "peft" else None
    return Contents(layers, units, tensors, _metadata(plan, factored), config)


def _layer(unit: Unit, rank: int | None, dtype: str, options: ExtractOptions) -> LayerPlan:
    if rank is None:
        tensor = Stored(TensorPlan(unit.name, dtype, unit.shape), role="bias")
        return LayerPlan(unit.name, "norm", "rewrite", (), unit.shape[0], tensors=(tensor,))
    spoken, (out, width, *kernel) = options.spoken, unit.shape
    tensors = [
        Stored(TensorPlan(unit.name + spoken.down, dtype, (rank, width, *kernel)), role="down"),
        Stored(TensorPlan(unit.name + spoken.up, dtype, (out, rank, *(1 for _ in kernel))), role="up"),
    ]
    if spoken.states_alpha:
        tensors.append(Stored(TensorPlan(f"{unit.name}.alpha", "F32", ()), value=float(rank)))
    return LayerPlan(unit.name, "lora", "rewrite", (), out, rank, None, 1.0, float(rank), tuple(tensors))


def _config(layers: Mapping[str, LayerPlan], family: str) -> dict[str, Any]:
    return {
        "base_model_name_or_path": None, "bias": "none", "fan_in_fan_out": family == "gpt2", "inference_mode": True,
        "lora_dropout": 0.0, "modules_to_save": None, "task_type": None, **lora_config(layers, PEFT_PREFIX, {}),
    }  # fmt: skip


def _metadata(plan: ExtractPlan, layers: Mapping[str, LayerPlan]) -> dict[str, str]:
    options = plan.options
    ranks = {layer.rank for layer in layers.values()}
    common = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
    metadata = {"format": "pt", "sshs_model_hash": PLACEHOLDERS["sshs_model_hash"], OPERATION_KEY: "extract"}
    if options.to == "kohya":
        metadata |= {"ss_network_module": "networks.lora", "ss_network_dim": common, "ss_network_alpha": common}
    if options.to == "diffusers":
        metadata["lora_adapter_metadata"] = dumps(component_configs(layers))
    inputs = [
        {"name": os.path.basename(os.path.normpath(one.path)), "size": one.size} for one in (plan.tuned, plan.base)
    ]
    record = {"operation": "extract", "options": options.to_dict(), "version": __version__, "inputs": inputs}
    return metadata | {HISTORY_KEY: dumps([record])}
