"""Video models: Wan, HunyuanVideo (and HunyuanImage, FramePack), LTX-Video, CogVideoX, Mochi.

Sources: the models' own repositories and diffusers' conversion scripts and single-file loaders (0.36).
"""

from __future__ import annotations

from collections.abc import Iterator

from .table import Names, Table, fused, renamed, same, swapped

_QKV = ("to_q", "to_k", "to_v")


# -- Wan ---------------------------------------------------------------------------------------------


def _wan() -> Iterator[Names]:
    block = "blocks.{}"
    for native, diffusers in (("self_attn", "attn1"), ("cross_attn", "attn2")):
        yield from renamed(
            {
                f"{block}.{native}.{a}": f"{block}.{diffusers}.{b}"
                for a, b in (
                    ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"),
                    ("norm_q", "norm_q"), ("norm_k", "norm_k"),
                    ("k_img", "add_k_proj"), ("v_img", "add_v_proj"), ("norm_k_img", "norm_added_k"),
                )
            }
        )  # fmt: skip
    yield from renamed(
        {
            f"{block}.ffn.0": f"{block}.ffn.net.0.proj",
            f"{block}.ffn.2": f"{block}.ffn.net.2",
            f"{block}.norm3": f"{block}.norm2",
            f"{block}.modulation": f"{block}.scale_shift_table",
            "head.head": "proj_out",
            "head.modulation": "scale_shift_table",
            "patch_embedding": "patch_embedding",
            "text_embedding.0": "condition_embedder.text_embedder.linear_1",
            "text_embedding.2": "condition_embedder.text_embedder.linear_2",
            "time_embedding.0": "condition_embedder.time_embedder.linear_1",
            "time_embedding.2": "condition_embedder.time_embedder.linear_2",
            "time_projection.1": "condition_embedder.time_proj",
            "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
            "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
            "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
            "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
        }
    )


WAN = Table(_wan())


# -- HunyuanVideo, HunyuanImage, FramePack -------------------------------------------------------------


