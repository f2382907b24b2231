"""Video models, and the diffusers transformers with separate self- and cross-attention that resemble them."""

from __future__ import annotations

from .structure import Structure, hidden_size
from .verdict import Rule, Verdict

_WAN_SIZES = {5120: "14B", 1536: "1.3B", 3072: "5B"}
_COSMOS_SIZES = {2048: "2B", 4096: "7B", 5120: "14B"}
_WAN_NAMES = (
    "blocks_N_self_attn_q\n",
    "blocks_N_self_attn_k\n",
    "blocks_N_self_attn_v\n",
    "blocks_N_self_attn_o\n",
    "blocks_N_cross_attn_q\n",
    "blocks_N_cross_attn_k\n",
    "blocks_N_cross_attn_v\n",
    "blocks_N_cross_attn_o\n",
    "blocks_N_cross_attn_k_img",
    "blocks_N_ffn_0\n",
    "blocks_N_ffn_2\n",
    "blocks_N_ffn_net_",
    "\nblocks_N_attn1_to_",
    "\nblocks_N_attn2_to_",
    "\nblocks_N_attn2_add_",
)
_WAN_WIDTHS = ("self_attn_q", "self_attn_k", "self_attn_v", "self_attn_o", "cross_attn_q", "cross_attn_k", "ffn_0")
_DIFFUSERS_WIDTHS = ("attn1_to_q", "attn1_to_k", "attn1_to_v", "attn2_to_q", "attn1_to_out_0", "ffn_net_N_proj")
_IMAGE_NAMES = ("cross_attn_k_img", "cross_attn_v_img", "attn2_add_k_proj", "attn2_add_v_proj", "img_emb_proj")


def kandinsky5(structure: Structure) -> Verdict | None:
    found = structure.has("visual_transformer_blocks_N", "text_transformer_blocks_N")
    return Verdict("kandinsky5", "visual_transformer_blocks") if found else None


def ltx2(structure: Structure) -> Verdict | None:
    found = structure.has("transformer_blocks_N_audio_", "audio_to_video_attn", "video_to_audio_attn")
    return Verdict("ltx2", "transformer_blocks with audio attention") if found else None


def mochi(structure: Structure) -> Verdict | None:
    if structure.has("blocks_N_attn_qkv_x", "blocks_N_attn_qkv_y", "blocks_N_attn_proj_x", "blocks_N_mlp_x_"):
        return Verdict("mochi", "blocks with attn.qkv_x")
    if structure.has("\ntransformer_blocks_N_attn1_add_", "\ntransformer_blocks_N_attn1_to_add_out"):
        return Verdict("mochi", "transformer_blocks with attn1.add_q_proj")
    return None


def wan(structure: Structure) -> Verdict | None:
    if not structure.has(*_WAN_NAMES):
        return None
    width = structure.width(*_WAN_WIDTHS, *_DIFFUSERS_WIDTHS, square=(*_WAN_WIDTHS[:6], *_DIFFUSERS_WIDTHS[:5]))
    size = _WAN_SIZES.get(width or 0)
    is_image_to_video = structure.has(*_IMAGE_NAMES)
    variant = " ".join(filter(None, (size, "i2v" if is_image_to_video else None))) or None
    return Verdict("wan", f"blocks with self-attention, cross-attention and ffn, {hidden_size(width)}", variant)


def spatial(structure: Structure) -> Verdict | None:
    """transformer_blocks with attn1 (and attn2): many models share the names, widths tell them apart."""
    if not structure.has("\ntransformer_blocks_N_attn1_", "\ntransformer_blocks_N_attn2_"):
        return None
    if structure.has("ff_conv_inverted", "ff_conv_point"):
        return Verdict("sana", "transformer_blocks with a convolutional ff")
    width = structure.width(*_DIFFUSERS_WIDTHS, square=_DIFFUSERS_WIDTHS[:5])
    has_cross_attention = structure.has("transformer_blocks_N_attn2_")
    if has_cross_attention:
        return _with_cross_attention(structure, width)
    return _self_attention_only(width, structure.depth("transformer_blocks_N"))


def _with_cross_attention(structure: Structure, width: int | None) -> Verdict | None:
    evidence = f"transformer_blocks with attn1 and attn2, {hidden_size(width)}"
    if width == 1152:
        is_certain = structure.has("adaln_single", "_ff_net_")
        return Verdict("pixart", evidence, rivals=() if is_certain else ("sana",))
    if width in _COSMOS_SIZES and structure.inps("attn2_to_k", "attn2_to_v") == {1024}:
        return Verdict("cosmos", f"{evidence}, text states 1024 wide", _COSMOS_SIZES[width])
    if width == 2048:
        return Verdict("ltx-video", evidence, "2B")
    if width == 4096:
        return Verdict("ltx-video", evidence, "13B", rivals=("ltx2", "cosmos"))
    family = {2240: "sana", 1536: "stable-audio", 5120: "cosmos"}.get(width or 0)
    return Verdict(family, evidence) if family else None


def _self_attention_only(width: int | None, depth: int) -> Verdict | None:
    evidence = f"transformer_blocks with attn1 alone, {hidden_size(width)}"
    if width == 3072:  # as wide as Mochi, whose 48 blocks have the same names
        return Verdict("cogvideox", evidence, "5B", rivals=() if depth == 42 else ("mochi",))
    if width == 1920:
        return Verdict("cogvideox", evidence, "2B")
    family = {2048: "ltx-video", 4096: "ltx-video", 5120: "cosmos", 1152: "pixart", 2240: "sana"}.get(width or 0)
    rivals = {"ltx-video": ("cosmos",), "pixart": ("sana",)}.get(family or "", ())
    return Verdict(family, evidence, rivals=rivals) if family else None


RULES: tuple[Rule, ...] = (kandinsky5, ltx2, mochi, wan, spatial)
