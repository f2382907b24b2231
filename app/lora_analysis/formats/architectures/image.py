"""Image transformers: Z-Image, Lumina 2, Qwen-Image, Anima and Cosmos, Krea 2, HiDream, PixArt, Sana, AuraFlow.

Sources: the models' own repositories, ComfyUI's definitions and key maps, and diffusers' conversion scripts (0.36).
"""

from __future__ import annotations

from collections.abc import Iterator

from .table import Names, Table, fused, renamed, same, swapped

_QKV = ("to_q", "to_k", "to_v")
_ADDED = ("add_q_proj", "add_k_proj", "add_v_proj")
_STACKS = ("layers.{}", "noise_refiner.{}", "context_refiner.{}")


# -- Z-Image and Lumina 2: one stream of layers, and two refiners before it --------------------------------


def _z_image() -> Iterator[Names]:
    for stack in _STACKS:
        attention = f"{stack}.attention"
        yield fused(f"{attention}.qkv", attention, _QKV)
        yield from renamed(
            {
                f"{attention}.out": f"{attention}.to_out.0",
                f"{attention}.q_norm": f"{attention}.norm_q",
                f"{attention}.k_norm": f"{attention}.norm_k",
            }
        )
        parts = (*(f"feed_forward.w{n}" for n in (1, 2, 3)), "adaLN_modulation.0")
        norms = ("attention_norm1", "attention_norm2", "ffn_norm1", "ffn_norm2")
        yield from same(*(f"{stack}.{part}" for part in (*parts, *norms)))
    yield from same("t_embedder.mlp.0", "t_embedder.mlp.2", "cap_embedder.0", "cap_embedder.1")
    yield from renamed(
        {
            "x_embedder": "all_x_embedder.2-1",
            "final_layer.linear": "all_final_layer.2-1.linear",
            "final_layer.adaLN_modulation.1": "all_final_layer.2-1.adaLN_modulation.1",
        }
    )


def _lumina2() -> Iterator[Names]:
    for stack in _STACKS:
        # 24 query heads and 8 key-value heads: q has three times the rows of k and of v.
        yield fused(f"{stack}.attention.qkv", f"{stack}.attn", _QKV, (3, 1, 1))
        modulated = "" if stack.startswith("context") else ".norm"
        yield from renamed(
            {
                f"{stack}.attention.out": f"{stack}.attn.to_out.0",
                f"{stack}.attention.q_norm": f"{stack}.attn.norm_q",
                f"{stack}.attention.k_norm": f"{stack}.attn.norm_k",
                **{f"{stack}.feed_forward.w{n}": f"{stack}.feed_forward.linear_{n}" for n in (1, 2, 3)},
                f"{stack}.attention_norm1": f"{stack}.norm1{modulated}",
                f"{stack}.attention_norm2": f"{stack}.norm2",
                f"{stack}.adaLN_modulation.1": f"{stack}.norm1.linear",
            }
        )
        yield from same(f"{stack}.ffn_norm1", f"{stack}.ffn_norm2")
    yield from renamed(
        {
            "x_embedder": "x_embedder",
            "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
            "cap_embedder.0": "time_caption_embed.caption_embedder.0",
            "cap_embedder.1": "time_caption_embed.caption_embedder.1",
            "final_layer.adaLN_modulation.1": "norm_out.linear_1",
            "final_layer.linear": "norm_out.linear_2",
        }
    )


# -- Qwen-Image and HiDream: one set of names everywhere -----------------------------------------------------


def _qwen_image() -> Iterator[Names]:
    block = "transformer_blocks.{}"
    attention = (*_QKV, *_ADDED, "to_out.0", "to_add_out", "norm_q", "norm_k", "norm_added_q", "norm_added_k")
    yield from same(*(f"{block}.attn.{part}" for part in attention))
    for stream in ("img", "txt"):
        yield from same(*(f"{block}.{stream}_{part}" for part in ("mlp.net.0.proj", "mlp.net.2", "mod.1")))
    yield from same(
        "img_in", "txt_in", "txt_norm", "proj_out", "norm_out.linear",
        "time_text_embed.timestep_embedder.linear_1", "time_text_embed.timestep_embedder.linear_2",
    )  # fmt: skip


