"""The tensors of each output layer: names, types, shapes, and where their bytes come from."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from ..adapter import VECTOR_KINDS, Adapter, Layer
from ..formats.architectures import kernel_of
from ..formats.layout import TensorPlan
from ..resizing.options import OUTPUT_DTYPES
from .building import exact_rank
from .grouping import Grouped, action_of
from .options import ConvertOptions
from .plan import Action, LayerPlan, Missing, Move, Stored

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # most precise first
_FACTORS = frozenset({"down", "up", "embedding_down", "embedding_up"})
_RENAMED = {
    "embedding_down": ".lora_embedding_A",
    "embedding_up": ".lora_embedding_B",
    "mid": ".lora_mid.weight",
    "up_bias": ".lora_B.bias",
    "reshape": ".reshape_weight",
    "norm": ".w_norm",
    "norm_bias": ".b_norm",
    "bias": ".diff_b",
    "diff": ".diff",
    "modulation": ".diff_m",
}
_LEFT_OUT = frozenset({"sparse_indices", "sparse_values", "sparse_size"})
_ONLY_COMFYUI = frozenset({"reshape"})


def store(adapter: Adapter, group: Grouped, family: str, options: ConvertOptions) -> LayerPlan | Missing:
    """How one output layer is written, or why it cannot be."""
    layers = [source.layer for source in group.sources]
    name, first = _layer_name(group.held.name, layers[0]), layers[0]
    if first.shape is None or first.kind in VECTOR_KINDS or first.experts:
        if not group.is_whole:
            return Missing(first.name, f"a {first.kind} layer cannot be divided or joined")
        return _renamed(adapter, name, group, options)
    reason = _why_not_moved(group)
    if reason:
        return Missing(first.name, reason)
    if _stays(adapter, group, options):
        return _renamed(adapter, name, group, options)
    return _calculated(adapter, name, group, family, options)


def _layer_name(spelled: str, layer: Layer) -> str:
    return spelled.removesuffix(".modulation").removesuffix("_modulation") if layer.kind == "modulation" else spelled


def _why_not_moved(group: Grouped) -> str | None:
    """Why the norms of a DoRA layer do not follow its rows."""
    axes = {source.layer.magnitude_axis for source in group.sources}
    if axes == {None} or group.is_whole:
        return None
    if len(axes) > 1:
        return "some of the layers to be joined are DoRA, others are not"
    covered = sum(move.stop - move.start for source in group.sources for move in source.moves)
    first = group.sources[0].layer
    reordered = len(group.sources) == 1 and first.shape is not None and covered == first.shape[0] == group.rows
    if axes == {"in"} and not reordered:
        return "DoRA norms of the columns belong to the fused weight as a whole"
    if covered != group.rows:
        return "parts of the fused weight have no DoRA norms, and only the base knows theirs"
    return None


def _stays(adapter: Adapter, group: Grouped, options: ConvertOptions) -> bool:
    """Whether the layer's own bytes are what the target wants."""
    if not group.is_whole:
        return False
    layer = group.sources[0].layer
    if "embedding_down" in layer.keys or layer.experts:
        return True
    plain = layer.kind == "lora" and "mid" not in layer.keys and "down" in layer.keys
    if plain:
        return not options.changes_factors and _is_paired(adapter, layer)
    if options.makes_plain or layer.kind == "adalora" or options.dtype != "keep" or "down_t" in layer.keys:
        return False
    # A configured alpha acts on LoKr also where both sides are whole; the tensor does not.
    return layer.kind == "loha" or layer.scale_origin in ("tensor", "none") or layer.scale == 1.0


def _is_paired(adapter: Adapter, layer: Layer) -> bool:
    tensors = adapter.source.tensors
    return tensors[layer.keys["down"]].shape[0] == tensors[layer.keys["up"]].shape[1]


# -- the same bytes ----------------------------------------------------------------------------------


