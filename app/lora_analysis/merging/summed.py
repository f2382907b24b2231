"""The merge of adapters, as an adapter: layers whose updates are calculated when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..adapter import Adapter, BaseModel, Layer, Vector
from ..formats.adapter_output import input_files
from ..formats.families import UNKNOWN
from ..formats.layout import TensorPlan
from ..formats.spelling import Spelling
from .elements import is_summed_by_elements, merged_bias, merged_elements
from .factored import Run, merged_factors
from .inputs import MergeInput, Share, summed_together
from .matching import Matched
from .storage import stored_dtype
from .tensors import Calculated, Carried, SumSource


@dataclass(frozen=True, slots=True, eq=False)
class SummedLayer:
    """One layer of the sum: as a layer that can be read, and how it is stored."""

    layer: Layer
    inputs: tuple[int, ...]  # which hold it
    kinds: tuple[str, ...]  # of their updates
    dtype: str  # of what is calculated
    spelling: Spelling | None  # of its factors; None where its tensors are summed element by element
    beside: tuple[TensorPlan, ...]  # its tensors that are no factors
    ranks: tuple[int, ...] = ()  # of the inputs' deltas


@dataclass(frozen=True, slots=True, eq=False)
class Summed:
    """The sum before any truncation: an adapter, and the storage of each of its layers."""

    adapter: Adapter
    layers: Mapping[str, SummedLayer]
    carried: tuple[TensorPlan, ...]  # tensors that belong to no layer


def sum_adapters(
    inputs: Sequence[MergeInput],
    matched: Matched,
    carried: Mapping[str, Carried],
    config: Mapping[str, Any] | None,
    *,
    run: Run,
) -> Summed:
    """The merge of matched layers. Values are read when a layer's update, or a tensor, is asked for.

    What all holders store as a difference stays one where nothing but a sum is made of it; else it becomes factors.
    """
    options = run.options
    keep_differences = options.is_exact and options.is_plain_sum
    tensors: dict[str, Calculated | Carried] = dict(carried)
    summed: dict[str, SummedLayer] = {}
    for name, holders in matched.layers.items():
        home = matched.homes.get(name)
        shares = summed_together(holders)
        stored = stored_dtype(shares, options.dtype)
        spelling: Spelling | None = None
        ranks: tuple[int, ...] = ()
        own: dict[str, Calculated | Carried] = {}
        if is_summed_by_elements(shares, keep_differences=keep_differences):
            layer, own = merged_elements(shares, stored, options, home)
        else:
            layer, spelling, ranks = merged_factors(shares, inputs[0].adapter.dialect, stored, run, home)
        bias = merged_bias(holders, stored, options, layer.name)
        beside = {**own, **bias, **_reshape(holders)}
        tensors |= beside
        kinds = tuple(dict.fromkeys(share.layer.kind for share in shares))
        numbers = tuple(dict.fromkeys(share.input for share in holders))
        summed[layer.name] = SummedLayer(
            _with_bias(layer, bias), numbers, kinds, stored, spelling, tuple(_plans(beside)), ranks
        )
    layers_alone = {name: item.layer for name, item in summed.items()}
    return Summed(_adapter(inputs, layers_alone, tensors, config), summed, tuple(_plans(carried)))


def _with_bias(layer: Layer, bias: Mapping[str, Calculated]) -> Layer:
    made = next(iter(bias.values()), None)
    return layer if made is None else layer.varied(load_bias=lambda: Vector(made.make()))


def _reshape(shares: Sequence[Share]) -> dict[str, Calculated | Carried]:
    """The shape that the base is padded to. It is the same in all holders, or they would not match."""
    keys = {share.layer.keys["reshape"]: share for share in shares if "reshape" in share.layer.keys}
    return {key: Carried(share.adapter.source, key) for key, share in list(keys.items())[:1]}


def _plans(tensors: Mapping[str, Calculated | Carried]) -> list[TensorPlan]:
    return [TensorPlan(name, tensor.info.dtype, tensor.info.shape) for name, tensor in tensors.items()]


def _adapter(
    inputs: Sequence[MergeInput],
    layers: Mapping[str, Layer],
    tensors: Mapping[str, Calculated | Carried],
    config: Mapping[str, Any] | None,
) -> Adapter:
    sources = [item.adapter.source for item in inputs]
    path = " + ".join(item.name for item in inputs)
    files = [file for item in inputs for file in input_files(item.adapter)]
    source = SumSource(path, files, sum(source.size for source in sources), tensors)
    dialect = inputs[0].adapter.dialect
    return Adapter(source, dialect, "lora", _base_model(inputs), layers, config=config)


def _base_model(inputs: Sequence[MergeInput]) -> BaseModel:
    models = [item.adapter.base_model for item in inputs]
    return next((model for model in models if model.family != UNKNOWN), models[0])