def _hidream() -> Iterator[Names]:
    feed_forward = ("w1", "w2", "w3")
    for stack, text in (("double_stream_blocks.{}.block", True), ("single_stream_blocks.{}.block", False)):
        attention: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out", "q_rms_norm", "k_rms_norm")
        if text:
            attention += tuple(f"{part}_t" for part in attention)
            yield from same(*(f"{stack}.ff_t.{part}" for part in feed_forward))
        yield from same(*(f"{stack}.attn1.{part}" for part in attention))
        yield from same(*(f"{stack}.ff_i.shared_experts.{part}" for part in feed_forward))
        yield from same(*(f"{stack}.ff_i.experts.{{}}.{part}" for part in feed_forward))
        yield from same(f"{stack}.ff_i.gate", f"{stack}.adaLN_modulation.1")
    yield from same(
        "x_embedder.proj", "final_layer.linear", "final_layer.adaLN_modulation.1", "caption_projection.{}.linear",
        *(f"t_embedder.timestep_embedder.linear_{n}" for n in (1, 2)),
        *(f"p_embedder.pooled_embedder.linear_{n}" for n in (1, 2)),
    )  # fmt: skip


# -- Cosmos Predict 2 and Anima ------------------------------------------------------------------------------


def _cosmos() -> Iterator[Names]:
    native, block = "blocks.{}", "transformer_blocks.{}"
    for old, new in (("self_attn", "attn1"), ("cross_attn", "attn2")):
        parts = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "output_proj": "to_out.0"}
        norms = {"q_norm": "norm_q", "k_norm": "norm_k"}
        yield from renamed({f"{native}.{old}.{a}": f"{block}.{new}.{b}" for a, b in (parts | norms).items()})
    yield from renamed({f"{native}.mlp.layer1": f"{block}.ff.net.0.proj", f"{native}.mlp.layer2": f"{block}.ff.net.2"})
    for number, part in ((1, "self_attn"), (2, "cross_attn"), (3, "mlp")):
        old = f"{native}.adaln_modulation_{part}"
        yield from renamed({f"{old}.{n}": f"{block}.norm{number}.linear_{n}" for n in (1, 2)})
    yield from renamed(
        {
            "x_embedder.proj.1": "patch_embed.proj",
            "t_embedder.1.linear_1": "time_embed.t_embedder.linear_1",
            "t_embedder.1.linear_2": "time_embed.t_embedder.linear_2",
            "t_embedding_norm": "time_embed.norm",
            "final_layer.adaln_modulation.1": "norm_out.linear_1",
            "final_layer.adaln_modulation.2": "norm_out.linear_2",
            "final_layer.linear": "proj_out",
        }
    )


def _anima() -> Iterator[Names]:
    """Cosmos with an adapter that reads a language model; the adapter has its own names everywhere."""
    yield from _cosmos()
    adapter, block = "llm_adapter", "llm_adapter.blocks.{}"
    projections = ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")
    for attention in ("self_attn", "cross_attn"):
        yield from same(*(f"{block}.{attention}.{part}" for part in projections))
    yield from same(
        *(f"{block}.{part}" for part in ("mlp.0", "mlp.2", "norm_self_attn", "norm_cross_attn", "norm_mlp"))
    )
    yield from same(*(f"{adapter}.{part}" for part in ("embed", "in_proj", "out_proj", "norm")))


# -- Krea 2 ----------------------------------------------------------------------------------------------------


def _krea2() -> Iterator[Names]:
    """The original's names only: they stand for themselves, and diffusers' are not in the table."""
    stacks = ("blocks.{}", "txtfusion.layerwise_blocks.{}", "txtfusion.refiner_blocks.{}")
    parts = (*(f"attn.{part}" for part in ("wq", "wk", "wv", "wo", "gate")), "mlp.gate", "mlp.up", "mlp.down")
    names = [f"{stack}.{part}" for stack in stacks for part in parts]
    ends = ("first", "last.linear", "last.modulation", "txtfusion.projector", "tmlp.{}", "txtmlp.{}", "tproj.{}")
    yield from same(*names, *ends)


# -- PixArt, Sana, AuraFlow --------------------------------------------------------------------------------------


def _linear_attention(native: str, block: str) -> Iterator[Names]:
    """Self-attention fused whole, cross-attention fused in its key and value: PixArt and Sana."""
    yield fused(f"{native}.attn.qkv", f"{block}.attn1", _QKV)
    yield fused(f"{native}.cross_attn.kv_linear", f"{block}.attn2", ("to_k", "to_v"))
    yield from renamed(
        {
            f"{native}.attn.proj": f"{block}.attn1.to_out.0",
            f"{native}.cross_attn.q_linear": f"{block}.attn2.to_q",
            f"{native}.cross_attn.proj": f"{block}.attn2.to_out.0",
        }
    )


