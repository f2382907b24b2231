"""Decoder language models: some have names of their own, the Llama-shaped rest is told apart by widths."""

from __future__ import annotations

import re

from .sizes import DECODERS, MIXTURES, Size, Widths, verdict_of
from .structure import Part, Structure, hidden_size
from .verdict import Rule, Verdict
from .vocabulary import UNKNOWN

# Names after "layers_N_" (GGUF: "blk_N_") -> which width the output is, which the input.
_ROLES: dict[str, tuple[str, str]] = {
    "self_attn_q_proj": ("q", "hidden"),
    "self_attn_k_proj": ("kv", "hidden"),
    "self_attn_v_proj": ("kv", "hidden"),
    "self_attn_o_proj": ("hidden", "q"),
    "self_attn_dense": ("hidden", "q"),
    "mlp_gate_proj": ("ffn", "hidden"),
    "mlp_up_proj": ("ffn", "hidden"),
    "mlp_down_proj": ("hidden", "ffn"),
    "mlp_c_fc": ("ffn", "hidden"),
    "mlp_c_proj": ("hidden", "ffn"),
    "mlp_experts_N_gate_proj": ("ffn", "hidden"),
    "mlp_experts_N_up_proj": ("ffn", "hidden"),
    "mlp_experts_N_down_proj": ("hidden", "ffn"),
    "attn_q": ("q", "hidden"),
    "attn_k": ("kv", "hidden"),
    "attn_v": ("kv", "hidden"),
    "attn_output": ("hidden", "q"),
    "ffn_gate": ("ffn", "hidden"),
    "ffn_up": ("ffn", "hidden"),
    "ffn_down": ("hidden", "ffn"),
}
# A vision-language model keeps its decoder under "language_model".
_LAYER = re.compile(r"(?:language_model_|text_model_|model_)*(?:layers|blk)_N_(.+)")
_WITH_QUERY_NORM = ("qwen3", "gemma3", "olmo")

# Names no other family has. The first that occurs wins.
_OWN_NAMES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("granite", ("block_sparse_moe_input_linear", "block_sparse_moe_router"), "block_sparse_moe.input_linear"),
    ("mixtral", ("block_sparse_moe_",), "block_sparse_moe experts"),
    ("deepseek", ("_kv_a_proj_with_mqa", "_kv_b_proj", "_q_a_proj", "mlp_shared_experts_"), "kv_a_proj_with_mqa"),
    ("phi3", ("layers_N_self_attn_qkv_proj",), "self_attn.qkv_proj"),
    ("phi2", ("layers_N_self_attn_dense", "_mixer_Wqkv"), "self_attn.dense"),
    ("baichuan", ("self_attn_W_pack",), "self_attn.W_pack"),
    ("internlm2", ("layers_N_attention_wqkv",), "attention.wqkv"),
    ("chatglm", ("encoder_layers_N_self_attention_query_key_value",), "encoder.layers self_attention.query_key_value"),
    ("llama4", ("feed_forward_shared_expert", "feed_forward_experts", "feed_forward_router"), "feed_forward experts"),
    ("qwen2-moe", ("layers_N_mlp_shared_expert_",), "mlp.shared_expert"),
    ("gpt-oss", ("layers_N_mlp_router", "layers_N_self_attn_sinks"), "mlp.router"),
    ("qwen2-vl", ("\nvisual_blocks_N_",), "visual.blocks"),
    ("gpt-neox", ("layers_N_attention_query_key_value",), "attention.query_key_value"),
    ("gpt-neo", ("\nh_N_attn_attention_",), "attn.attention"),
    ("codegen", ("\nh_N_attn_qkv_proj",), "attn.qkv_proj"),
    ("gptj", ("\nh_N_attn_q_proj", "\nh_N_attn_k_proj", "\nh_N_attn_v_proj", "\nh_N_mlp_fc_in"), "h.N.attn.q_proj"),
    ("qwen", ("\nh_N_mlp_w1\n", "\nh_N_mlp_w2\n"), "mlp.w1 beside mlp.w2"),
    ("mpt", ("\nblocks_N_attn_Wqkv", "\nblocks_N_ffn_up_proj", "\nblocks_N_ffn_down_proj"), "attn.Wqkv"),
    ("mamba", ("_mixer_in_proj", "_mixer_x_proj"), "mixer.in_proj"),
    ("starcoder2", ("\nlayers_N_mlp_c_fc", "\nlayers_N_mlp_c_proj"), "mlp.c_fc in layers"),
)
# Rows of a fused q, k and v per hidden size: 3, or little more than 1 where all heads share a key and a value (and 2
# in early PEFT files that train two of the three).
_FEW_HEADS = 1.5
_GPT2_SIZES = {768: "small", 1024: "medium", 1280: "large", 1600: "xl"}


