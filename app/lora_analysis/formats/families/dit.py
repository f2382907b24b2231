"""Image transformers other than FLUX: Stable Diffusion 3, Qwen-Image, Z-Image, Lumina, PixArt and others."""

from __future__ import annotations

from .structure import JOINT_ATTENTION, Structure, hidden_size
from .verdict import Rule, Verdict

_JOINT_ATTENTION = (*JOINT_ATTENTION, "attn_to_out_0", "attn_to_add_out")
_SD3_BLOCKS = ("x_block_attn_qkv", "context_block_attn_qkv", "x_block_attn_proj", "context_block_attn_proj")
_SD3_MLP = (
    "x_block_mlp_fc1",
    "context_block_mlp_fc1",
    "x_block_adaLN_modulation_1",
    "context_block_adaLN_modulation_1",
)
# Family and variant. MiniMax H3 and HunyuanVideo 1.5 keep their names for this in diffusers alone.
_JOINT_WIDTHS = {
    6144: ("flux2", "dev"),
    4096: ("flux2", "klein-9b"),
    5376: ("minimax-h3", None),
    2048: ("hunyuan-video", "1.5"),
}
_FLUX2_DOUBLE = 8  # double-stream blocks of FLUX.2 dev and klein 9B
_LAYERS_NAMES = (
    "\ncontext_refiner_N_",
    "\nnoise_refiner_N_",
    "\nlayers_N_attention_",
    "\nlayers_N_attn_to_",
    "\nlayers_N_feed_forward_",
)
_LAYERS_WIDTHS = (
    "attention_to_q",
    "attention_to_k",
    "attention_to_v",
    "attention_qkv",
    "attn_to_q",
    "attn_to_k",
    "attn_to_v",
    "attention_out",
    "attention_to_out_0",
    "feed_forward_w1",
    "feed_forward_linear_1",
)
_BY_LAYERS_WIDTH = {3840: "z-image", 2304: "lumina2", 2520: "omnigen2", 4608: "ideogram4"}


def hidream(structure: Structure) -> Verdict | None:
    found = structure.has("double_stream_blocks_N", "single_stream_blocks_N")
    return Verdict("hidream", "double_stream_blocks", "i1") if found else None


def auraflow(structure: Structure) -> Verdict | None:
    if structure.has("joint_transformer_blocks_N", "single_transformer_blocks_N_ff_linear_1"):
        return Verdict("auraflow", "joint_transformer_blocks")
    return None


def krea2(structure: Structure) -> Verdict | None:
    found = structure.has("\ntxtfusion_", "\ntext_fusion_", "\nblocks_N_attn_wq\n", "\nblocks_N_attn_gate\n")
    return Verdict("krea2", "blocks with attn.wq and attn.gate") if found else None


def anima(structure: Structure) -> Verdict | None:
    """Cosmos Predict 2 blocks; Anima adds an adapter for its language model and is 2048 wide."""
    names = ("\nllm_adapter_", "blocks_N_adaln_modulation_", "\nblocks_N_mlp_layer1", "\nblocks_N_mlp_layer2")
    projections = ("self_attn_output_proj", "cross_attn_output_proj", "\nblocks_N_self_attn_q_proj")
    if not structure.has(*names, *projections, "\nblocks_N_cross_attn_q_proj"):
        return None
    if structure.width("self_attn_q_proj", "self_attn_k_proj", "mlp_layer1") == 5120:
        return Verdict("cosmos", "blocks with q_proj and output_proj, hidden size 5120", "14B")
    return Verdict("anima", "blocks with q_proj and output_proj, mlp.layer1 or adaln_modulation")


def hunyuan_dit(structure: Structure) -> Verdict | None:
    if structure.has("attn1_Wqkv", "attn2_kv_proj", "default_modulation_1"):
        return Verdict("hunyuan-dit", "blocks with attn1.Wqkv or attn2.kv_proj")
    if structure.has("\nblocks_N_attn1_to_") and structure.width("attn1_to_q", "attn1_to_k", "attn1_to_v") == 1408:
        return Verdict("hunyuan-dit", "blocks with attn1, hidden size 1408")
    return None


