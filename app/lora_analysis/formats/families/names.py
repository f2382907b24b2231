"""Module names without their spelling: one canonical form for kohya, diffusers, PEFT, ComfyUI, MLX and GGUF.

``lora_unet_double_blocks_7_img_attn_qkv``, ``diffusion_model.double_blocks.7.img_attn.qkv`` and
``double_blocks.7.img_attn.qkv`` all become ``double_blocks_N_img_attn_qkv``, index 7: a rule about a model is
then written once.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

# Which part of a pipeline a prefix names. "bare" has no prefix at all.
Tower = Literal["bare", "kohya", "denoiser", "prior", "te", "te1", "te2", "te3", "text_encoder", "text_encoder_2"]

_TOWERS: dict[str, Tower] = {
    "lora_prior_unet_": "prior",
    "lora_prior_te_": "prior",
    "lora_unet__": "kohya",  # VideoX-Fun
    "lora_unet_": "kohya",
    "oft_unet_": "kohya",
    "lora_transformer_": "denoiser",
    "lora_te1_": "te1",
    "lora_te2_": "te2",
    "lora_te3_": "te3",
    "lora_te_": "te",
    "lora_te.": "te",
    "oft_te1_": "te1",
    "oft_te2_": "te2",
    "oft_te_": "te",
    "lycoris_te1_": "te1",
    "lycoris_te2_": "te2",
    "lycoris_te_": "te",
    "lycoris_": "denoiser",
    "text_encoders.clip_l.": "te1",
    "text_encoders.clip_g.": "te2",
    "text_encoders.t5xxl.": "te3",
    "text_encoders.": "te",
    "text_encoder_3.": "te3",
    "text_encoder_2.": "text_encoder_2",
    "text_encoder.": "text_encoder",
    "text_encoder:": "te",  # cloneofsimo
    "model.diffusion_model.": "denoiser",
    "diffusion_model.": "denoiser",
    "transformer_2.": "denoiser",
    "transformer.": "denoiser",
    "unet.": "denoiser",
    "unet:": "denoiser",  # cloneofsimo
    "list:": "denoiser",  # its first files, where text encoders look the same and follow in a file of their own
}
_PREFIX = re.compile(
    r"(?:base_model[._]model[._])*"
    # Longest first: "lora_te1_" before "lora_te_".
    rf"(?P<tower>{'|'.join(re.escape(prefix) for prefix in sorted(_TOWERS, key=len, reverse=True))})?"
    # "transformer" with a dot only: "transformer_blocks" is a name. "unet_" repeats in a home-made conversion.
    r"(?:model[._]|transformer\.|unet_)*"
)
# "text_encoder_2." and "transformer_2." are prefixes: their number is no index.
_NO_PREFIX = r"(?<!text_encoder_\d)(?<!transformer_\d)"
_INDEX = re.compile(rf"[._]\d+(?=[._]){_NO_PREFIX}")
_FIRST_INDEX = re.compile(rf"[._](\d{{1,6}})(?=[._]){_NO_PREFIX}")
_BLOCK_INDEX = re.compile(r"transformer_blocks[._](\d{1,6})[._]")
_LONGEST_NAME = 512  # characters; no module name is longer, and a hostile one is not worth remembering


class Outline(NamedTuple):
    """A module's name, taken apart."""

    tower: Tower
    pattern: str  # without prefix, "_" for ".", inner numbers as N: "layers_N_self_attn_q_proj"
    block: int  # its index: the number after transformer_blocks, else the first one; -1 where there is none


@lru_cache(maxsize=4096)  # one entry per kind of module: the indices are gone
def _canonical(name: str) -> tuple[Tower, str]:
    prefix = _PREFIX.match(name)
    assert prefix is not None  # every part of it is optional
    spelled = prefix["tower"]
    flat = name[prefix.end() :].replace(".", "_")
    if "_processor_" in flat:  # old diffusers and XLabs: attn1.processor.to_q
        flat = flat.replace("_processor_", "_")
    return _TOWERS[spelled] if spelled else "bare", "N" if flat.isdecimal() else flat


@lru_cache(maxsize=1 << 16)  # a folder of adapters repeats the same few thousand names
def _outline(name: str) -> Outline:
    name = name.removesuffix(".weight")
    # A last number is no index but a part ("img_mlp.0" and "img_mlp.2"), unless it is all there is ("unet:12").
    tower, pattern = _canonical(_INDEX.sub("_N", name))
    inner = _BLOCK_INDEX.search(name) if "transformer_blocks" in name else None
    inner = inner or _FIRST_INDEX.search(name)
    return Outline(tower, pattern, int(inner[1]) if inner else -1)


def outline(name: str) -> Outline:
    """The canonical form of a module's or a tensor's name."""
    return _outline(name[:_LONGEST_NAME])
