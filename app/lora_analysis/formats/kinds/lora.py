"""LoRA, linear and convolutional, with or without a Tucker core.

``delta = scale * up @ down``; Hu et al., arXiv 2106.09685. Convolutions put the kernel on ``down``
(``(rank, in, *kernel)`` and ``(out, rank, 1, ...)``, kohya sd-scripts ``networks/lora.py``, PEFT
``_ConvNd``); LyCORIS' Tucker form keeps it in ``lora_mid`` ``(rank, rank, *kernel)``. Any number of
kernel dimensions is treated alike. The variants at the end differ only in how the factors are stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from ...adapter import LowRank, Stacked
from ...errors import ShapeError
from .group import Described, Group, Kind, require

if TYPE_CHECKING:
    from ...adapter import FloatArray

_TAILS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_mid.weight": "mid",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_B.bias": "up_bias",
    ".lora_up.bias": "up_bias",
    ".lora_down": "down",
    ".lora_up": "up",
    ".lora_A": "down",
    ".lora_B": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora.A.weight": "down",  # a module "lora" with two linear layers, as small training scripts write it
    ".lora.B.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    "_lora_down.weight": "down",
    "_lora_up.weight": "up",
    ":down": "down",
    ":up": "up",
    ".weight.lora_a": "down",  # GGUF: PEFT's orientation
    ".weight.lora_b": "up",
}


def _describe(group: Group) -> Described:
    down, up = group.shape("down"), group.shape("up")
    if len(down) < 2 or len(up) < 2:
        raise ShapeError(f"{group.name}: lora_down is {list(down)} and lora_up {list(up)}; both need 2-D")
    if "mid" in group.keys:
        return _describe_tucker(group, down, up)
    experts = _experts_of(group, down[0]) if group.config else 0
    if experts:
        return _describe_parameter_experts(group, experts)
    if down[0] != up[1]:
        return _describe_grouped(group, down, up)
    if prod(up[2:]) != 1:
        raise ShapeError(f"{group.name}: lora_up has kernel {list(up[2:])}; only lora_down may have one")
    kernel = down[2:] or up[2:]
    return Described("lora", (up[0], down[1], *kernel), partial(_load, kernel), rank=down[0], divisor=down[0])


def _load(kernel: tuple[int, ...], group: Group, scale: float) -> LowRank:
    return LowRank(group.matrix("up"), group.matrix("down"), scale, kernel)


# -- Tucker ------------------------------------------------------------------------------------------


def _describe_tucker(group: Group, down: tuple[int, ...], up: tuple[int, ...]) -> Described:
    mid = group.shape("mid")
    require(
        mid[:2] == (up[1], down[0]) and prod(down[2:]) == prod(up[2:]) == 1,
        group,
        f"lora_mid {list(mid)} does not join lora_up {list(up)} and lora_down {list(down)}",
    )
    kernel = mid[2:]
    load = partial(_load_tucker, kernel)
    return Described("lora", (up[0], down[1], *kernel), load, rank=down[0], divisor=down[0])


def _load_tucker(kernel: tuple[int, ...], group: Group, scale: float) -> LowRank:
    return LowRank(group.matrix("up"), group.matrix("down"), scale, kernel, group.array("mid"))


# -- grouped factors: up is block diagonal --------------------------------------------------------------


def _describe_grouped(group: Group, down: tuple[int, ...], up: tuple[int, ...]) -> Described:
    """``down`` stacks several groups, and each block of ``up``'s rows sees only its own.

    Two producers: PEFT 0.1's MergedLinear (``enable_lora``; up is a grouped 1-D convolution, rows of a
    part that was off are zero) and convolutions with groups.
    """
    groups, rest = divmod(down[0], up[1]) if up[1] else (0, 1)
    if rest or groups < 2 or up[0] % groups or prod(up[2:]) != 1:
        raise ShapeError(
            f"{group.name}: lora_down {list(down)} has rank {down[0]}, lora_up {list(up)} has rank {up[1]}"
        )
    parts = _enabled_parts(group, groups)
    rank = up[1] if _is_merged_linear(group) else down[0]  # a convolution's groups share one rank
    kernel = down[2:]
    shape = (up[0] // groups * len(parts), down[1], *kernel)
    return Described("lora", shape, partial(_load_grouped, parts, kernel), rank=rank, divisor=rank)


def _is_merged_linear(group: Group) -> bool:
    return len(group.shape("up")) == 3 and len(group.shape("down")) == 2


def _enabled_parts(group: Group, groups: int) -> tuple[bool, ...]:
    enabled = group.config.get("enable_lora")
    if not isinstance(enabled, Sequence) or isinstance(enabled, str):
        message = "the factors are of a merged linear; adapter_config.json must say enable_lora"
        require(not _is_merged_linear(group), group, message)
        return (True,) * groups  # a convolution with groups
    parts = tuple(bool(part) for part in enabled)
    require(sum(parts) == groups, group, f"enable_lora {list(parts)} does not name the {groups} groups of the factors")
    return parts


def _load_grouped(parts: tuple[bool, ...], kernel: tuple[int, ...], group: Group, scale: float) -> LowRank:
    import numpy as np

    up, down = group.matrix("up"), group.matrix("down")
    groups, rank = sum(parts), up.shape[1]
    rows = up.shape[0] // groups
    wide: FloatArray = np.zeros((rows * len(parts), rank * groups), up.dtype)
    on = [part for part, enabled in enumerate(parts) if enabled]
    for block, part in enumerate(on):
        wide[part * rows : (part + 1) * rows, block * rank : (block + 1) * rank] = up[block * rows : (block + 1) * rows]
    return LowRank(wide, down, scale, kernel)


# -- experts in one parameter ------------------------------------------------------------------------


def _experts_of(group: Group, stacked_rank: int) -> int:
    """Number of experts where PEFT's ``target_parameters`` put LoRA on one 3-D parameter, else 0.

    A stacks the experts slowest, B fastest (PEFT 0.21 ``ParamWrapper.get_delta_weight``); nothing in the
    tensors says so, only the config does.
    """
    targets = group.config.get("target_parameters")
    rank = group.config.get("r")
    if not isinstance(targets, list) or not isinstance(rank, int) or rank < 1 or stacked_rank % rank:
        return 0
    modules = {str(target).rpartition(".")[0] for target in targets}
    module = group.name.removesuffix(".base_layer")  # a second parameter of a module wraps the first
    experts = stacked_rank // rank
    return experts if experts > 1 and any(module == m or module.endswith("." + m) for m in modules) else 0


def _describe_parameter_experts(group: Group, experts: int) -> Described:
    (total, width), (out, inner) = group.matrix_shape("down"), group.matrix_shape("up")
    require(total == inner, group, f"lora_A has {total} rows, lora_B {inner} columns")
    rank = total // experts
    load = partial(_load_parameter_experts, experts)
    return Described("lora", (experts, out, width), load, rank=rank, divisor=rank, experts=experts)


def _load_parameter_experts(experts: int, group: Group, scale: float) -> Stacked:
    down, up = group.matrix("down"), group.matrix("up")
    downs = down.reshape(experts, down.shape[0] // experts, down.shape[1])
    ups = up.reshape(up.shape[0], up.shape[1] // experts, experts)
    return Stacked(tuple(LowRank(ups[:, :, e], downs[e], scale) for e in range(experts)))


LORA = Kind("lora", _TAILS, frozenset({"down", "up", "mid"}), _describe)
