"""Which rows of a checkpoint's weights an adapter's layer was made for, across the names of both.

The module table of the base model comes first: an adapter in diffusers' names finds its weights in an original
checkpoint, ``to_q``, ``to_k`` and ``to_v`` as thirds of its ``qkv``, and a fused layer finds the three weights of a
diffusers component. Where the table knows one of the names only, they are brought to one spelling: prefixes of tools
and containers removed, dots as underscores.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import NamedTuple

from ..adapter import FloatArray, Layer, TensorInfo
from .architectures import canonical_parts, fused_in
from .families import ModuleShape

_ENDING = ".weight"
_OWN_WEIGHTS = ("modulation", "scale_shift_table")  # parameters without an ending of their own
# Longest first. Text encoders keep a mark, for a pipeline can hold several with the same names.
_CHECKPOINT_PREFIXES: tuple[tuple[str, str], ...] = (
    ("conditioner.embedders.0.transformer.", "te1_"),
    ("cond_stage_model.transformer.", "te1_"),
    ("text_encoders.clip_l.transformer.", "te1_"),
    ("text_encoders.clip_g.transformer.", "te2_"),
    ("text_encoders.t5xxl.transformer.", "te3_"),
    ("text_encoder_3.", "te3_"),
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


class Rows(NamedTuple):
    """Rows ``[start, stop)`` of a checkpoint's tensor."""

    key: str
    start: int
    stop: int


def match_base_weights(
    layers: Mapping[str, Layer], tensors: Mapping[str, TensorInfo], family: str | None
) -> dict[str, tuple[Rows, ...]]:
    """Layer name -> the rows of its base weight from the first to the last, for every layer that finds them all.

    Together they have as many values as the layer's delta. ``family``: the base model, whose module table is asked.
    A language model's checkpoint may or may not start with ``model.`` or ``transformer.``; both are tried.
    """
    found: dict[str, tuple[Rows, ...]] = {}
    if family is not None:
        modules = rows_by_module(tensors, family)
        found = {name: _by_table(layer, modules, tensors, family) for name, layer in layers.items()}
    found |= match_by_name({name: layer for name, layer in layers.items() if not found.get(name)}, tensors)
    return {name: rows for name in layers if (rows := found.get(name))}


def _by_table(
    layer: Layer, modules: Mapping[str, Rows], tensors: Mapping[str, TensorInfo], family: str
) -> tuple[Rows, ...]:
    """Nothing where a part is not there, or all of them together have another size."""
    parts = canonical_parts(layer, family) or ()
    if not all(part.module in modules for part in parts):
        return ()
    rows = _joined(modules[part.module] for part in parts)
    widths = {prod(tensors[row.key].shape[1:]) for row in rows}
    return rows if len(widths) == 1 and _values(rows, tensors) == prod(layer.shape or (0,)) else ()


def _joined(parts: Iterable[Rows]) -> tuple[Rows, ...]:
    """Neighbouring rows of one tensor as one."""
    made: list[Rows] = []
    for part in parts:
        if made and (made[-1].key, made[-1].stop) == (part.key, part.start):
            made[-1] = made[-1]._replace(stop=part.stop)
        else:
            made.append(part)
    return tuple(made)


def rows_by_module(tensors: Mapping[str, TensorInfo], family: str) -> dict[str, Rows]:
    """Canonical module -> the rows that hold it; the first where a checkpoint stores a module twice."""
    found: dict[str, Rows] = {}
    for key, info in tensors.items():
        module = module_of(key)
        held = fused_in(module, family) if module and info.shape else None
        if held is None:
            continue
        unit, rest = divmod(info.shape[0], sum(held.shares))
        if rest:
            continue
        start = 0
        for canonical, share in zip(held.modules, held.shares, strict=True):
            found.setdefault(canonical, Rows(key, start, start + share * unit))
            start += share * unit
    return found


def module_of(key: str) -> str | None:
    """The module of a checkpoint's weight; None for other tensors.

    OpenCLIP's fused projections are a parameter of their own; modulations are a weight by themselves.
    """
    if key.endswith("in_proj_weight"):
        return key.removesuffix("_weight")
    if key.endswith(_ENDING):
        return key.removesuffix(_ENDING)
    return key if key.rpartition(".")[2] in _OWN_WEIGHTS else None


def shapes_of(tensors: Mapping[str, TensorInfo]) -> dict[str, ModuleShape]:
    """Every module of a checkpoint that has a matrix or a kernel, with its size: what tells the base model."""
    return {
        module: ModuleShape(info.shape[0], info.shape[1], tuple(info.shape[2:]))
        for key, info in tensors.items()
        if (module := module_of(key)) is not None and len(info.shape) > 1
    }


def match_by_name(layers: Mapping[str, Layer], tensors: Mapping[str, TensorInfo]) -> dict[str, tuple[Rows]]:
    """The same without a table: the weight of a layer's own name and size, whatever tool or container spelled them."""
    weights = dict(_weights(tensors))
    found: dict[str, tuple[Rows]] = {}
    for name, layer in layers.items():
        spelled = _spelled(name, _ADAPTER_PREFIXES)
        for candidate in (
            spelled,
            spelled.removeprefix("model_"),
            spelled.removeprefix("transformer_"),
            f"model_{spelled}",
        ):
            rows = weights.get(candidate)
            if rows is not None and _values((rows,), tensors) == prod(layer.shape or (0,)):
                found[name] = (rows,)
                break
    return found


def _values(rows: Iterable[Rows], tensors: Mapping[str, TensorInfo]) -> int:
    return sum((part.stop - part.start) * prod(tensors[part.key].shape[1:]) for part in rows)


def _weights(tensors: Mapping[str, TensorInfo]) -> Iterator[tuple[str, Rows]]:
    """Every weight of a checkpoint by its one spelling."""
    for key, info in tensors.items():
        if not info.shape:
            continue
        open_clip = _OPEN_CLIP.match(key)
        if open_clip:
            yield from _open_clip(key, info.shape[0], open_clip)
        elif key.endswith(_ENDING):
            yield _spelled(key.removesuffix(_ENDING), _CHECKPOINT_PREFIXES), Rows(key, 0, info.shape[0])


def _open_clip(key: str, height: int, match: re.Match[str]) -> Iterator[tuple[str, Rows]]:
    prefix = f"te{'2' if match['second'] else '1'}_text_model_encoder_layers_{match['layer']}_"
    if match["part"] == "attn.in_proj_weight":
        for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
            yield f"{prefix}self_attn_{name}", Rows(key, part * height // 3, (part + 1) * height // 3)
    elif match["part"] in _OPEN_CLIP_PARTS:
        yield prefix + _OPEN_CLIP_PARTS[match["part"]], Rows(key, 0, height)


def base_matrix(array: Callable[[str], FloatArray], rows: Sequence[Rows], *, is_transposed: bool = False) -> FloatArray:
    """Rows of a checkpoint one below the other as ``(out, in * k)``, turned as the layer's delta is.

    ``array``: reads a tensor of the checkpoint.
    """
    stored = [array(key)[start:stop] for key, start, stop in rows]
    parts = [part.reshape(part.shape[0], -1) for part in stored]
    if len(parts) == 1:
        return parts[0].T if is_transposed else parts[0]
    import numpy as np

    joined_rows = np.concatenate(parts)
    return joined_rows.T if is_transposed else joined_rows
