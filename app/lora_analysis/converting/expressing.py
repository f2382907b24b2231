"""What a dialect can say about a layer: asked of headers alone, before any value is read."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ..adapter import VECTOR_KINDS, Adapter, Extra, Layer
from ..formats.architectures import fused_in, spelled_in
from ..formats.kinds import is_mlx_embedding
from ..formats.spelling import is_grouped_convolution
from .options import ConvertOptions
from .plan import Missing

FACTORABLE = frozenset({"lora", "adalora", "loha", "lokr", "full"})  # kinds that become plain LoRA
# Roles whose names are LyCORIS', which kohya's and ComfyUI's loaders read.
_LYCORIS_ROLES = frozenset(
    {"ga_1", "ga_2", "gb_1", "gb_2", "gb_m", "ia3_weight", "on_input", "oft_blocks", "rescale", "alpha", "dora"}
    | {f"oft_blocks.{part}" for part in range(8)}
)
_SPARSE = ("sparse_indices", "sparse_values", "sparse_size")
_CARRIED = ("embedding", "marker", "position")


def why_not(adapter: Adapter, layer: Layer, options: ConvertOptions) -> str | None:
    """Why the target cannot express a layer at all, or None."""
    if layer.opaque is not None:
        return None if _is_lycoris(layer) and not options.makes_plain else f"{layer.opaque}; {options.to} cannot say it"
    if layer.kind in VECTOR_KINDS:
        return _why_no_vector(layer, options)
    if layer.kind not in FACTORABLE:
        return f"a {layer.kind} layer is no factored delta"
    if layer.shape is None or not prod(layer.shape) or layer.rank == 0:
        return "the layer is empty"
    if layer.experts and (adapter.dialect != "peft" or options.to != "peft" or options.changes_factors):
        return "experts stacked in one parameter are PEFT's own form"
    if _is_embedding(layer) and options.to != "peft":
        return "factors of an embedding are PEFT's own form"
    if "down_t" in layer.keys and is_mlx_embedding(layer.name):
        return "factors of an embedding in MLX' form have no other one yet"
    if layer.base_transposed and options.to != "peft":
        return "the base stores this weight transposed (fan_in_fan_out), which only PEFT can say"
    if is_grouped_convolution(layer, adapter.source.tensors):
        return "loaders of a grouped convolution expect block-diagonal factors"
    return _why_no_magnitude(layer, options)


def _is_lycoris(layer: Layer) -> bool:
    return layer.keys.keys() <= _LYCORIS_ROLES


def _is_embedding(layer: Layer) -> bool:
    return "embedding_down" in layer.keys


def _why_no_vector(layer: Layer, options: ConvertOptions) -> str | None:
    if not options.spoken.carries_other_kinds:
        return f"{options.to} has no name for the difference of a {layer.kind}"
    if layer.kind == "modulation" and options.to != "comfyui":
        return "only ComfyUI reads the difference of a modulation"
    return None


def _why_no_magnitude(layer: Layer, options: ConvertOptions) -> str | None:
    if layer.magnitude_axis is None:
        return None
    if layer.magnitude_axis == "in" and not options.spoken.carries_other_kinds:
        return f"its DoRA norms are those of the columns; {options.to} has norms of rows only"
    if layer.kind != "lora" and options.makes_plain and not options.spoken.carries_other_kinds:
        return f"DoRA on a {layer.kind} layer has no name in {options.to}"
    return None


def lost_beside(layer: Layer, options: ConvertOptions) -> Iterator[Missing]:
    """Tensors of a layer that the target has no name for, though it can express the layer."""
    roles = list(_SPARSE)
    if options.to != "comfyui":
        roles.append("reshape")
    if not options.spoken.carries_other_kinds:
        roles += ["bias", "norm_bias"]
    if options.to == "diffusers":
        roles.append("up_bias")
    for role in roles:
        if role in layer.keys:
            what = {"reshape": "the base's larger shape", "bias": "the difference of a bias", "norm_bias": "a bias"}
            text = what.get(role, "a sparse residual" if role in _SPARSE else "the bias of the factors")
            yield Missing(layer.keys[role], f"{text}; {options.to} has no name for it")


def extra_name(adapter: Adapter, extra: Extra, family: str, options: ConvertOptions) -> str | None:
    """The name under which the target carries a tensor that is no update; None where it has none."""
    if extra.category in _CARRIED:
        return extra.key if options.to != "peft" else None
    if options.to == "peft" and adapter.dialect == "peft":
        return extra.key if extra.category in ("saved-module", "token-rows") else None
    if extra.category == "replacement" and options.to == "comfyui":
        return _replacement(extra.key, family)
    return None


def _replacement(key: str, family: str) -> str | None:
    """ComfyUI replaces a value by ``<parameter>.set_weight`` (its ``convert_lora_bfl_control``)."""
    parameter = key.removesuffix(".set_weight")
    module, _, ending = parameter.rpartition(".")
    held = fused_in(module, family)
    if held is None or len(held.modules) != 1:
        return None
    spelled = spelled_in("comfyui", held.modules[0], family)
    return f"{spelled.name}.{ending}.set_weight" if spelled else None
