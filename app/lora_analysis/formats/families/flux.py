"""FLUX and the models that share its names: double-stream and single-stream blocks.

BFL and ComfyUI names keep the fused projections (``double_blocks``), diffusers splits them
(``single_transformer_blocks``). Widths and block counts are those of the published models: FLUX.1 and Chroma
3072 and 19 + 38 blocks; FLUX.2 dev 6144 and 8 + 48, klein 9B 4096 and 8 + 24, klein 4B 3072 and 5 + 20;
HunyuanVideo 3072 and 20 + 40, 1.5 2048; HunyuanImage 2.1 3584 and 20 + 40.
"""

from __future__ import annotations

from .structure import JOINT_ATTENTION, Structure, hidden_size
from .verdict import Rule, Verdict
from .vocabulary import UNKNOWN

_DOUBLE_ATTENTION = ("img_attn_proj", "txt_attn_proj", "img_attn_qkv", "txt_attn_qkv", "img_attn_q", "linear1")
_SPLIT_ATTENTION = (*JOINT_ATTENTION, "proj_mlp", "norm_linear")
_HIDDEN = 3072  # FLUX.1, Chroma, HunyuanVideo, FramePack, and FLUX.2 klein 4B
_XLABS = ("qkv_lora1", "qkv_lora2", "qkv_lora")
_BY_WIDTH = {
    3584: ("hunyuan-image", "2.1"),
    2048: ("hunyuan-video", "1.5"),
    4096: ("flux2", "klein-9b"),
    6144: ("flux2", "dev"),
}
_KLEIN_4B_TEXT = 7680
_HUNYUAN_NAMES = ("_mlp_fc1", "_mlp_fc2", "img_mod_linear", "txt_mod_linear", "modulation_linear", "token_refiner")
_SHARED_MODULATION = ("double_stream_modulation", "single_stream_modulation")
_MODULATION = ("img_mod_", "txt_mod_", "modulation_lin", "vector_in", "guidance_in")
_CONDITIONING = {128: "control", 384: "fill"}  # channels of img_in; 64 without
_WHOLE_BLOCKS = ("img_attn_qkv", "img_attn_proj", "img_mlp_0", "img_mlp_2", "txt_attn_qkv", "linear1", "linear2")


def fused(structure: Structure) -> Verdict | None:
    """BFL, ComfyUI, kohya and XLabs names."""
    if not structure.has("double_blocks_N", "single_blocks_N"):
        return None
    width = structure.width(*_DOUBLE_ATTENTION, *_XLABS, square=("img_attn_proj", "txt_attn_proj", "linear2"))
    if width in _BY_WIDTH:
        family, variant = _BY_WIDTH[width]
        return Verdict(family, f"double_blocks, {hidden_size(width)}", variant)
    return _hunyuan_video(structure) or _klein(structure) or _flux1_or_chroma(structure)


def _hunyuan_video(structure: Structure) -> Verdict | None:
    if structure.has(*_HUNYUAN_NAMES):
        return Verdict("hunyuan-video", "double_blocks with mlp.fc1 or modulation.linear names")
    double, single = structure.depth("double_blocks_N"), structure.depth("single_blocks_N")
    if double == 20 or single in (39, 40):
        return Verdict("hunyuan-video", f"{double} double and {single} single blocks")
    return None


def _klein(structure: Structure) -> Verdict | None:
    """FLUX.2 klein 4B is as wide as FLUX.1; its gated mlp is not."""
    if structure.has(*_SHARED_MODULATION):
        return Verdict("flux2", "double_blocks with one shared modulation", "klein-4b")
    gated = structure.outs("img_mlp_0", "txt_mlp_0") & {18432} or structure.outs("linear1") & {27648}
    if gated or _KLEIN_4B_TEXT in structure.inps("txt_in"):
        return Verdict("flux2", "double_blocks, hidden size 3072 with a gated mlp", "klein-4b")
    return None


def _flux1_or_chroma(structure: Structure) -> Verdict:
    variant = next((name for n, name in _CONDITIONING.items() if n in structure.inps("img_in")), None)
    if structure.has("distilled_guidance_layer", "nerf_blocks"):
        return Verdict("chroma", "double_blocks with distilled_guidance_layer")
    if structure.has(*_MODULATION):
        return Verdict("flux1", "double_blocks with modulation", variant)
    if "kohya" in structure.towers and structure.has_all(*_WHOLE_BLOCKS):
        # sd-scripts trains every linear layer of a block, so a FLUX.1 file of its making has modulation keys.
        # musubi-tuner's FLUX.1 Kontext trainer uses the same names and leaves modulation out. A header that names plain
        # FLUX.1 is believed less: Chroma files are known to carry it.
        evidence = "kohya names for whole double_blocks without modulation"
        return Verdict("chroma", evidence, overruled_by=("flux1/kontext",), alike=("flux1",))
    # ComfyUI spells HunyuanVideo's blocks like this too; its number of blocks was asked for before.
    return Verdict("flux1", "double_blocks without modulation keys", variant, rivals=("chroma", "hunyuan-video"))


def split(structure: Structure) -> Verdict | None:
    """diffusers names, also behind OneTrainer's, LyCORIS' and FramePack's prefixes."""
    if structure.has("to_qkv_mlp_proj", "ff_linear_in", "ff_context_linear_in"):
        width = structure.width("to_qkv_mlp_proj", "ff_linear_in", "ff_context_linear_in")
        variant = {3072: "klein-4b", 4096: "klein-9b", 6144: "dev"}.get(width or 0)
        return Verdict("flux2", "single_transformer_blocks with fused projections", variant)
    if not structure.has("single_transformer_blocks_N"):
        return None
    if structure.has("distilled_guidance_layer"):
        return Verdict("chroma", "single_transformer_blocks with distilled_guidance_layer")
    width = structure.width(*_SPLIT_ATTENTION, square=JOINT_ATTENTION)
    if width is not None and width != _HIDDEN:
        family, variant = _BY_WIDTH.get(width, (UNKNOWN, None))
        return Verdict(family, f"single_transformer_blocks, {hidden_size(width)}", variant)
    # "single_transformer_blocks" contains "transformer_blocks": the line start tells them apart.
    double = max((g.depth for g in structure.groups if g.pattern.startswith("transformer_blocks_N")), default=0)
    single = structure.depth("single_transformer_blocks_N")
    if _is_framepack(structure, double, single):
        return Verdict("framepack", "single_transformer_blocks behind lora_unet_", rivals=("hunyuan-video", "flux1"))
    if double == 20 or single in (39, 40) or structure.has("token_refiner"):
        evidence = f"{double} transformer_blocks and {single} single_transformer_blocks"
        return Verdict("hunyuan-video", evidence, rivals=("framepack",))
    if structure.has("_norm_linear", "norm1_linear", "norm1_context_linear", "time_text_embed_"):
        return Verdict("flux1", "single_transformer_blocks with modulation")
    return Verdict("flux1", "single_transformer_blocks without modulation keys", rivals=("chroma",))


def _is_framepack(structure: Structure, double: int, single: int) -> bool:
    """Its trainer puts lora_unet_ before diffusers' names. So do converters of FLUX.1, of 19 + 38 blocks."""
    if structure.has("clean_x_embedder"):
        return True
    is_flux = (double == 19 or single == 38) and double < 20 and single < 39
    return "kohya" in structure.towers and not is_flux


FUSED: tuple[Rule, ...] = (fused,)
# After the models that have single_transformer_blocks of another kind.
SPLIT: tuple[Rule, ...] = (split,)
