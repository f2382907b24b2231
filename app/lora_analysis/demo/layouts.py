"""Module names and weight shapes of the base models behind the demo adapters.

Each function returns ``{module name: (out, in, *kernel)}`` at the base model's real width. Only some blocks of each
model are listed, so that a file stays below a few megabytes.
"""

from __future__ import annotations

from collections.abc import Iterable

Layout = dict[str, tuple[int, ...]]


def _attention(prefix: str, width: int, context: int, output: str = "to_out_0") -> Layout:
    """The four projections of one attention; ``context`` is the width that keys and values are made from."""
    return {
        f"{prefix}_to_q": (width, width),
        f"{prefix}_to_k": (width, context),
        f"{prefix}_to_v": (width, context),
        f"{prefix}_{output}": (width, width),
    }


def _unet_block(prefix: str, width: int, context: int, *, feed_forward: bool = True) -> Layout:
    """One transformer block of a Stable Diffusion UNet."""
    layout = {
        **_attention(f"{prefix}_attn1", width, width),
        **_attention(f"{prefix}_attn2", width, context),
    }
    if feed_forward:
        layout[f"{prefix}_ff_net_0_proj"] = (8 * width, width)  # GEGLU: value and gate, 4 * width each
        layout[f"{prefix}_ff_net_2"] = (width, 4 * width)
    return layout


def clip(prefix: str, width: int, layers: Iterable[int], *, mlp: bool = True) -> Layout:
    """A CLIP text encoder, as kohya names it."""
    layout: Layout = {}
    for index in layers:
        layer = f"{prefix}_text_model_encoder_layers_{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            layout[f"{layer}_self_attn_{projection}"] = (width, width)
        if mlp:
            layout[f"{layer}_mlp_fc1"] = (4 * width, width)
            layout[f"{layer}_mlp_fc2"] = (width, 4 * width)
    return layout


def sd15_unet() -> Layout:
    """Every attention of the SD 1.5 UNet: 16 transformer blocks, 128 projections."""
    blocks = [
        ("down_blocks_0", 320, 2),
        ("down_blocks_1", 640, 2),
        ("down_blocks_2", 1280, 2),
        ("mid_block", 1280, 1),
        ("up_blocks_1", 1280, 3),
        ("up_blocks_2", 640, 3),
        ("up_blocks_3", 320, 3),
    ]
    layout: Layout = {}
    for block, width, count in blocks:
        for index in range(count):
            prefix = f"lora_unet_{block}_attentions_{index}_transformer_blocks_0"
            layout |= _unet_block(prefix, width, 768, feed_forward=False)
    return layout


def sd15_convolutions() -> Layout:
    """The 3x3 convolutions of the SD 1.5 encoder's first three blocks."""
    layout: Layout = {}
    width = 320
    for block, out in enumerate((320, 640, 1280)):
        for resnet in range(2):
            prefix = f"lora_unet_down_blocks_{block}_resnets_{resnet}"
            layout[f"{prefix}_conv1"] = (out, width, 3, 3)
            layout[f"{prefix}_conv2"] = (out, out, 3, 3)
            width = out
    return layout


def sdxl_unet(blocks: Iterable[tuple[str, int, int]], *, feed_forward: bool = True) -> Layout:
    """Transformer blocks of the SDXL UNet: (module prefix, width, how many of its blocks)."""
    layout: Layout = {}
    for prefix, width, depth in blocks:
        for index in range(depth):
            layout |= _unet_block(f"{prefix}_transformer_blocks_{index}", width, 2048, feed_forward=feed_forward)
    return layout


def flux_diffusers() -> Layout:
    """Two double and two single blocks of FLUX.1, diffusers names (separate query, key and value)."""
    width = 3072
    layout: Layout = {}
    for index in range(2):
        prefix = f"transformer.transformer_blocks.{index}"
        names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        layout |= {f"{prefix}.attn.{name}": (width, width) for name in names}
        layout[f"{prefix}.norm1.linear"] = (6 * width, width)
    for index in range(2):
        prefix = f"transformer.single_transformer_blocks.{index}"
        layout |= {f"{prefix}.attn.{name}": (width, width) for name in ("to_q", "to_k", "to_v")}
        layout[f"{prefix}.norm.linear"] = (3 * width, width)
    return layout


def flux_kohya() -> Layout:
    """One double and one single block of FLUX.1 under its own names (fused qkv), and part of CLIP-L."""
    width = 3072
    layout: Layout = {}
    for stream in ("img", "txt"):
        prefix = f"lora_unet_double_blocks_0_{stream}"
        layout[f"{prefix}_attn_qkv"] = (3 * width, width)
        layout[f"{prefix}_attn_proj"] = (width, width)
        layout[f"{prefix}_mlp_0"] = (4 * width, width)
        layout[f"{prefix}_mlp_2"] = (width, 4 * width)
        layout[f"{prefix}_mod_lin"] = (6 * width, width)
    layout["lora_unet_single_blocks_0_linear1"] = (7 * width, width)
    layout["lora_unet_single_blocks_0_linear2"] = (width, 5 * width)
    layout["lora_unet_single_blocks_0_modulation_lin"] = (3 * width, width)
    return layout | clip("lora_te1", 768, range(10, 12))


def wan() -> Layout:
    """Three blocks of Wan 2.1 1.3B, ComfyUI names."""
    width, hidden = 1536, 8960
    layout: Layout = {}
    for index in range(3):
        prefix = f"diffusion_model.blocks.{index}"
        for attention in ("self_attn", "cross_attn"):
            layout |= {f"{prefix}.{attention}.{name}": (width, width) for name in "qkvo"}
        layout[f"{prefix}.ffn.0"] = (hidden, width)
        layout[f"{prefix}.ffn.2"] = (width, hidden)
    return layout


def qwen_image() -> Layout:
    """Two blocks of Qwen-Image: attention and image modulation, no prefix."""
    width = 3072
    layout: Layout = {}
    for index in (0, 30):
        prefix = f"transformer_blocks.{index}"
        names = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        layout |= {f"{prefix}.attn.{name}": (width, width) for name in names}
        layout[f"{prefix}.img_mod.1"] = (6 * width, width)
    return layout


def llama(prefix: str, layers: Iterable[int], projections: dict[str, tuple[int, int]]) -> Layout:
    """A decoder with Llama's names; ``projections`` maps ``self_attn.q_proj`` and the like to (out, in)."""
    return {f"{prefix}.layers.{index}.{name}": shape for index in layers for name, shape in projections.items()}