def sd3(structure: Structure) -> Verdict | None:
    """The original's names: joint_blocks."""
    if not structure.has("joint_blocks_N"):
        return None
    width = structure.width(*_SD3_BLOCKS, *_SD3_MLP, square=("x_block_attn_proj", "context_block_attn_proj"))
    return _sd3_of(width, has_second_attention=structure.has("x_block_attn2")) or Verdict(
        "sd3-medium", "joint_blocks of unknown width", rivals=("sd35-medium", "sd35-large")
    )


def _sd3_of(width: int | None, *, has_second_attention: bool) -> Verdict | None:
    if width == 2432:
        return Verdict("sd35-large", "joint attention, hidden size 2432")
    if has_second_attention and width in (1536, None):
        return Verdict("sd35-medium", "joint attention with attn2, hidden size 1536")
    if width == 1536:
        return Verdict("sd3-medium", "joint attention, hidden size 1536", rivals=("sd35-medium",))
    return None


def qwen_image(structure: Structure) -> Verdict | None:
    found = structure.has("transformer_blocks_N_img_mlp_", "transformer_blocks_N_txt_mlp_")
    found = found or structure.has("transformer_blocks_N_img_mod_", "transformer_blocks_N_txt_mod_")
    return Verdict("qwen-image", "transformer_blocks with img_mlp or img_mod") if found else None


def joint(structure: Structure) -> Verdict | None:
    """diffusers' joint attention and nothing that names the model: the width and the number of blocks decide."""
    if not structure.has("\ntransformer_blocks_N_attn_"):
        return None
    width = structure.width(*_JOINT_ATTENTION, square=_JOINT_ATTENTION)
    by_width = _sd3_of(width, has_second_attention=structure.has("transformer_blocks_N_attn2_"))
    count = structure.depth("transformer_blocks_N")
    if by_width or width != 3072:
        return by_width or _joint_of(width, count)
    if count > 20:
        return Verdict("qwen-image", f"{count} transformer_blocks, hidden size 3072")
    if structure.has("_ff_net_", "_ff_context_net_", "norm1_linear"):
        return Verdict("flux1", "transformer_blocks with ff, hidden size 3072", rivals=("chroma", "hunyuan-video"))
    if structure.towers & {"bare", "kohya"}:  # how Qwen-Image trainers write; FLUX files have a prefix
        return Verdict("qwen-image", "transformer_blocks without prefix, hidden size 3072", rivals=("flux1", "chroma"))
    return Verdict("flux1", "transformer_blocks, hidden size 3072", rivals=("chroma", "qwen-image"))


def _joint_of(width: int | None, count: int) -> Verdict | None:
    """By width, where no two models share it but for the number of blocks."""
    evidence = f"joint attention, {hidden_size(width)}"
    if width == 4096 and count > _FLUX2_DOUBLE:
        return Verdict("qwen-image", f"{count} transformer_blocks, hidden size 4096", "2.1")
    known = _JOINT_WIDTHS.get(width or 0)
    return Verdict(known[0], evidence, known[1]) if known else None


def single_stream(structure: Structure) -> Verdict | None:
    """Z-Image, Lumina Image 2.0, OmniGen2 and Ideogram 4: layers and refiners."""
    if structure.has("ref_image_refiner_N"):
        return Verdict("omnigen2", "ref_image_refiner")
    if not structure.has(*_LAYERS_NAMES):
        return None
    width = structure.width(*_LAYERS_WIDTHS, square=("attention_out", "attention_to_out_0", "attention_to_q"))
    family = _BY_LAYERS_WIDTH.get(width or 0)
    return Verdict(family, f"layers with attention and feed_forward, {hidden_size(width)}") if family else None


RULES: tuple[Rule, ...] = (hidream, auraflow, krea2, anima, hunyuan_dit, sd3, qwen_image, single_stream)
# After every model with joint attention that something else names.
JOINT: tuple[Rule, ...] = (joint,)
