"""The UNet of Stable Diffusion 1, 2, XL and its refiner: ldm / sgm names and diffusers names.

Source: ``openaimodel.UNetModel`` of CompVis/latent-diffusion and Stability-AI/generative-models, and diffusers'
``UNet2DConditionModel``; the correspondence is that of diffusers' ``convert_ldm_unet_checkpoint`` (0.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .table import Names, Table, renamed, same

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_BLOCK = "transformer_blocks.{}"
_ATTENTION = (
    "norm",
    "proj_in",
    "proj_out",
    *(f"{_BLOCK}.attn1.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")),
    *(f"{_BLOCK}.attn2.{part}" for part in ("to_q", "to_k", "to_v", "to_out.0")),
    f"{_BLOCK}.ff.net.0.proj",
    f"{_BLOCK}.ff.net.2",
    *(f"{_BLOCK}.norm{number}" for number in (1, 2, 3)),
)  # fmt: skip
# diffusers before 0.20 kept the factors at the attention processors: "attn1.processor.to_q_lora", "to_out_lora".
_PROCESSOR = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
_ENDS = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


def _resnet(native: str, diffusers: str) -> Iterator[Names]:
    yield from renamed({f"{native}.{a}": f"{diffusers}.{b}" for a, b in _RESNET.items()})


def _attention(native: str, diffusers: str) -> Iterator[Names]:
    for part in _ATTENTION:
        folder, _, last = part.partition(".attn")
        attention, _, projection = last.partition(".")
        old = _PROCESSOR.get(projection)
        aliases = (f"{diffusers}.{folder}.attn{attention}.processor.{old}",) if old else ()
        yield Names((f"{diffusers}.{part}",), f"{native}.{part}", aliases=aliases)


def _names(has_attention: tuple[bool, ...]) -> Iterator[Names]:
    """``has_attention``: for every level of the encoder, from the widest picture to the smallest."""
    yield from renamed(_ENDS)
    last = len(has_attention) - 1
    number = 1
    for level, attends in enumerate(has_attention):
        for index in range(2):
            yield from _resnet(f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{index}")
            if attends:
                yield from _attention(f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{index}")
            number += 1
        if level < last:
            yield from renamed({f"input_blocks.{number}.0.op": f"down_blocks.{level}.downsamplers.0.conv"})
            number += 1
    yield from _resnet("middle_block.0", "mid_block.resnets.0")
    yield from _attention("middle_block.1", "mid_block.attentions.0")
    yield from _resnet("middle_block.2", "mid_block.resnets.1")
    for level, attends in enumerate(reversed(has_attention)):
        for index in range(3):
            number = 3 * level + index
            yield from _resnet(f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{index}")
            if attends:
                yield from _attention(f"output_blocks.{number}.1", f"up_blocks.{level}.attentions.{index}")
        if level < last:
            place = 2 if attends else 1
            yield from renamed({f"output_blocks.{number}.{place}.conv": f"up_blocks.{level}.upsamplers.0.conv"})


SD = Table(_names((True, True, True, False)))
SDXL = Table(_names((False, True, True)))
REFINER = Table(_names((False, True, True, False)))
KOLORS = Table((*_names((False, True, True)), *same("encoder_hid_proj")))

_WIDE = re.compile(r"conv_in|conv_out|.*\.resnets\.\d+\.conv[12]|.*samplers\.0\.conv")
_POINT = re.compile(r".*\.conv_shortcut")
_PROJECTION = re.compile(r".*\.attentions\.\d+\.proj_(?:in|out)")


def kernel(module: str, *, convolves_projections: bool) -> tuple[int, ...]:
    """The kernel of a module of the UNet, () where it is linear. SD 1 projects by 1x1 convolutions."""
    if _WIDE.fullmatch(module):
        return (3, 3)
    is_point = _POINT.fullmatch(module) or (convolves_projections and _PROJECTION.fullmatch(module))
    return (1, 1) if is_point else ()
