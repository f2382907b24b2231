"""Which weight of a checkpoint an adapter's layer was made for, by name.

Where the base model has a module table, both names are looked up there: an adapter with diffusers' names finds its
weights in an original checkpoint, and parts of a fused weight find their rows. Other names are brought to one
spelling: prefixes of tools and containers removed, dots as underscores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import NamedTuple

from ..adapter import Layer, TensorInfo
from .architectures import fused_in

_ENDING = ".weight"
# Longest first. Text encoders keep a mark, for a pipeline can hold several with the same names.
_CHECKPOINT_PREFIXES: tuple[tuple[str, str], ...] = (
    ("conditioner.embedders.0.transformer.", "te1_"),
    ("cond_stage_model.transformer.", "te1_"),
    ("text_encoders.clip_l.transformer.", "te1_"),
    ("text_encoders.clip_g.transformer.", "te2_"),
    ("text_encoders.t5xxl.transformer.", "te3_"),
    ("text_encoder_2.", "te2_"),
    ("text_encoder.", "te1_"),
    ("model.diffusion_model.", ""),
    ("diffusion_model.", ""),
    ("base_model.model.", ""),
    ("transformer.", ""),
    ("unet.", ""),
)
_ADAPTER_PREFIXES: tuple[tuple[str, str], ...] = (
    ("lora_transformer_", ""),
    ("lora_unet_", ""),
    ("lora_te1_", "te1_"),
    ("lora_te2_", "te2_"),
    ("lora_te3_", "te3_"),
    ("lora_te_", "te1_"),
    ("lycoris_", ""),
    *_CHECKPOINT_PREFIXES,
)
# OpenCLIP's text encoder (SD2, SDXL) in a checkpoint: its q, k and v are the thirds of one weight.
_OPEN_CLIP = re.compile(
    r"(?:conditioner\.embedders\.(?P<second>1)|cond_stage_model)\.model\.transformer\.resblocks\.(?P<layer>\d+)\.(?P<part>.+)"
)
_OPEN_CLIP_PARTS = {
    "attn.out_proj.weight": "self_attn_out_proj",
    "mlp.c_fc.weight": "mlp_fc1",
    "mlp.c_proj.weight": "mlp_fc2",
}
_PROCESSOR = re.compile(r"_processor_(to_\w+)$")


def _spelled(name: str, prefixes: Iterable[tuple[str, str]]) -> str:
    for prefix, mark in prefixes:
        if name.startswith(prefix):
            name = mark + name[len(prefix) :]
            break
    return _PROCESSOR.sub(r"_\1", name.replace(".", "_"))


def spelled_alike(module: str) -> str:
    """One spelling for a module's names in the dialects that use the base model's own names.

    >>> spelled_alike("lora_unet_mid_block_proj_in"), spelled_alike("unet.mid_block.proj_in")
    ('mid_block_proj_in', 'mid_block_proj_in')
    """
    return _spelled(module, _ADAPTER_PREFIXES)


class BaseWeight(NamedTuple):
    """A weight of a checkpoint, or one of ``parts`` equal slices of its rows."""

    key: str
    part: int = 0
    parts: int = 1


def match_base_weights(
    layers: Mapping[str, Layer], tensors: Mapping[str, TensorInfo], family: str | None = None
) -> dict[str, BaseWeight]:
    """Layer name -> the checkpoint's weight, for every layer that finds one of its own size.

    ``family``: the base model, whose module table is asked too. A language model's checkpoint may or may not start
    with ``model.`` or ``transformer.``; both are tried.
    """
    spelled = _by_spelling(layers, tensors)
    if family is None or len(spelled) == len(layers):
        return spelled
    by_table = _by_table({name: layer for name, layer in layers.items() if name not in spelled}, tensors, family)
    return {name: found for name in layers if (found := spelled.get(name) or by_table.get(name))}


def _by_table(layers: Mapping[str, Layer], tensors: Mapping[str, TensorInfo], family: str) -> dict[str, BaseWeight]:
    """Weights that the module table of the base model knows by another name, whole or as an equal part of one."""
    known: dict[tuple[str, ...], BaseWeight] = {}
    for key in tensors:
        held = fused_in(weight_module(key), family) if key.endswith("weight") else None
        if held is None:
            continue
        known[held.modules] = BaseWeight(key)
        if len(set(held.shares)) == 1 and len(held.modules) > 1:
            for part, module in enumerate(held.modules):
                known.setdefault((module,), BaseWeight(key, part, len(held.modules)))
    found = {}
    for name, layer in layers.items():
        held = fused_in(name, family)
        weight = known.get(held.modules) if held is not None else None
        if weight is not None and _size(tensors, weight) == prod(layer.shape or (0,)):
            found[name] = weight
    return found


def weight_module(key: str) -> str:
    """The module of a checkpoint's weight; OpenCLIP's fused projections are a parameter of their own."""
    return key.removesuffix("_weight" if key.endswith("in_proj_weight") else _ENDING)


def _by_spelling(layers: Mapping[str, Layer], tensors: Mapping[str, TensorInfo]) -> dict[str, BaseWeight]:
    weights = dict(_weights(tensors))
    found = {}
    for name, layer in layers.items():
        spelled = _spelled(name, _ADAPTER_PREFIXES)
        for candidate in (
            spelled,
            spelled.removeprefix("model_"),
            spelled.removeprefix("transformer_"),
            f"model_{spelled}",
        ):
            weight = weights.get(candidate)
            if weight is not None and _size(tensors, weight) == prod(layer.shape or (0,)):
                found[name] = weight
                break
    return found


def _size(tensors: Mapping[str, TensorInfo], weight: BaseWeight) -> int:
    return prod(tensors[weight.key].shape) // weight.parts


def _weights(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[str, BaseWeight]]:
    """Every weight of a checkpoint by its one spelling."""
    for key in tensors:
        open_clip = _OPEN_CLIP.match(key)
        if open_clip:
            yield from _open_clip(key, open_clip)
        elif key.endswith(_ENDING):
            yield _spelled(key.removesuffix(_ENDING), _CHECKPOINT_PREFIXES), BaseWeight(key)


def _open_clip(key: str, match: re.Match[str]) -> Iterator[tuple[str, BaseWeight]]:
    prefix = f"te{'2' if match['second'] else '1'}_text_model_encoder_layers_{match['layer']}_"
    if match["part"] == "attn.in_proj_weight":
        for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
            yield f"{prefix}self_attn_{name}", BaseWeight(key, part, 3)
    elif match["part"] in _OPEN_CLIP_PARTS:
        yield prefix + _OPEN_CLIP_PARTS[match["part"]], BaseWeight(key)
