"""Text encoders beside an image or video model: CLIP, OpenCLIP, T5, and decoders of language models.

Source: ``modeling_clip``, ``modeling_t5``, ``modeling_qwen3`` and ``modeling_gemma2`` of transformers (4.57);
OpenCLIP's ``resblocks`` as checkpoints of SD 2 and SDXL store them.
"""

from __future__ import annotations

from collections.abc import Iterator

from .table import Names, Table, fused, renamed, same

_CLIP = "text_model.encoder.layers.{}"
_RESBLOCK = "transformer.resblocks.{}"


def _clip() -> Iterator[Names]:
    projections = ("q_proj", "k_proj", "v_proj")
    for part in projections:  # diffusers before 0.20: "self_attn.to_q_lora"
        name = f"{_CLIP}.self_attn.{part}"
        yield Names((name,), name, aliases=(f"{_CLIP}.self_attn.to_{part[0]}",))
    out = f"{_CLIP}.self_attn.out_proj"
    yield Names((out,), out, aliases=(f"{_CLIP}.self_attn.to_out",))
    yield from same(*(f"{_CLIP}.{part}" for part in ("mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2")))
    yield from same(
        "text_model.embeddings.token_embedding",
        "text_model.embeddings.position_embedding",
        "text_model.final_layer_norm",
        "text_projection",
    )


def _open_clip() -> Iterator[Names]:
    """Names of checkpoints only: adapters of these encoders use CLIP's."""
    attention = f"{_CLIP}.self_attn"
    in_proj = fused(f"{_RESBLOCK}.attn.in_proj", attention, ("q_proj", "k_proj", "v_proj"))
    yield in_proj._replace(native=None, aliases=(f"{_RESBLOCK}.attn.in_proj",))
    others = {
        f"{_RESBLOCK}.attn.out_proj": f"{attention}.out_proj",
        f"{_RESBLOCK}.mlp.c_fc": f"{_CLIP}.mlp.fc1",
        f"{_RESBLOCK}.mlp.c_proj": f"{_CLIP}.mlp.fc2",
        f"{_RESBLOCK}.ln_1": f"{_CLIP}.layer_norm1",
        f"{_RESBLOCK}.ln_2": f"{_CLIP}.layer_norm2",
        "token_embedding": "text_model.embeddings.token_embedding",
        "positional_embedding": "text_model.embeddings.position_embedding",
        "ln_final": "text_model.final_layer_norm",
    }
    for alias, name in others.items():
        yield Names((name,), name, aliases=(alias,))


def _t5() -> Iterator[Names]:
    block = "encoder.block.{}.layer"
    attention = (f"{block}.0.SelfAttention.{part}" for part in ("q", "k", "v", "o", "relative_attention_bias"))
    dense = (f"{block}.1.DenseReluDense.{part}" for part in ("wi", "wi_0", "wi_1", "wo"))
    norms = (f"{block}.0.layer_norm", f"{block}.1.layer_norm", "encoder.final_layer_norm")
    yield from same(*attention, *dense, *norms, "shared")


def _decoder() -> Iterator[Names]:
    """A language model's decoder without its head; transformers puts ``model.`` before it in some classes."""
    layer = "layers.{}"
    parts = (
        *(f"self_attn.{part}" for part in ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")),
        *(f"mlp.{part}" for part in ("gate_proj", "up_proj", "down_proj")),
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    for name in (*(f"{layer}.{part}" for part in parts), "embed_tokens", "norm"):
        prefixes = ("model", "language_model", "model.language_model", "language_model.model")
        yield Names((name,), name, aliases=tuple(f"{prefix}.{name}" for prefix in prefixes))


CLIP = Table(_clip())
OPEN_CLIP = Table((*_clip(), *_open_clip()))
T5 = Table((*_t5(), *renamed({"encoder.embed_tokens": "encoder.embed_tokens"})))
DECODER = Table(_decoder())