def _renamed(adapter: Adapter, name: str, group: Grouped, options: ConvertOptions) -> LayerPlan:
    layer = group.sources[0].layer
    stored = []
    for role, key in layer.keys.items():
        ending = _ending(role, layer, key, options)
        if ending is not None and role != "alpha":
            info = adapter.source.tensors[key]
            shape = _magnitude_shape(layer, options) if role in ("dora", "magnitude") else info.shape
            stored.append(Stored(TensorPlan(name + ending, info.dtype, shape), raw=key))
    alpha = layer.alpha if _is_exact(layer) else layer.scale * (layer.rank or 1)
    if options.spoken.states_alpha:
        stored += _alpha(adapter, name, layer, alpha)
        if "up_bias" in layer.keys:
            bias = TensorPlan(f"{name}.diff_b", adapter.source.tensors[layer.keys["up_bias"]].dtype, (group.rows,))
            stored.append(Stored(bias, role="bias"))
    sources = group.sources if group.sources[0].moves else (replace(group.sources[0], moves=(Move(0, 0, 0),)),)
    return LayerPlan(
        name, layer.kind, "rename", sources, group.rows, layer.rank, None, layer.scale, alpha, tuple(stored)
    )


def _is_exact(layer: Layer) -> bool:
    """Whether the stored alpha over the rank is the scale."""
    return layer.alpha is not None and bool(layer.rank) and layer.alpha / (layer.rank or 1) == layer.scale


def _alpha(adapter: Adapter, name: str, layer: Layer, alpha: float | None) -> list[Stored]:
    key = layer.keys.get("alpha")
    if key is not None:
        info = adapter.source.tensors[key]
        return [Stored(TensorPlan(f"{name}.alpha", info.dtype, info.shape), raw=key)]
    if layer.rank is None or layer.kind not in ("lora", "loha"):
        return []
    return [Stored(TensorPlan(f"{name}.alpha", "F32", ()), value=alpha)]


def _ending(role: str, layer: Layer, key: str, options: ConvertOptions) -> str | None:
    """The end of a renamed tensor's name; None where it is left out, or written another way."""
    spoken = options.spoken
    if role in ("dora", "magnitude"):
        return spoken.magnitude
    if role in ("down", "up") and "mid" not in layer.keys:
        return spoken.down if role == "down" else spoken.up
    if role in ("down", "up"):  # ComfyUI and LyCORIS look for a core beside these names alone
        return f".lora_{role}.weight"
    if role in _LEFT_OUT or (role in _ONLY_COMFYUI and options.to != "comfyui"):
        return None
    if role in ("bias", "norm_bias", "up_bias") and not spoken.carries_other_kinds:
        return ".lora_B.bias" if role == "up_bias" and options.to == "peft" else None
    if role == "up_bias":
        return None  # becomes the difference of the bias
    if role in _RENAMED:
        return key[len(layer.name) :] if key.startswith(layer.name) and spoken.carries_other_kinds else _RENAMED[role]
    return key[len(layer.name) :]


def _magnitude_shape(layer: Layer, options: ConvertOptions) -> tuple[int, ...]:
    """DoRA's norms as the target stores them: PEFT by row, ``dora_scale`` with its axis told by the position."""
    shape = layer.shape or ()
    ones = (1,) * (len(shape) - 2)
    if not options.spoken.carries_other_kinds:
        return (1, shape[0], *ones) if ones else (shape[0],)
    return (shape[0], 1, *ones) if layer.magnitude_axis == "out" else (1, shape[1], *ones)


# -- new factors -------------------------------------------------------------------------------------


def _calculated(
    adapter: Adapter, name: str, group: Grouped, family: str, options: ConvertOptions
) -> LayerPlan | Missing:
    layers = [source.layer for source in group.sources]
    first = layers[0]
    truncate = _truncation(group, options)
    ranks = [
        len(source.columns) if source.columns is not None else _rank_of(source.layer, truncate)
        for source in group.sources
    ]
    action = action_of(group)
    rank = ranks[0] if action == "share" else sum(ranks)
    if options.uniform_rank is not None:
        rank = options.uniform_rank
    if action == "rename":
        action = "rewrite" if first.kind == "lora" and "mid" not in first.keys else "factor"
    scale = _scale(layers, truncate, options)
    kernel = _kernel(first, group, family)
    plan = LayerPlan(
        name, "lora", action, group.sources, group.rows, rank, truncate, scale, _new_alpha(group, rank, scale, action),
        kernel=kernel,
    )  # fmt: skip
    return replace(plan, tensors=tuple(_tensors(adapter, plan, first, options)))


