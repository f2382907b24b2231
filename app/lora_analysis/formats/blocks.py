"""Which block of its network a module belongs to, by its name: ``down_blocks.1``, ``layers.17``."""

from __future__ import annotations

import re

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
