"""Encoders and encoder-decoders of transformers: BERT's relatives, T5, BART, Whisper, ViT, CLIP and others."""

from __future__ import annotations

from .sizes import SEQ2SEQ, verdict_of
from .structure import Structure
from .verdict import Rule, Verdict

# Names no other family has. The first that occurs wins: "wav2vec2_encoder_" holds "encoder_layers_N" too.
_OWN_NAMES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("distilbert", ("distilbert_", "_attention_q_lin", "_attention_v_lin", "_attention_k_lin"), "attention.q_lin"),
    ("roberta", ("\nroberta_", "\ncamembert_", "\nxlm_roberta_"), "roberta.encoder"),
    ("deberta", ("\ndeberta_", "attention_self_query_proj", "attention_self_in_proj"), "attention.self.query_proj"),
    ("electra", ("\nelectra_",), "electra.encoder"),
    ("albert", ("\nalbert_", "albert_layer_groups_N_"), "albert_layer_groups"),
    ("blip", ("\ntext_decoder_bert_", "\nqformer_", "\nquery_tokens"), "qformer or text_decoder.bert"),
    ("bert", ("\nbert_",), "bert.encoder"),
    ("wav2vec2", ("\nwav2vec2_",), "wav2vec2.encoder"),
    ("hubert", ("\nhubert_",), "hubert.encoder"),
    ("wavlm", ("\nwavlm_",), "wavlm.encoder"),
    ("dinov2", ("\ndinov2_",), "dinov2.encoder"),
    ("deit", ("\ndeit_",), "deit.encoder"),
    ("beit", ("\nbeit_",), "beit.encoder"),
    ("swin", ("\nswin_", "\nswinv2_", "encoder_layers_N_blocks_N_attention_"), "encoder.layers with blocks"),
    ("vit", ("\nvit_",), "vit.encoder"),
    ("sam", ("\nvision_encoder_layers_N_", "\nmask_decoder_"), "vision_encoder beside mask_decoder"),
    ("modernbert", ("layers_N_attn_Wqkv", "layers_N_mlp_Wi"), "layers with attn.Wqkv"),
)
_T5_SIZES = {512: "small", 768: "base", 1024: "large", 2048: "xl", 4096: "xxl"}
_ROLES = {"hidden": ("_q_proj", "_k_proj", "_v_proj", "_fc1"), "ffn": ("_fc2",)}


def named(structure: Structure) -> Verdict | None:
    """Families whose module names give them away."""
    for family, fragments, evidence in _OWN_NAMES:
        if structure.has(*fragments):
            return Verdict(family, f"names with {evidence}")
    return None


def t5(structure: Structure) -> Verdict | None:
    if not structure.has("_SelfAttention_", "_EncDecAttention_", "_DenseReluDense_"):
        return None
    width = structure.width("SelfAttention_q", "SelfAttention_k", "SelfAttention_v", "DenseReluDense_wi_0")
    return Verdict("t5", "encoder.block with SelfAttention", _T5_SIZES.get(width or 0))


def bare_encoder(structure: Structure) -> Verdict | None:
    """A base model without its task head has no name in front: ``encoder.layer.N`` alone."""
    if structure.has("encoder_layer_N_attention_attention_"):
        has_dino_mlp = structure.has("encoder_layer_N_mlp_fc", "encoder_layer_N_layer_scale")
        family, rivals = ("dinov2", ()) if has_dino_mlp else ("vit", ("dinov2", "deit", "beit"))
        return Verdict(family, "encoder.layer with attention.attention", rivals=rivals)
    if structure.has("encoder_layers_N_attention_q_proj", "encoder_layers_N_feed_forward_intermediate_dense"):
        return Verdict("wav2vec2", "encoder.layers with attention.q_proj", rivals=("hubert", "wavlm"))
    if structure.has("encoder_layer_N_attention_self_", "encoder_layer_N_intermediate_dense"):
        return Verdict("bert", "encoder.layer with attention.self", rivals=("roberta", "electra"))
    return None


def clip(structure: Structure) -> Verdict | None:
    """CLIP or SigLIP as a whole, not the text encoder of an image model (that has a prefix)."""
    if not structure.has("vision_model_encoder_layers_N_", "\ntext_model_encoder_layers_N_"):
        return None
    endings = ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj")
    if structure.has("vision_model_head_") or 1152 in structure.inps(*endings):
        return Verdict("siglip", "text_model and vision_model encoders, hidden size 1152 or an attention head")
    return Verdict("clip", "text_model and vision_model encoders", rivals=("siglip",))


def blip(structure: Structure) -> Verdict | None:
    found = structure.has("vision_model_encoder_layers_N_self_attn_qkv")
    return Verdict("blip", "vision_model with self_attn.qkv") if found else None


def llava(structure: Structure) -> Verdict | None:
    """A vision tower and a projector trained with the language model."""
    if not structure.has("multi_modal_projector_", "\nmm_projector_", "vision_tower_"):
        return None
    return Verdict("llava", "a vision tower or a projector beside a language model", rivals=("paligemma", "gemma3"))


def seq2seq(structure: Structure) -> Verdict | None:
    """Encoder and decoder layers: Whisper, BART and theirs share all names."""
    if not structure.has("encoder_layers_N_self_attn_", "decoder_layers_N_encoder_attn_"):
        return _opt(structure)
    # Only layers of the two stacks: an audio front end or a head has widths of its own.
    widths = {role: structure.inps(*endings) for role, endings in _ROLES.items()}
    if not any(widths.values()):
        widths = {"hidden": structure.outs("_q_proj", "_k_proj", "_v_proj", "_out_proj")}
    what = "encoder and decoder layers with encoder_attn"
    return verdict_of(SEQ2SEQ, what, widths, structure.depth("coder_layers_N_"))


def _opt(structure: Structure) -> Verdict | None:
    found = structure.has("\ndecoder_layers_N_")
    return Verdict("opt", "decoder.layers without an encoder") if found else None


# BLIP and LLaVA hold a vision model of CLIP's names: they come before it.
RULES: tuple[Rule, ...] = (named, t5, blip, llava, clip, bare_encoder, seq2seq)
