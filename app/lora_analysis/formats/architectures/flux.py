"""FLUX.1, FLUX.2 and Chroma: Black Forest Labs' names (also ComfyUI's and kohya's) and diffusers' names.

Source: ``flux/model.py`` of black-forest-labs/flux and flux2, and the functions ``convert_flux_…``,
``convert_chroma_…`` and ``convert_flux2_transformer_checkpoint_to_diffusers`` of diffusers (0.36).
"""

from __future__ import annotations

from collections.abc import Iterator

from .table import Names, Table, fused, renamed, same, swapped

_QKV = ("to_q", "to_k", "to_v")
_ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
_DOUBLE, _SINGLE = "double_blocks.{}", "single_blocks.{}"
_JOINT, _ONE = "transformer_blocks.{}", "single_transformer_blocks.{}"


def _double() -> Iterator[Names]:
    """What every model of the family has in its double blocks."""
    image = fused(f"{_DOUBLE}.img_attn.qkv", f"{_JOINT}.attn", _QKV)
    text = fused(f"{_DOUBLE}.txt_attn.qkv", f"{_JOINT}.attn", _ADDED)
    # XLabs names the processors; 1 is the image stream, 2 the text stream.
    yield image._replace(aliases=(f"{_DOUBLE}.processor.qkv_lora1",))
    yield text._replace(aliases=(f"{_DOUBLE}.processor.qkv_lora2",))
    yield Names((f"{_JOINT}.attn.to_out.0",), f"{_DOUBLE}.img_attn.proj", aliases=(f"{_DOUBLE}.processor.proj_lora1",))
    yield Names(
        (f"{_JOINT}.attn.to_add_out",), f"{_DOUBLE}.txt_attn.proj", aliases=(f"{_DOUBLE}.processor.proj_lora2",)
    )
    yield from renamed(
        {
            f"{_DOUBLE}.img_attn.norm.query_norm": f"{_JOINT}.attn.norm_q",
            f"{_DOUBLE}.img_attn.norm.key_norm": f"{_JOINT}.attn.norm_k",
            f"{_DOUBLE}.txt_attn.norm.query_norm": f"{_JOINT}.attn.norm_added_q",
            f"{_DOUBLE}.txt_attn.norm.key_norm": f"{_JOINT}.attn.norm_added_k",
            f"{_SINGLE}.norm.query_norm": f"{_ONE}.attn.norm_q",
            f"{_SINGLE}.norm.key_norm": f"{_ONE}.attn.norm_k",
            "img_in": "x_embedder",
            "txt_in": "context_embedder",
            "final_layer.linear": "proj_out",
        }
    )


def _first_generation() -> Iterator[Names]:
    """Blocks of FLUX.1, which Chroma shares."""
    yield from _double()
    yield from renamed(
        {
            f"{_DOUBLE}.img_mlp.0": f"{_JOINT}.ff.net.0.proj",
            f"{_DOUBLE}.img_mlp.2": f"{_JOINT}.ff.net.2",
            f"{_DOUBLE}.txt_mlp.0": f"{_JOINT}.ff_context.net.0.proj",
            f"{_DOUBLE}.txt_mlp.2": f"{_JOINT}.ff_context.net.2",
        }
    )
    # The MLP of a single block is four times as wide as its attention.
    linear1 = tuple(f"{_ONE}.{part}" for part in (*(f"attn.{part}" for part in _QKV), "proj_mlp"))
    yield Names(linear1, f"{_SINGLE}.linear1", shares=(1, 1, 1, 4))
    attention = fused(f"{_SINGLE}.linear1", f"{_ONE}.attn", _QKV)
    yield attention._replace(native=None, aliases=(f"{_SINGLE}.processor.qkv_lora",))
    yield Names((f"{_ONE}.proj_out",), f"{_SINGLE}.linear2", aliases=(f"{_SINGLE}.processor.proj_lora",))


def _flux1() -> Iterator[Names]:
    yield from _first_generation()
    yield from renamed(
        {
            f"{_DOUBLE}.img_mod.lin": f"{_JOINT}.norm1.linear",
            f"{_DOUBLE}.txt_mod.lin": f"{_JOINT}.norm1_context.linear",
            f"{_SINGLE}.modulation.lin": f"{_ONE}.norm.linear",
            **{
                f"{native}.{layer}": f"time_text_embed.{embedder}.linear_{number}"
                for native, embedder in (
                    ("time_in", "timestep_embedder"),
                    ("vector_in", "text_embedder"),
                    ("guidance_in", "guidance_embedder"),
                )
                for number, layer in ((1, "in_layer"), (2, "out_layer"))
            },
        }
    )
    yield swapped("final_layer.adaLN_modulation.1", "norm_out.linear")


def _chroma() -> Iterator[Names]:
    yield from _first_generation()
    guidance = "distilled_guidance_layer"
    yield from same(f"{guidance}.in_proj", f"{guidance}.out_proj", f"{guidance}.norms.{{}}")
    yield from renamed(
        {
            f"{guidance}.layers.{{}}.in_layer": f"{guidance}.layers.{{}}.linear_1",
            f"{guidance}.layers.{{}}.out_layer": f"{guidance}.layers.{{}}.linear_2",
        }
    )


def _flux2() -> Iterator[Names]:
    yield from _double()
    yield from renamed(
        {
            f"{_DOUBLE}.img_mlp.0": f"{_JOINT}.ff.linear_in",
            f"{_DOUBLE}.img_mlp.2": f"{_JOINT}.ff.linear_out",
            f"{_DOUBLE}.txt_mlp.0": f"{_JOINT}.ff_context.linear_in",
            f"{_DOUBLE}.txt_mlp.2": f"{_JOINT}.ff_context.linear_out",
            f"{_SINGLE}.linear1": f"{_ONE}.attn.to_qkv_mlp_proj",
            f"{_SINGLE}.linear2": f"{_ONE}.attn.to_out",
            **{
                f"{name}.lin": f"{name}.linear"
                for name in (
                    "double_stream_modulation_img",
                    "double_stream_modulation_txt",
                    "single_stream_modulation",
                )
            },
            **{
                f"{native}.{layer}": f"time_guidance_embed.{embedder}.linear_{number}"
                for native, embedder in (("time_in", "timestep_embedder"), ("guidance_in", "guidance_embedder"))
                for number, layer in ((1, "in_layer"), (2, "out_layer"))
            },
        }
    )
    yield swapped("final_layer.adaLN_modulation.1", "norm_out.linear")


FLUX1 = Table(_flux1())
CHROMA = Table(_chroma())
FLUX2 = Table(_flux2())
