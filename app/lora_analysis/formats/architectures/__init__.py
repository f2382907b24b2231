"""Which weight of the base model a layer changes, whatever dialect names it.

A base weight has one *canonical* name: its component in diffusers' pipeline and its path there
(``unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q``), or a language model's own path
(``model.layers.0.self_attn.q_proj``). Where dialects store its halves in different orders, each half is a canonical
module of its own (``….norm_out.linear.shift``). Layers of two dialects that change the same weight meet there, and a
layer of fused projections meets several.

One file per group of models; a new one is a table, and a line in ``_ARCHITECTURES``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from ...adapter import Layer
from ..families.vocabulary import LABELS, UNKNOWN
from . import language
from .architecture import DIALECTS, Architecture, Dialect
from .table import Held

__all__ = [
    "DIALECTS",
    "OWN_NAMES",
    "Dialect",
    "Held",
    "Part",
    "canonical_parts",
    "fused_in",
    "is_known",
    "is_pipeline",
    "kernel_of",
    "spelled_in",
]


OWN_NAMES = "own names"  # of a model that no table describes: its dotted paths stand for themselves


class Part(NamedTuple):
    """Rows ``[start, stop)`` of a layer's delta are the delta of the base weight ``module``.

    Both are 0 where only the base weight knows the layer's shape.
    """

    module: str
    start: int
    stop: int


def canonical_parts(layer: Layer, family: str) -> tuple[Part, ...] | None:
    """The base weights that a layer's delta belongs to, from its first row to its last.

    None where the table does not know the name, or the rows cannot be divided as the fused weight's are.

    >>> layer = Layer("lora_unet_double_blocks_0_img_attn_qkv", "lora", {}, (9216, 3072))
    >>> [(part.module.rpartition(".")[2], part.start, part.stop) for part in canonical_parts(layer, "flux1") or ()]
    [('to_q', 0, 3072), ('to_k', 3072, 6144), ('to_v', 6144, 9216)]
    """
    held = fused_in(_name_of(layer), family)
    if held is None:
        return None
    if layer.shape is None:
        return tuple(Part(module, 0, 0) for module in held.modules)
    return _divided(held, layer.shape[1 if layer.experts else 0] if layer.shape else 0)


def fused_in(name: str, family: str) -> Held | None:
    """The canonical modules that a weight of this name holds, with their shares of its rows; None where unknown."""
    architecture = _architecture(family)
    if architecture is not None:
        return architecture.read(name)
    return language.read(name, family) if family in _LANGUAGE else None


def spelled_in(dialect: Dialect, module: str, family: str) -> Held | None:
    """The weight that holds a canonical module in ``dialect``, by its name there; None where it has none.

    >>> held = spelled_in("kohya", "transformer.single_transformer_blocks.3.proj_mlp", "flux1")
    >>> held.name, held.shares
    ('lora_unet_single_blocks_3_linear1', (1, 1, 1, 4))
    """
    architecture = _architecture(family)
    if architecture is not None:
        return architecture.spell(module, dialect)
    return language.spell(module, dialect) if family in _LANGUAGE else None


def is_pipeline(family: str) -> bool:
    """Whether the family's canonical names start with a component of a pipeline (``unet.``, ``text_encoder.``)."""
    return family in _ARCHITECTURES


def kernel_of(module: str, family: str) -> tuple[int, ...]:
    """The kernel of a canonical module where the table knows it for a convolution; () for every other.

    >>> kernel_of("unet.conv_in", "sdxl"), kernel_of("unet.mid_block.attentions.0.proj_in", "sdxl")
    ((3, 3), ())
    """
    component, _, rest = module.partition(".")
    if component != "unet":
        return ()
    from .unet import kernel

    return kernel(rest, convolves_projections=family == "sd15")


def is_known(family: str) -> bool:
    """Whether there is a table for the family."""
    return family in _ARCHITECTURES or family in _LANGUAGE


def _name_of(layer: Layer) -> str:
    # A modulation is a parameter of the block itself: its layer has the block's name.
    return f"{layer.name}.modulation" if layer.kind == "modulation" else layer.name


def _divided(held: Held, rows: int) -> tuple[Part, ...] | None:
    unit, rest = divmod(rows, sum(held.shares))
    if rest:
        return None
    parts, start = [], 0
    for module, share in zip(held.modules, held.shares, strict=True):
        parts.append(Part(module, start, start + share * unit))
        start += share * unit
    return tuple(parts)


# -- the registry ------------------------------------------------------------------------------------

# Which file builds a family's architecture. Tables are built when first asked for: no command needs them all.
_ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "sd15": "sd1", "sd21": "sd2", "sdxl": "sdxl", "sdxl-refiner": "refiner", "kolors": "kolors",
        "sd3-medium": "sd3_medium", "sd35-medium": "sd3_medium", "sd35-large": "sd3_large",
        "flux1": "flux1", "flux2": "flux2", "chroma": "chroma",
        "wan": "wan", "hunyuan-video": "hunyuan_video", "framepack": "framepack", "hunyuan-image": "hunyuan_image",
        "qwen-image": "qwen_image", "z-image": "z_image", "lumina2": "lumina2", "anima": "anima", "cosmos": "cosmos",
        "krea2": "krea2", "ltx-video": "ltx", "hidream": "hidream", "pixart": "pixart", "sana": "sana",
        "auraflow": "auraflow", "cogvideox": "cogvideox", "mochi": "mochi",
    }
)  # fmt: skip
_IMAGE_ONLY = frozenset(
    {"stable-cascade", "omnigen2", "hunyuan-dit", "ideogram4", "f-lite", "ltx2", "kandinsky5", "minimax-h3",
     "stable-audio", UNKNOWN}
)  # fmt: skip
_LANGUAGE = frozenset(LABELS) - _ARCHITECTURES.keys() - _IMAGE_ONLY | {OWN_NAMES}


@cache
def _architecture(family: str) -> Architecture | None:
    name = _ARCHITECTURES.get(family)
    if name is None:
        return None
    from . import models

    built: Architecture = getattr(models, name)()
    return built
