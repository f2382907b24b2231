"""Weights for parts of an adapter: factors on its weight for layers whose names match, or for numbered blocks.

The lists of 12, 17, 20 and 26 numbers are those of the "lora block weight" tools for Stable Diffusion: the first number
is the text encoders', the others go through the UNet from input to output. The length says which model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any

from ..adapter import Layer
from ..errors import OptionError

_BASE = "BASE"
_MID = "MID"


def _blocks(inputs: Iterable[int], outputs: Iterable[int]) -> tuple[str, ...]:
    return (_BASE, *(f"IN{i:02}" for i in inputs), _MID, *(f"OUT{i:02}" for i in outputs))


# Observed in sd-scripts' svd_merge_lora.py (48d368fa): which block each number of a list is for.
BLOCK_LISTS: Mapping[int, tuple[str, ...]] = {
    12: _blocks((4, 5, 7, 8), range(6)),  # SDXL, attention only
    17: _blocks((1, 2, 4, 5, 7, 8), range(3, 12)),  # SD 1 and 2, attention only
    20: _blocks(range(9), range(9)),  # SDXL with convolutions
    26: _blocks(range(12), range(12)),  # SD 1 and 2 with convolutions
}
# The UNet's own numbering (input_blocks.4) and diffusers' (down_blocks.1.attentions.0): every level has two blocks and
# a downsampler going in, three blocks coming out, the upsampler being part of the third.
_PLAIN = re.compile(r"(?<![a-z])(input|output)_blocks[._](\d{1,2})[._]")
_LEVEL = re.compile(
    r"(?<![a-z])(down|up)_blocks[._](\d)[._](?:(attentions|resnets)[._](\d)|(downsamplers|upsamplers)[._]0)(?![0-9])"
)
_MIDDLE = re.compile(r"(?<![a-z])(?:mid_block|middle_block)[._]")
_FIRST = re.compile(r"(?<![a-z])conv_in$")


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """Factors on one input's weight. The first pattern that matches a layer's name decides, then its block."""

    patterns: tuple[tuple[str, float], ...] = ()  # glob of layer names, factor
    blocks: tuple[float, ...] = ()  # 12, 17, 20 or 26 numbers

    def factor(self, layer: Layer) -> float:
        """What the weight is multiplied with in this layer; 1 where nothing is said about it."""
        for pattern, factor in self.patterns:
            if fnmatchcase(layer.name, pattern):
                return factor
        block = block_label(layer) if self.blocks else None
        names = BLOCK_LISTS.get(len(self.blocks), ())
        return self.blocks[names.index(block)] if block is not None and block in names else 1.0

    def unused(self, layers: Iterable[Layer]) -> list[str]:
        """What matches no layer: patterns, and a list none of whose blocks is there."""
        layers = list(layers)
        idle = [p for p, _ in self.patterns if not any(fnmatchcase(layer.name, p) for layer in layers)]
        names = BLOCK_LISTS.get(len(self.blocks), ())
        if self.blocks and not any(block_label(layer) in names for layer in layers):
            idle.append(f"the list of {len(self.blocks)} block weights")
        return idle

    def unlisted(self, layers: Iterable[Layer]) -> int:
        """How many layers stand in no block of the list and match no pattern, and so keep their weight."""
        if not self.blocks:
            return 0
        names = BLOCK_LISTS[len(self.blocks)]
        return sum(
            block_label(layer) not in names and not any(fnmatchcase(layer.name, p) for p, _ in self.patterns)
            for layer in layers
        )

    def to_json(self) -> Any:
        """What ``layer_weights_of`` reads."""
        return {**dict(self.patterns), **({"blocks": list(self.blocks)} if self.blocks else {})}


def layer_weights_of(asked: Any) -> LayerWeights | None:
    """From a mapping of globs to factors, a list of 12, 17, 20 or 26 numbers (also as text), or a mapping that holds
    such a list as ``blocks``. None is None.

    Raises: OptionError for anything else, and for what is no finite number.
    """
    if asked is None or isinstance(asked, LayerWeights):
        return asked
    if isinstance(asked, str):
        return layer_weights_of(_parsed(asked))
    if isinstance(asked, Mapping):
        patterns = tuple((str(key), _number(key, value)) for key, value in asked.items() if key != "blocks")
        return LayerWeights(patterns, _list(asked["blocks"]) if "blocks" in asked else ())
    if isinstance(asked, Sequence):
        return LayerWeights((), _list(asked))
    raise OptionError(f"layer weights are {asked!r}; they must be a mapping of patterns or a list of block weights")


def _parsed(text: str) -> Any:
    """``1,0,0.5,...`` as a list, ``*attn*=0.5,*=1`` as a mapping."""
    items = [item.strip() for item in text.split(",") if item.strip()]
    if not any("=" in item for item in items):
        return items
    pairs = [item.rpartition("=")[::2] for item in items]
    if any(not pattern for pattern, _ in pairs):
        raise OptionError(f"layer weights {text!r} mix patterns and numbers; write PATTERN=FACTOR,... or a list")
    return dict(pairs)


def _list(values: Any) -> tuple[float, ...]:
    if isinstance(values, str):
        values = values.split(",")
    if not isinstance(values, Sequence) or len(values) not in BLOCK_LISTS:
        found = len(values) if isinstance(values, Sequence) else values
        raise OptionError(f"a list of block weights has 12, 17, 20 or 26 numbers; this one has {found}")
    return tuple(_number(f"block weight {i}", value) for i, value in enumerate(values, start=1))


def _number(what: object, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not isfinite(number):
        raise OptionError(f"{what}: {value!r} is no finite number")
    return number


def block_label(layer: Layer) -> str | None:
    """``BASE`` for text encoders, ``IN04``, ``MID``, ``OUT05`` for the UNet; None for what has no such block.

    >>> from ..adapter import Layer
    >>> block_label(Layer("lora_unet_down_blocks_1_attentions_0_proj_in", "lora", {}, None))
    'IN04'
    """
    name = layer.name
    if layer.component.startswith("text_encoder") or "text_model_encoder_" in name:
        return _BASE
    plain = _PLAIN.search(name)
    if plain:
        return f"{'IN' if plain[1] == 'input' else 'OUT'}{int(plain[2]):02}"
    if _MIDDLE.search(name):
        return _MID
    level = _LEVEL.search(name)
    if level is None:
        return "IN00" if _FIRST.search(name) else None
    side, number, position = level[1], int(level[2]), level[4]
    if position is None:
        return f"IN{3 * number + 3:02}" if side == "down" else f"OUT{3 * number + 2:02}"
    return f"IN{3 * number + 1 + int(position):02}" if side == "down" else f"OUT{3 * number + int(position):02}"