def _truncation(group: Grouped, options: ConvertOptions) -> int | None:
    """The rank that layers of other kinds are cut to."""
    is_lora = all(source.layer.kind == "lora" and "mid" not in source.layer.keys for source in group.sources)
    wanted = options.rank if options.rank is not None else options.uniform_rank
    return None if is_lora else wanted


def _rank_of(layer: Layer, truncate: int | None) -> int:
    rank = exact_rank(layer)
    if truncate is None or (layer.kind == "lora" and "mid" not in layer.keys):
        return rank
    shape = layer.shape or (0,)
    return min(truncate, rank, shape[0], prod(shape[1:]))


def _scale(layers: list[Layer], truncate: int | None, options: ConvertOptions) -> float:
    if options.scale == "baked" or layers[0].kind not in ("lora", "adalora") or truncate is not None:
        return 1.0
    return layers[0].scale or 1.0


def _new_alpha(group: Grouped, rank: int, scale: float, action: Action) -> float:
    """``scale * rank``, by way of the stored alpha where that is exact in more cases."""
    layer = group.sources[0].layer
    if layer.alpha is not None and layer.rank and layer.alpha / layer.rank == scale:
        return layer.alpha * rank / layer.rank
    return scale * rank


def _kernel(layer: Layer, group: Grouped, family: str) -> tuple[int, ...] | None:
    """The kernel of a convolution whose layer stores ``(out, in * k)``, from the table of the base model."""
    if layer.shape is None or len(layer.shape) != 2 or layer.kind == "lora" or len(group.held.modules) != 1:
        return None
    kernel = kernel_of(group.held.modules[0], family)
    return kernel if kernel and layer.shape[1] % prod(kernel) == 0 else None


def _tensors(adapter: Adapter, plan: LayerPlan, first: Layer, options: ConvertOptions) -> list[Stored]:
    spoken = options.spoken
    shape = first.shape or (0, 0)
    kernel = plan.kernel if plan.kernel is not None else shape[2:]
    width = shape[1] // prod(plan.kernel) if plan.kernel else shape[1]
    rank = plan.rank or 0
    dtype = OUTPUT_DTYPES.get(options.dtype) or _dtype_of(adapter, plan)
    stored = [
        Stored(TensorPlan(plan.name + spoken.down, dtype, (rank, width, *kernel)), role="down"),
        Stored(TensorPlan(plan.name + spoken.up, dtype, (plan.rows, rank, *(1 for _ in kernel))), role="up"),
    ]
    if spoken.states_alpha:
        stored.append(Stored(TensorPlan(f"{plan.name}.alpha", "F32", ()), value=plan.alpha))
    if first.magnitude_axis:
        role = "dora" if "dora" in first.keys else "magnitude"
        info = adapter.source.tensors[first.keys[role]]
        size = _magnitude_shape(replace(first, shape=(plan.rows, *shape[1:])), options)
        stored.append(Stored(TensorPlan(plan.name + spoken.magnitude, info.dtype, size), role="magnitude"))
    return [*stored, *_biases(adapter, plan, options)]


def _dtype_of(adapter: Adapter, plan: LayerPlan) -> str:
    """The most precise type among the layers' floats, so that joining rounds nothing."""
    found = {
        adapter.source.tensors[key].dtype
        for source in plan.sources
        for role, key in source.layer.keys.items()
        if role in _FACTORS or role.startswith(("w1", "w2", "k1", "k2", "t1", "t2", "diff", "mid", "down_t", "up_t"))
    }
    return next((dtype for dtype in _FLOATS if dtype in found), "F32")


def _biases(adapter: Adapter, plan: LayerPlan, options: ConvertOptions) -> list[Stored]:
    """The differences of the biases, where the target has a name for them."""
    keys = [
        source.layer.keys[role]
        for source in plan.sources
        for role in ("up_bias", "bias", "norm_bias")
        if role in source.layer.keys
    ]
    if not keys or not options.spoken.carries_other_kinds:
        return []
    return [Stored(TensorPlan(f"{plan.name}.diff_b", adapter.source.tensors[keys[0]].dtype, (plan.rows,)), role="bias")]