def _hunyuan() -> Iterator[Names]:
    """ComfyUI renames the blocks as FLUX has them; trainers (musubi-tuner, sd-scripts) keep Tencent's names."""
    double, joint = "double_blocks.{}", "transformer_blocks.{}"
    single, one = "single_blocks.{}", "single_transformer_blocks.{}"
    added = ("add_q_proj", "add_k_proj", "add_v_proj")
    for stream, projections, out, forward, norm in (
        ("img", _QKV, "to_out.0", "ff", "norm1"),
        ("txt", added, "to_add_out", "ff_context", "norm1_context"),
    ):
        yield fused(f"{double}.{stream}_attn.qkv", f"{joint}.attn", projections)
        yield Names((f"{joint}.attn.{out}",), f"{double}.{stream}_attn.proj")
        for index, layer, part in ((0, "fc1", "net.0.proj"), (2, "fc2", "net.2")):
            name = f"{joint}.{forward}.{part}"
            yield Names((name,), f"{double}.{stream}_mlp.{index}", f"{double}.{stream}_mlp.{layer}")
        name = f"{joint}.{norm}.linear"
        yield Names((name,), f"{double}.{stream}_mod.lin", f"{double}.{stream}_mod.linear")
    linear1 = tuple(f"{one}.{part}" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"))
    yield Names(linear1, f"{single}.linear1", shares=(1, 1, 1, 4))
    yield from renamed({f"{single}.linear2": f"{one}.proj_out"})
    yield Names((f"{one}.norm.linear",), f"{single}.modulation.lin", f"{single}.modulation.linear")
    yield from _hunyuan_ends()


def _hunyuan_ends() -> Iterator[Names]:
    refiner, blocks = "txt_in.individual_token_refiner.blocks.{}", "context_embedder.token_refiner.refiner_blocks.{}"
    attention = fused(f"{refiner}.self_attn.qkv", f"{blocks}.attn", _QKV)
    yield attention._replace(kohya=f"{refiner}.self_attn_qkv")
    yield Names((f"{blocks}.attn.to_out.0",), f"{refiner}.self_attn.proj", f"{refiner}.self_attn_proj")
    for index, layer, part in ((0, "fc1", "net.0.proj"), (2, "fc2", "net.2")):
        yield Names((f"{blocks}.ff.{part}",), f"{refiner}.mlp.{index}", f"{refiner}.mlp.{layer}")
    yield from renamed(
        {
            f"{refiner}.adaLN_modulation.1": f"{blocks}.norm_out.linear",
            "txt_in.input_embedder": "context_embedder.proj_in",
            "img_in.proj": "x_embedder.proj",
            "final_layer.linear": "proj_out",
        }
    )
    embedders = (
        ("txt_in.t_embedder", "context_embedder.time_text_embed.timestep_embedder"),
        ("txt_in.c_embedder", "context_embedder.time_text_embed.text_embedder"),
        ("time_in", "time_text_embed.timestep_embedder"),
        ("vector_in", "time_text_embed.text_embedder"),
        ("guidance_in", "time_text_embed.guidance_embedder"),
    )
    for native, diffusers in embedders:
        for number, layer, index in ((1, "in_layer", 0), (2, "out_layer", 2)):
            name, has_layers = f"{diffusers}.linear_{number}", native == "vector_in"
            old = f"{native}.{layer}" if has_layers else f"{native}.mlp.{index}"
            if native == "txt_in.c_embedder":
                old = f"{native}.linear_{number}"
            yield Names((name,), f"{native}.{layer}", old)
    yield swapped("final_layer.adaLN_modulation.1", "norm_out.linear")


HUNYUAN = Table(_hunyuan())


# -- models whose names differ little or not at all -------------------------------------------------------


def _ltx() -> Iterator[Names]:
    block = "transformer_blocks.{}"
    for attention in ("attn1", "attn2"):
        yield from same(*(f"{block}.{attention}.{part}" for part in (*_QKV, "to_out.0")))
        yield from renamed({f"{block}.{attention}.{x}_norm": f"{block}.{attention}.norm_{x}" for x in ("q", "k")})
    yield from same(f"{block}.ff.net.0.proj", f"{block}.ff.net.2", f"{block}.scale_shift_table", "proj_out")
    yield from same("caption_projection.linear_1", "caption_projection.linear_2", "scale_shift_table")
    embedder = "emb.timestep_embedder.linear_"
    yield from renamed({f"adaln_single.{embedder}{n}": f"time_embed.{embedder}{n}" for n in (1, 2)})
    yield from renamed({"patchify_proj": "proj_in", "adaln_single.linear": "time_embed.linear"})


def _cogvideox() -> Iterator[Names]:
    block = "transformer_blocks.{}"
    parts = (*(f"attn1.{part}" for part in (*_QKV, "to_out.0", "norm_q", "norm_k")), "ff.net.0.proj", "ff.net.2")
    yield from _diffusers_only(*(f"{block}.{part}" for part in (*parts, "norm1.linear", "norm2.linear")))
    yield from _diffusers_only(
        "patch_embed.proj", "patch_embed.text_proj", "time_embedding.linear_1", "time_embedding.linear_2",
        "ofs_embedding.linear_1", "ofs_embedding.linear_2", "norm_final", "norm_out.linear", "proj_out",
    )  # fmt: skip


def _mochi() -> Iterator[Names]:
    native, block = "blocks.{}", "transformer_blocks.{}"
    yield fused(f"{native}.attn.qkv_x", f"{block}.attn1", _QKV)
    yield fused(f"{native}.attn.qkv_y", f"{block}.attn1", ("add_q_proj", "add_k_proj", "add_v_proj"))
    yield from renamed(
        {
            f"{native}.attn.proj_x": f"{block}.attn1.to_out.0",
            f"{native}.attn.proj_y": f"{block}.attn1.to_add_out",
            f"{native}.mod_x": f"{block}.norm1.linear",
            f"{native}.mod_y": f"{block}.norm1_context.linear",
            f"{native}.mlp_x.w2": f"{block}.ff.net.2",
            f"{native}.mlp_y.w2": f"{block}.ff_context.net.2",
        }
    )
    # SwiGLU's gate and value are stored the other way round.
    yield swapped(f"{native}.mlp_x.w1", f"{block}.ff.net.0.proj", ("gate", "value"))
    yield swapped(f"{native}.mlp_y.w1", f"{block}.ff_context.net.0.proj", ("gate", "value"))


def _diffusers_only(*templates: str) -> Iterator[Names]:
    """Names of the one implementation that adapters are trained with; no other style is known."""
    for template in templates:
        yield Names((template,))


LTX = Table(_ltx())
COGVIDEOX = Table(_cogvideox())
MOCHI = Table(_mochi())
