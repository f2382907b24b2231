"""Stable Diffusion 1, 2, XL and their relatives: the UNets.

Channels and depths are those of the public model configurations: attention at 320, 640 and 1280 channels in
SD 1 and 2 (one transformer block each), at 640 (2 blocks) and 1280 (10 blocks) in SDXL, at 768 and 1536
(4 blocks) in the SDXL refiner.
"""

from __future__ import annotations

from .structure import Structure
from .text_encoders import clip_widths
from .verdict import Rule, Verdict

_NAMES = (
    "down_blocks_N_",
    "up_blocks_N_",
    "mid_block_",
    "input_blocks_N_",
    "output_blocks_N_",
    "middle_block_",
)
# A flat list of layers per level: "down_blocks.0.2.attention.to_q".
_CASCADE_NAMES = tuple(
    f"\n{side}_blocks_N_N_{part}"
    for side in ("down", "up")
    for part in ("attention_", "kv_mapper_", "channelwise_", "mapper")
)
_SELF_ATTENTION = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn1_to_out_0", "attn1_to_out", "proj_in", "proj_out")
_CROSS_ATTENTION = ("attn2_to_k", "attn2_to_v")
_CONTEXTS = {768: "sd15", 1024: "sd21", 2048: "sdxl"}
_REFINER_TEXT = 1280  # of OpenCLIP bigG alone; numbered modules have inputs of that width in every UNet
_CLIP_WIDTHS = {1280: "sdxl", 1024: "sd21", 768: "sd15"}  # widest first: SDXL holds a 768 wide encoder too


def is_unet(structure: Structure) -> bool:
    return structure.has(*_NAMES) or structure.has("\nN\n")  # cloneofsimo numbers the modules


def prior(structure: Structure) -> Verdict | None:
    """Stable Cascade has a prefix of its own in kohya's names, and blocks of its own in all others."""
    if "prior" in structure.towers:
        return Verdict("stable-cascade", "lora_prior_ names")
    found = structure.has(*_CASCADE_NAMES)
    return Verdict("stable-cascade", "blocks with attention, kv_mapper or channelwise") if found else None


def motion(structure: Structure) -> Verdict | None:
    """AnimateDiff: motion modules beside a Stable Diffusion 1 UNet."""
    if not structure.has("motion_modules_N"):
        return None
    return Verdict("sd15", "motion_modules in the UNet", "animatediff", rivals=("sdxl",))


def kolors(structure: Structure) -> Verdict | None:
    """An SDXL UNet that projects ChatGLM's states first."""
    return Verdict("kolors", "a UNet with encoder_hid_proj") if structure.has("encoder_hid_proj") else None


def refiner(structure: Structure) -> Verdict | None:
    widths = structure.outs(*_SELF_ATTENTION, *_CROSS_ATTENTION) | structure.inps(*_SELF_ATTENTION)
    if not is_unet(structure) or not widths or not widths <= {768, 1536}:
        return None
    return Verdict("sdxl-refiner", "UNet attention at 768 and 1536 channels")


def context(structure: Structure) -> Verdict | None:
    """Cross-attention reads the text: its input width names the text encoder, or the refiner's only one."""
    if not is_unet(structure):
        return None
    # One width, or none: IA3 stores output widths, which vary from block to block.
    widths = structure.inps(*_CROSS_ATTENTION)
    if structure.has("\nN\n"):
        widths |= structure.inps("N") & _CONTEXTS.keys()
    if len(widths) != 1:
        return None
    [width] = widths
    family = "sdxl-refiner" if width == _REFINER_TEXT else _CONTEXTS.get(width)
    return Verdict(family, f"UNet cross-attention takes {width} wide text states") if family else None


def encoder(structure: Structure) -> Verdict | None:
    """The text encoders beside the UNet."""
    if not is_unet(structure):
        return None
    widths = clip_widths(structure.encoders)
    for width, family in _CLIP_WIDTHS.items():
        if width in widths:
            return Verdict(family, f"a UNet beside a {width} wide CLIP text encoder")
    return None


def depth(structure: Structure) -> Verdict | None:
    """Only SDXL stacks transformer blocks (self-attention-only sliders have no cross-attention to ask)."""
    if not is_unet(structure):
        return None
    count = structure.depth("transformer_blocks_N")
    if count > 1:
        return Verdict("sdxl", f"{count} transformer blocks in one UNet attention")
    if structure.has("add_embedding_linear", "label_emb_"):
        return Verdict("sdxl", "a UNet with size embeddings")
    return None


def early(structure: Structure) -> Verdict | None:
    """SD 1 and 2: attention at 320 channels, four levels. A 1x1 convolution before it is SD 1's."""
    if not is_unet(structure):
        return None
    widths = structure.outs(*_SELF_ATTENTION) | structure.inps(*_SELF_ATTENTION)
    levels = max(structure.depth("down_blocks_N"), structure.depth("up_blocks_N"))
    if structure.kernels("proj_in", "proj_out") & {(1, 1)}:
        return Verdict("sd15", "a UNet with 1x1 convolutions around attention")
    is_four_levels = levels == 4 or structure.depth("input_blocks_N") > 9 or structure.depth("output_blocks_N") > 9
    if 320 in widths or is_four_levels:
        return Verdict("sd15", "a UNet with attention at 320 channels or four levels", rivals=("sd21",))
    return Verdict("sd15", "UNet names", rivals=("sdxl", "sd21"))


RULES: tuple[Rule, ...] = (prior, motion, kolors, refiner, context, encoder, depth, early)