def _pixart() -> Iterator[Names]:
    native, block = "blocks.{}", "transformer_blocks.{}"
    yield from _linear_attention(native, block)
    embedders = (("t_embedder", "timestep"), ("csize_embedder", "resolution"), ("ar_embedder", "aspect_ratio"))
    yield from renamed(
        {
            f"{native}.mlp.fc1": f"{block}.ff.net.0.proj",
            f"{native}.mlp.fc2": f"{block}.ff.net.2",
            f"{native}.scale_shift_table": f"{block}.scale_shift_table",
            "x_embedder.proj": "pos_embed.proj",
            "t_block.1": "adaln_single.linear",
            "y_embedder.y_proj.fc1": "caption_projection.linear_1",
            "y_embedder.y_proj.fc2": "caption_projection.linear_2",
            "final_layer.linear": "proj_out",
            **{
                f"{old}.mlp.{index}": f"adaln_single.emb.{new}_embedder.linear_{number}"
                for old, new in embedders
                for number, index in ((1, 0), (2, 2))
            },
        }
    )


def _sana() -> Iterator[Names]:
    native, block = "blocks.{}", "transformer_blocks.{}"
    yield from _linear_attention(native, block)
    convolutions = {"inverted_conv": "conv_inverted", "depth_conv": "conv_depth", "point_conv": "conv_point"}
    yield from renamed({f"{native}.mlp.{a}.conv": f"{block}.ff.{b}" for a, b in convolutions.items()})
    yield from renamed(
        {
            "x_embedder.proj": "patch_embed.proj",
            "t_embedder.mlp.0": "time_embed.emb.timestep_embedder.linear_1",
            "t_embedder.mlp.2": "time_embed.emb.timestep_embedder.linear_2",
            "t_block.1": "time_embed.linear",
            "y_embedder.y_proj.fc1": "caption_projection.linear_1",
            "y_embedder.y_proj.fc2": "caption_projection.linear_2",
            "final_layer.linear": "proj_out",
        }
    )


def _auraflow() -> Iterator[Names]:
    double, joint = "double_layers.{}", "joint_transformer_blocks.{}"
    single, one = "single_layers.{}", "single_transformer_blocks.{}"
    out = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
    added = {"q": "add_q_proj", "k": "add_k_proj", "v": "add_v_proj", "o": "to_add_out"}
    forward = {"c_fc1": "linear_1", "c_fc2": "linear_2", "c_proj": "out_projection"}
    yield from renamed(
        {
            **{f"{double}.attn.w2{x}": f"{joint}.attn.{name}" for x, name in out.items()},
            **{f"{double}.attn.w1{x}": f"{joint}.attn.{name}" for x, name in added.items()},
            **{f"{single}.attn.w1{x}": f"{one}.attn.{name}" for x, name in out.items()},
            **{f"{double}.mlpX.{a}": f"{joint}.ff.{b}" for a, b in forward.items()},
            **{f"{double}.mlpC.{a}": f"{joint}.ff_context.{b}" for a, b in forward.items()},
            **{f"{single}.mlp.{a}": f"{one}.ff.{b}" for a, b in forward.items()},
            f"{double}.modX.1": f"{joint}.norm1.linear",
            f"{double}.modC.1": f"{joint}.norm1_context.linear",
            f"{single}.modCX.1": f"{one}.norm1.linear",
            "cond_seq_linear": "context_embedder",
            "init_x_linear": "pos_embed.proj",
            "t_embedder.mlp.0": "time_step_proj.linear_1",
            "t_embedder.mlp.2": "time_step_proj.linear_2",
            "final_linear": "proj_out",
        }
    )
    yield swapped("modF.1", "norm_out.linear")


Z_IMAGE = Table(_z_image())
LUMINA2 = Table(_lumina2())
QWEN_IMAGE = Table(_qwen_image())
HIDREAM = Table(_hidream())
COSMOS = Table(_cosmos())
ANIMA = Table(_anima())
KREA2 = Table(_krea2())
PIXART = Table(_pixart())
SANA = Table(_sana())
AURAFLOW = Table(_auraflow())
