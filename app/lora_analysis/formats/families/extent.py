"""How many blocks a base model has: layers of blocks beyond them belong to another model, or to a slip of a converter.

Counts are those of the published models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from ...adapter import BaseModel, Finding
from ..blocks import block_of
from ..components import component_of
from .vocabulary import LABELS


def _two(double: int, single: int) -> Mapping[str, int]:
    """Two kinds of block, in their original names and in diffusers'."""
    names = ("double_blocks", "transformer_blocks"), ("single_blocks", "single_transformer_blocks")
    return {name: count for both, count in zip(names, (double, single), strict=True) for name in both}


def _joint(count: int) -> Mapping[str, int]:
    return {"joint_blocks": count, "transformer_blocks": count}


# By family, or by family and variant where their sizes differ; a variant that is not listed has its family's counts.
_BLOCKS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "flux1": _two(19, 38),
        "chroma": _two(19, 38),
        "flux2/dev": _two(8, 48),
        "flux2/klein-9b": _two(8, 24),
        "flux2/klein-4b": _two(5, 20),
        "hunyuan-video": _two(20, 40),
        "hunyuan-video/1.5": {},
        "hunyuan-image": _two(20, 40),
        "sd3-medium": _joint(24),
        "sd35-medium": _joint(24),
        "sd35-large": _joint(38),
        "wan/14B": {"blocks": 40},
        "wan/1.3B": {"blocks": 30},
        "wan/5B": {"blocks": 30},
        "qwen-image": {"transformer_blocks": 60},
        "z-image": {"layers": 30, "noise_refiner": 2, "context_refiner": 2},
        "lumina2": {"layers": 26},
        "anima": {"blocks": 28},
        "krea2": {"blocks": 28},
        "hidream/i1": {"double_stream_blocks": 16, "single_stream_blocks": 32},
        "pixart": {"transformer_blocks": 28},
        "cogvideox/5B": {"transformer_blocks": 42},
        "mochi": {"transformer_blocks": 48},
    }
)


def blocks_outside(modules: Iterable[str], base: BaseModel) -> Finding | None:
    """A warning where modules are of blocks that the base model does not have. Text encoders are not looked at."""
    counts = _BLOCKS.get(f"{base.family}/{base.variant}", _BLOCKS.get(base.family))
    if not counts:
        return None
    outside = []
    for module in modules:
        name, _, number = (block_of(module) or "").rpartition(".")
        is_outside = number.isdecimal() and int(number) >= counts.get(name, int(number) + 1)
        if is_outside and not component_of(module).startswith("text_encoder"):
            outside.append((module, name))
    if not outside:
        return None
    module, name = outside[0]
    label = LABELS.get(base.family, base.family)
    message = (
        f"{len(outside)} of the modules are of blocks that {label} does not have, e.g. {module}: it has "
        f"{counts[name]} {name}"
    )
    return Finding("warning", "block-outside-base", message, module)
