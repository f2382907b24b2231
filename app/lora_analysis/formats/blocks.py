"""Which block of its network a module belongs to, by its name: ``down_blocks.1``, ``layers.17``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

# The words that base models number their blocks with, in both spellings, "down_blocks_1" and "down_blocks.1". A name
# may hold several ("down_blocks_1_attentions_0_transformer_blocks_0"): the first one is the outermost.
_NUMBERED = r"""
    (?: (?: down | up | input | output | double | single | joint | transformer | single_transformer
          | joint_transformer | double_stream | single_stream | layerwise | refiner )_ )? blocks
  | middle_block
  | (?: encoder | decoder )[._](?: block | layers? )
  | layers?
  | (?: noise | context )_refiner
  | h
"""
_BLOCK = re.compile(
    rf"(?<![^._:/])(?: (?P<name>{_NUMBERED})[._](?P<number>\d{{1,6}}) | mid_block )(?![^._:/])", re.VERBOSE
)

# What a network runs through first. Files are in the order of names, where "single" comes before "transformer".
_STAGES: Mapping[str, int] = MappingProxyType(
    {"noise_refiner": -1, "context_refiner": -1}
    | {"middle_block": 1, "mid_block": 1, "output_blocks": 2, "up_blocks": 2}
    | {"single_blocks": 1, "single_transformer_blocks": 1, "single_stream_blocks": 1}
    | {"decoder_block": 1, "decoder_layer": 1, "decoder_layers": 1}
)
_OUTSIDE = 9  # what stands outside of blocks comes last


def block_of(module: str) -> str | None:
    """The outermost block, spelled alike for every dialect; None for what stands outside of blocks.

    >>> block_of("lora_unet_down_blocks_1_attentions_0_proj_in"), block_of("unet.down_blocks.1.attentions.0.proj_in")
    ('down_blocks.1', 'down_blocks.1')
    """
    found = _BLOCK.search(module)
    if found is None:
        return None
    if found["name"] is None:
        return "mid_block"
    return f"{found['name'].replace('.', '_')}.{int(found['number'])}"


def stage_in_network(block: str | None) -> int:
    """Where the kind of block comes in the network, from small to large: input before output, double before single."""
    return _STAGES.get(block.partition(".")[0], 0) if block else _OUTSIDE


def number_of(block: str | None) -> int:
    """The number of a block among those of its kind; 0 where it has none."""
    number = block.partition(".")[2] if block else ""
    return int(number) if number.isdecimal() else 0