def named(structure: Structure) -> Verdict | None:
    """Families whose module names give them away."""
    if structure.has("encoder_attn_", "vision_model_", "vision_encoder_"):
        return None  # an encoder-decoder, or a vision model: other rules know them
    for family, fragments, evidence in _OWN_NAMES:
        if structure.has(*fragments):
            return Verdict(family, f"names with {evidence}")
    return None


def gpt2(structure: Structure) -> Verdict | None:
    """GPT-2 fuses q, k and v into three times the width; StarCoder shares one key and value head."""
    if not structure.has("\nh_N_attn_c_attn", "\nh_N_attn_c_proj", "\nh_N_mlp_c_fc", "\nh_N_mlp_c_proj"):
        return None
    fused, width = structure.outs("attn_c_attn"), structure.width("attn_c_attn", "mlp_c_fc", square=("attn_c_proj",))
    if width and fused and max(fused) < _FEW_HEADS * width:
        return Verdict("starcoder", f"transformer.h with attn.c_attn, {max(fused)} rows for {hidden_size(width)}")
    return Verdict("gpt2", "transformer.h with attn.c_attn", _GPT2_SIZES.get(width or 0))


def falcon_or_bloom(structure: Structure) -> Verdict | None:
    """The same names; BLOOM has as many key-value heads as heads, Falcon fewer."""
    if not structure.has("\nh_N_self_attention_", "\nh_N_mlp_dense_h_to_4h"):
        return None
    evidence = "transformer.h with self_attention.query_key_value"
    fused = structure.outs("self_attention_query_key_value")
    width = structure.width("self_attention_query_key_value", "dense_h_to_4h", square=("self_attention_dense",))
    if width == 4544 or (width and fused and max(fused) < _FEW_HEADS * width):
        return Verdict("falcon", f"{evidence}, {hidden_size(width)}")
    is_shared = width in (None, 2048, 8192)  # falcon-rw-1b is shaped like bloom-1b7; falcon-40b is 8192 wide
    return Verdict("bloom", f"{evidence}, {hidden_size(width)}", rivals=("falcon",) if is_shared else ())


def decoder_of(part: Part) -> Verdict | None:
    """Llama-shaped decoder layers, by widths and layer count; unknown where no published model fits."""
    widths: dict[str, set[int]] = {"hidden": set(), "q": set(), "kv": set(), "ffn": set()}
    depth = 0
    for group in part.groups:
        layer = _LAYER.fullmatch(group.pattern)
        roles = _ROLES.get(layer[1]) if layer else None
        if roles:
            depth = max(depth, group.depth)
            widths[roles[0]] |= {n for n in group.outs if n is not None}
            widths[roles[1]] |= {n for n in group.inps if n is not None}
    if depth == 0:
        return None
    has_experts = part.has("layers_N_mlp_experts_N_", "layers_N_mlp_gate\n")
    sizes = MIXTURES if has_experts else _sizes_with_norms(part, widths, depth)
    if not widths["ffn"]:  # attention alone is trained in most mixtures, and says nothing of experts
        sizes = (*sizes, *(size for size in MIXTURES if size not in sizes))
    what = "decoder layers with experts" if has_experts else "decoder layers"
    return verdict_of(sizes, what, widths, depth) or Verdict(UNKNOWN, f"{what} of a size no known model has")


def _sizes_with_norms(part: Part, widths: Widths, depth: int) -> tuple[Size, ...]:
    """All sizes, or those of families with query norms where the file holds one."""
    if not part.has("self_attn_q_norm", "self_attn_k_norm", "attn_q_norm", "attn_k_norm"):
        return DECODERS
    normed = tuple(size for size in DECODERS if size.family in _WITH_QUERY_NORM)
    return normed if verdict_of(normed, "", widths, depth) else DECODERS


def decoder(structure: Structure) -> Verdict | None:
    if structure.has("gate_up_proj") and structure.has("layers_N_self_attn_q_proj"):
        return Verdict("glm4", "mlp.gate_up_proj beside self_attn.q_proj")
    if structure.has("layers_N_mlp_gate_up_proj"):
        return Verdict("phi3", "mlp.gate_up_proj", rivals=("glm4",))
    return decoder_of(structure)


RULES: tuple[Rule, ...] = (named, gpt2, falcon_or_bloom, decoder)
