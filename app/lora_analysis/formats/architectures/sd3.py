"""Stable Diffusion 3 and 3.5: ``joint_blocks`` (original, kohya, ComfyUI) and diffusers' ``transformer_blocks``.

Source: ``mmdit.py`` of Stability-AI/sd3.5 and diffusers' ``convert_sd3_transformer_checkpoint_to_diffusers`` (0.36).
"""

from __future__ import annotations

from collections.abc import Iterator

from .table import Names, Table, fused, renamed, swapped

_NATIVE, _BLOCK = "joint_blocks.{}", "transformer_blocks.{}"


def _names(blocks: int) -> Iterator[Names]:
    image, text = f"{_NATIVE}.x_block", f"{_NATIVE}.context_block"
    yield fused(f"{image}.attn.qkv", f"{_BLOCK}.attn", ("to_q", "to_k", "to_v"))
    yield fused(f"{text}.attn.qkv", f"{_BLOCK}.attn", ("add_q_proj", "add_k_proj", "add_v_proj"))
    yield fused(f"{image}.attn2.qkv", f"{_BLOCK}.attn2", ("to_q", "to_k", "to_v"))
    yield from renamed(
        {
            f"{image}.attn.proj": f"{_BLOCK}.attn.to_out.0",
            f"{text}.attn.proj": f"{_BLOCK}.attn.to_add_out",
            f"{image}.attn2.proj": f"{_BLOCK}.attn2.to_out.0",
            f"{image}.mlp.fc1": f"{_BLOCK}.ff.net.0.proj",
            f"{image}.mlp.fc2": f"{_BLOCK}.ff.net.2",
            f"{text}.mlp.fc1": f"{_BLOCK}.ff_context.net.0.proj",
            f"{text}.mlp.fc2": f"{_BLOCK}.ff_context.net.2",
            f"{image}.adaLN_modulation.1": f"{_BLOCK}.norm1.linear",
            f"{text}.adaLN_modulation.1": f"{_BLOCK}.norm1_context.linear",
            f"{image}.attn.ln_q": f"{_BLOCK}.attn.norm_q",
            f"{image}.attn.ln_k": f"{_BLOCK}.attn.norm_k",
            f"{text}.attn.ln_q": f"{_BLOCK}.attn.norm_added_q",
            f"{text}.attn.ln_k": f"{_BLOCK}.attn.norm_added_k",
            f"{image}.attn2.ln_q": f"{_BLOCK}.attn2.norm_q",
            f"{image}.attn2.ln_k": f"{_BLOCK}.attn2.norm_k",
            "x_embedder.proj": "pos_embed.proj",
            "context_embedder": "context_embedder",
            "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
            "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
            "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
            "final_layer.linear": "proj_out",
        }
    )
    yield swapped("final_layer.adaLN_modulation.1", "norm_out.linear")
    # The last block's text stream ends in a shift and a scale, which diffusers stores the other way round.
    last = blocks - 1
    yield swapped(
        f"joint_blocks.{last}.context_block.adaLN_modulation.1", f"transformer_blocks.{last}.norm1_context.linear"
    )


MEDIUM = Table(_names(24))  # SD 3 Medium and SD 3.5 Medium
LARGE = Table(_names(38))
