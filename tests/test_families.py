"""The base-model family: from names and shapes in every spelling, from the header, and where the two disagree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest

from layouts import index, load, needs_shared
from lora_analysis.adapter import BaseModel
from lora_analysis.formats.families import FAMILIES, LABELS, ModuleShape, infer_base_model
from lora_analysis.formats.families.wordings import EXACT, WORDINGS

Modules = dict[str, ModuleShape]
SPELLINGS = {
    "kohya": lambda name: "lora_unet_" + name.replace(".", "_"),
    "videox-fun": lambda name: "lora_unet__" + name.replace(".", "_"),
    "lycoris": lambda name: "lycoris_" + name.replace(".", "_"),
    "peft": lambda name: "base_model.model." + name,
    "diffusers": lambda name: "transformer." + name,
    "comfyui": lambda name: "diffusion_model." + name,
    "bare": lambda name: name,
}


def stack(names: Iterable[str], count: int, **widths: tuple[int, int]) -> Modules:
    """Blocks of modules: ``{}`` in a name is the index; ``widths`` are (out, in) by the last words of the name."""
    return {name.format(i): shape_of(name, widths) for i in range(count) for name in names}


def shape_of(name: str, widths: dict[str, tuple[int, int]]) -> ModuleShape:
    flat = name.replace(".", "_")
    ending = max((key for key in widths if flat.endswith(key)), key=len, default="other")
    out, inp = widths[ending]
    return ModuleShape(out, inp, ())


def square(names: Iterable[str], count: int, width: int) -> Modules:
    return stack(names, count, other=(width, width))


def spelled(modules: Modules, spelling: str) -> Modules:
    return {SPELLINGS[spelling](name): shape for name, shape in modules.items()}


def family(modules: Modules, metadata: dict[str, Any] | None = None, config: dict[str, Any] | None = None) -> str:
    return infer_base_model(modules, metadata or {}, config).family


# -- the reference layouts ---------------------------------------------------------------------------

# Roles at the end of a tensor's name, for a reader of shapes that shares no code with the package.
SUFFIXES = re.compile(
    r"(?P<module>.+?)(?:\.|_|:)?(?P<role>lora_down\.weight|lora_up\.weight|lora_A(?:\.\w+)?\.weight|lora_B(?:\.\w+)?\.weight"
    r"|lora_A|lora_B|lora_a|lora_b|lora\.down\.weight|lora\.up\.weight|_lora\.down\.weight|_lora\.up\.weight"
    r"|lora_linear_layer\.down\.weight|lora_linear_layer\.up\.weight|down\.weight|up\.weight|down|up|diff)$"
)


def modules_of(layout: dict[str, Any]) -> tuple[Modules, list[str]]:
    """(modules with low-rank pairs or differences, all other tensor names)."""
    halves: dict[str, list[int | None]] = {}
    rest = []
    is_mlx = layout.get("naming") == "mlx"
    for key, info in layout["tensors"].items():
        match = SUFFIXES.match(key)
        if match is None or not info["shape"]:
            rest.append(key)
            continue
        half = halves.setdefault(match["module"].rstrip("._"), [None, None])
        is_down = bool(re.search(r"down|_A|_a$", match["role"]))
        if match["role"] == "diff":
            half[:] = [info["shape"][0], info["shape"][1] if len(info["shape"]) > 1 else None]
        elif is_down:
            half[1] = info["shape"][0 if is_mlx else 1]
        else:
            half[0] = info["shape"][1 if is_mlx else 0]
    return {name: ModuleShape(out, inp, ()) for name, (out, inp) in halves.items()}, rest


@needs_shared
@pytest.mark.parametrize("entry", [pytest.param(e, id=e["file"]) for e in index()])
def test_every_reference_layout_gets_its_family(entry: dict[str, Any]) -> None:
    layout = load(entry["file"])
    modules, keys = modules_of(layout)
    found = infer_base_model(modules, layout.get("metadata") or {}, layout.get("adapter_config"), keys)
    assert found.family == entry["base_model_family"], found.evidence
    assert not found.conflict, found.evidence


# What the reader above takes shapes from; the rest needs shapes of its own to be told from names.
LOW_RANK = ("lora", "locon", "dora", "adalora", "lora+full", "flux-control", "lokr")
# Llama-3-8B has the shapes of Mistral-7B: names and shapes cannot give the second answer.
BY_SHAPE = [e for e in index() if e["adapter_type"] in LOW_RANK and not e["file"].startswith("mistral-7b")]


@needs_shared
@pytest.mark.parametrize("entry", [pytest.param(e, id=e["file"]) for e in BY_SHAPE])
def test_names_and_shapes_alone_suffice(entry: dict[str, Any]) -> None:
    modules, keys = modules_of(load(entry["file"]))
    assert infer_base_model(modules, {}, None, keys).family == entry["base_model_family"]


# -- families by names and shapes --------------------------------------------------------------------

SD3 = ("joint_blocks.{}.x_block.attn.qkv", "joint_blocks.{}.x_block.attn.proj", "joint_blocks.{}.context_block.mlp.fc1")
SD3_WIDTHS = {"qkv": (4608, 1536), "proj": (1536, 1536), "fc1": (6144, 1536)}
JOINT = ("transformer_blocks.{}.attn.to_q", "transformer_blocks.{}.attn.to_k", "transformer_blocks.{}.attn.add_q_proj")
CROSS = ("transformer_blocks.{}.attn1.to_q", "transformer_blocks.{}.attn1.to_v", "transformer_blocks.{}.attn2.to_q")
TEXT_KEY = "transformer_blocks.{}.attn2.to_k"
WAN = tuple(f"blocks.{{}}.{part}" for part in ("self_attn.q", "self_attn.o", "cross_attn.k", "cross_attn.v"))
WAN_DIFFUSERS = tuple(f"blocks.{{}}.{part}" for part in ("attn1.to_q", "attn1.to_out.0", "attn2.to_k", "attn2.to_v"))
FLUX = {
    "double_blocks.{}.img_attn.qkv": 9216, "double_blocks.{}.img_attn.proj": 3072, "double_blocks.{}.img_mlp.0": 12288,
    "double_blocks.{}.txt_attn.qkv": 9216, "double_blocks.{}.txt_attn.proj": 3072, "double_blocks.{}.txt_mlp.0": 12288,
}  # fmt: skip


def flux(*, with_modulation: bool) -> Modules:
    modules = {n.format(i): ModuleShape(out, 3072, ()) for i in range(19) for n, out in FLUX.items()}
    modules |= {n.replace("mlp.0", "mlp.2"): ModuleShape(3072, 12288, ()) for n in modules if "mlp.0" in n}
    modules |= {f"single_blocks.{i}.linear1": ModuleShape(21504, 3072, ()) for i in range(38)}
    modules |= {f"single_blocks.{i}.linear2": ModuleShape(3072, 15360, ()) for i in range(38)}
    if with_modulation:
        modules |= {f"double_blocks.{i}.img_mod.lin": ModuleShape(18432, 3072, ()) for i in range(19)}
    return modules


def flux_like(hidden: int, double: int, single: int) -> Modules:
    blocks = stack(("double_blocks.{}.img_attn.qkv",), double, other=(3 * hidden, hidden))
    return blocks | stack(("single_blocks.{}.linear2",), single, other=(hidden, 4 * hidden))


ALL = ("kohya", "peft", "diffusers", "comfyui", "bare")
BY_NAMES: list[tuple[str, str, Modules, tuple[str, ...]]] = [
    (
        "sd35-medium",
        "joint_blocks",
        square(("joint_blocks.{}.x_block.attn2.qkv",), 13, 1536) | stack(SD3, 24, **SD3_WIDTHS),
        ALL,
    ),
    ("sd35-medium", "diffusers", square((*JOINT, "transformer_blocks.{}.attn2.to_q"), 13, 1536), ALL),
    ("sd3-medium", "joint_blocks", stack(SD3, 24, **SD3_WIDTHS), ALL),
    ("sd35-large", "diffusers", square(JOINT, 38, 2432), ALL),
    ("flux1", "modulation", flux(with_modulation=True), ("kohya", "comfyui", "bare")),
    ("flux1", "no modulation", flux(with_modulation=False), ("comfyui", "bare")),
    ("chroma", "no modulation", flux(with_modulation=False), ("kohya",)),
    (
        "chroma",
        "guidance layer",
        {**flux(with_modulation=False), "distilled_guidance_layer.in_proj": ModuleShape(5120, 64, ())},
        ALL,
    ),
    (
        "chroma",
        "diffusers",
        square(("single_transformer_blocks.{}.attn.to_q",), 38, 3072)
        | {"distilled_guidance_layer.in_proj": ModuleShape(5120, 64, ())},
        ALL,
    ),
    ("flux2", "dev", flux_like(6144, 8, 48), ALL),
    ("flux2", "klein 9B", flux_like(4096, 8, 24), ALL),
    ("flux2", "klein 4B", {f"double_blocks.{i}.img_mlp.0": ModuleShape(18432, 3072, ()) for i in range(5)}, ALL),
    ("flux2", "diffusers", stack(("single_transformer_blocks.{}.attn.to_qkv_mlp_proj",), 48, other=(55296, 6144)), ALL),
    ("hunyuan-image", "2.1", flux_like(3584, 20, 40), ALL),
    ("hunyuan-video", "names", stack(("double_blocks.{}.img_mlp.fc1",), 2, other=(12288, 3072)), ALL),
    ("hunyuan-video", "count", flux_like(3072, 20, 40), ALL),
    ("hunyuan-video", "1.5", stack(("double_blocks.{}.img_attn_q",), 54, other=(2048, 2048)), ALL),
    (
        "framepack",
        "",
        square(("single_transformer_blocks.{}.attn.to_q",), 40, 3072) | square(JOINT, 20, 3072),
        ("kohya",),
    ),
    (
        "hunyuan-video",
        "diffusers",
        square(("single_transformer_blocks.{}.attn.to_q",), 40, 3072) | square(JOINT, 20, 3072),
        ("diffusers",),
    ),
    (
        "auraflow",
        "",
        square(("joint_transformer_blocks.{}.attn.to_q", "single_transformer_blocks.{}.attn.to_q"), 4, 3072),
        ALL,
    ),
    ("hidream", "", square(("double_stream_blocks.{}.block.attn1.to_q",), 16, 2560), ALL),
    ("qwen-image", "names", stack(("transformer_blocks.{}.img_mlp.net.0.proj",), 60, other=(12288, 3072)), ALL),
    ("qwen-image", "attention only", square(JOINT, 60, 3072), ALL),
    ("z-image", "native", stack(("layers.{}.attention.qkv",), 30, other=(11520, 3840)), (*ALL, "videox-fun")),
    ("z-image", "diffusers", square(("layers.{}.attention.to_q",), 30, 3840), (*ALL, "videox-fun")),
    ("lumina2", "diffusers", square(("layers.{}.attn.to_q",), 26, 2304), ALL),
    ("omnigen2", "", square(("layers.{}.attn.to_q", "ref_image_refiner.{}.attn.to_q"), 2, 2520), ALL),
    ("omnigen2", "layers only", square(("layers.{}.attn.to_q",), 32, 2520), ALL),
    ("anima", "", square(("blocks.{}.self_attn.q_proj", "blocks.{}.cross_attn.output_proj"), 28, 2048), ALL),
    ("krea2", "", square(("blocks.{}.attn.wq", "blocks.{}.attn.gate"), 28, 6144), ALL),
    ("hunyuan-dit", "native", stack(("blocks.{}.attn1.Wqkv", "blocks.{}.attn2.kv_proj"), 40, other=(4224, 1408)), ALL),
    ("hunyuan-dit", "diffusers", square(("blocks.{}.attn1.to_q", "blocks.{}.attn2.to_q"), 40, 1408), ALL),
    ("mochi", "native", stack(("blocks.{}.attn.qkv_x",), 48, other=(9216, 3072)), ALL),
    (
        "mochi",
        "diffusers",
        square(("transformer_blocks.{}.attn1.to_q", "transformer_blocks.{}.attn1.add_q_proj"), 48, 3072),
        ALL,
    ),
    ("sana", "names", square((*CROSS, "transformer_blocks.{}.ff.conv_inverted"), 28, 1152), ALL),
    ("sana", "1.6B", square(CROSS, 20, 2240), ALL),
    ("pixart", "", square((*CROSS, "transformer_blocks.{}.ff.net.2"), 28, 1152), ALL),
    ("ltx-video", "2B", square(CROSS, 28, 2048), ALL),
    ("ltx-video", "13B", square(CROSS, 48, 4096), ALL),
    ("ltx2", "", square((*CROSS, "transformer_blocks.{}.audio_attn1.to_q"), 48, 4096), ALL),
    ("cogvideox", "2B", square(("transformer_blocks.{}.attn1.to_q",), 30, 1920), ALL),
    ("kandinsky5", "", square(("visual_transformer_blocks.{}.self_attention.to_query",), 32, 1792), ALL),
    ("wan", "1.3B", square(WAN, 30, 1536), (*ALL, "videox-fun")),
    ("wan", "diffusers", square(WAN_DIFFUSERS, 40, 5120), ALL),
    ("cosmos", "14B", square(("blocks.{}.self_attn.q_proj", "blocks.{}.self_attn.output_proj"), 36, 5120), ALL),
    *(
        ("cosmos", f"diffusers {width}", stack((*CROSS, TEXT_KEY), 28, to_k=(width, 1024), other=(width, width)), ALL)
        for width in (2048, 4096, 5120)
    ),
    ("hunyuan-video", "1.5 diffusers", square((*JOINT, "transformer_blocks.{}.ff.net.2"), 54, 2048), ALL),
    (
        "hunyuan-image",
        "2.1 diffusers",
        square((*JOINT, "single_transformer_blocks.{}.attn.to_q"), 20, 3584),
        ALL,
    ),
    ("qwen-image", "2.1", square(JOINT[:2], 32, 4096), ALL),
    ("flux2", "klein 9B attention only", square(JOINT, 8, 4096), ALL),
    ("minimax-h3", "", stack(JOINT[:2], 48, other=(7168, 5376)), ALL),
    ("ideogram4", "", square(("layers.{}.attention.to_q", "layers.{}.attention.to_out.0"), 34, 4608), ALL),
    (
        "stable-cascade",
        "diffusers",
        square(("down_blocks.0.{}.attention.to_q", "up_blocks.1.{}.kv_mapper.1"), 24, 2048),
        ALL,
    ),
    (
        "unknown",
        "like FLUX.1, of another width",
        square((*JOINT, "single_transformer_blocks.{}.attn.to_q"), 12, 1536),
        ("diffusers",),
    ),
]


@pytest.mark.parametrize(
    ("expected", "modules", "spelling"),
    [
        pytest.param(expected, modules, spelling, id=f"{expected}-{what}-{spelling}".replace(" ", "-"))
        for expected, what, modules, spellings in BY_NAMES
        for spelling in spellings
    ],
)
def test_an_image_or_video_family_is_known_in_every_spelling(expected: str, modules: Modules, spelling: str) -> None:
    found = infer_base_model(spelled(modules, spelling), {})
    assert found.family == expected, found.evidence


@pytest.mark.parametrize(
    ("modules", "variant"),
    [
        (square(WAN, 30, 1536), "1.3B"),
        (square(WAN, 40, 5120), "14B"),
        (square(WAN, 30, 3072), "5B"),
        (square((*WAN, "blocks.{}.cross_attn.k_img"), 40, 5120), "14B i2v"),
        (square((*WAN_DIFFUSERS, "blocks.{}.attn2.add_k_proj"), 40, 5120), "14B i2v"),
        ({"img_in": ModuleShape(3072, 128, ()), **flux(with_modulation=True)}, "control"),
        ({"img_in": ModuleShape(3072, 384, ()), **flux(with_modulation=True)}, "fill"),
        ({"img_in": ModuleShape(3072, 64, ()), **flux(with_modulation=True)}, None),
    ],
)
def test_the_variant_follows_widths_and_extra_modules(modules: Modules, variant: str | None) -> None:
    assert infer_base_model(modules, {}).variant == variant


# -- UNets -------------------------------------------------------------------------------------------


def unet(names: Iterable[str], width: int, context: int | None = None, kernel: tuple[int, ...] = ()) -> Modules:
    return {
        name: ModuleShape(width, context if context and "attn2_to_k" in name.replace(".", "_") else width, kernel)
        for name in names
    }


SD_BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
UNETS: list[tuple[str, Modules]] = [
    ("sd15", unet([f"lora_unet_{SD_BLOCK.replace('.', '_')}_attn2_to_k"], 320, 768)),
    ("sd21", unet([f"unet.{SD_BLOCK}.attn2.to_k"], 320, 1024)),
    ("sdxl", unet(["lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k"], 640, 2048)),
    ("sdxl", unet(["base_model.model.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"], 640, 2048)),
    ("sdxl", unet([f"lora_unet_middle_block_1_transformer_blocks_{i}_attn1_to_q" for i in range(10)], 1280)),
    (
        "sdxl",
        unet([f"unet.mid_block.attentions.0.transformer_blocks.{i}.attn1.processor.to_q" for i in range(3)], 1280),
    ),
    ("sdxl", unet(["lora_unet_label_emb_0_0", "lora_unet_input_blocks_1_0_in_layers_2"], 1280)),
    (
        "sdxl-refiner",
        unet([f"lora_unet_input_blocks_4_1_transformer_blocks_{i}_attn2_to_k" for i in range(4)], 768, 1280),
    ),
    ("sdxl-refiner", unet(["lora_unet_middle_block_1_transformer_blocks_0_attn1_to_q"], 1536)),
    ("sdxl-refiner", {"lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k": ModuleShape(None, 1280, ())}),
    ("sd15", unet(["lora_unet_down_blocks_0_attentions_0_proj_in"], 320, kernel=(1, 1))),
    ("sd15", unet(["lora_unet_up_blocks_3_attentions_0_transformer_blocks_0_attn1_to_q"], 320)),
    ("sd15", unet(["unet:3"], 320) | {"unet:4": ModuleShape(320, 768, ())}),
    ("sdxl", unet(["unet:3"], 640) | {"unet:4": ModuleShape(640, 2048, ())}),
    ("sd15", unet(["unet.down_blocks.0.motion_modules.0.temporal_transformer_blocks.0.attention_blocks.0.to_q"], 320)),
    ("stable-cascade", unet(["lora_prior_unet_down_blocks_0_2_attention_attn_to_q"], 2048)),
    (
        "kolors",
        unet(["unet.encoder_hid_proj", "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"], 640, 2048),
    ),
    ("sdxl", unet(["lora_unet_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn1_to_q"], 640)),
]


@pytest.mark.parametrize(("expected", "modules"), UNETS)
def test_a_unet_is_told_by_context_channels_and_depth(expected: str, modules: Modules) -> None:
    found = infer_base_model(modules, {})
    assert found.family == expected, found.evidence


def test_an_sdxl_file_of_shallow_blocks_only_is_called_ambiguous() -> None:
    modules = unet(["lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q"], 640)
    found = infer_base_model(modules, {})
    assert (found.from_keys, "sdxl" in found.evidence) == (None, True)
    assert infer_base_model(modules, {"ss_base_model_version": "sdxl_base_v1-0"}).family == "sdxl"


def test_output_widths_of_an_opaque_unet_are_not_taken_for_a_context_width() -> None:
    # IA3 on keys and values stores one vector of each module's output width: 320, 640 and 1280 here.
    blocks = ("lora_unet_down_blocks_{}_attentions_0_transformer_blocks_0_attn2_to_k",)
    modules = {n.format(i): ModuleShape(None, 320 * 2**i, ()) for i in range(3) for n in blocks}
    modules |= {"lora_te_text_model_encoder_layers_0_self_attn_k_proj": ModuleShape(None, 768, ())}
    assert family(modules) == "sd15"


# -- text encoders alone -----------------------------------------------------------------------------


def clip(prefix: str, width: int) -> Modules:
    return {f"{prefix}text_model_encoder_layers_0_self_attn_q_proj": ModuleShape(width, width, ())}


def t5(prefix: str) -> Modules:
    return {f"{prefix}encoder_block_0_layer_0_SelfAttention_q": ModuleShape(4096, 4096, ())}


def te_llm(hidden: int, q: int, kv: int, layers: int) -> Modules:
    names = ("lora_te_layers_{}_self_attn_q_proj", "lora_te_layers_{}_self_attn_k_proj")
    return stack(names, layers, q_proj=(q, hidden), k_proj=(kv, hidden))


@pytest.mark.parametrize(
    ("expected", "modules"),
    [
        ("sd15", clip("lora_te_", 768)),
        ("sd21", clip("lora_te_", 1024)),
        ("sdxl", clip("lora_te1_", 768) | clip("lora_te2_", 1280)),
        ("sdxl", clip("lora_te1_", 768)),
        ("sdxl", {"text_encoder_2.text_model.encoder.layers.0.self_attn.to_q": ModuleShape(1280, 1280, ())}),
        ("sdxl", {"text_encoders.clip_g.transformer.text_model.encoder.layers.0.mlp.fc1": ModuleShape(5120, 1280, ())}),
        ("sd3-medium", clip("lora_te1_", 768) | clip("lora_te2_", 1280) | t5("lora_te3_")),
        ("flux1", clip("lora_te1_", 768) | t5("lora_te3_")),
        ("flux1", clip("lora_te1_", 768) | t5("lora_te2_")),
        ("anima", te_llm(1024, 2048, 1024, 28)),
        ("lumina2", te_llm(2304, 2048, 1024, 26)),
    ],
)
def test_a_file_of_text_encoders_names_its_pipeline(expected: str, modules: Modules) -> None:
    found = infer_base_model(modules, {})
    assert found.family == expected, found.evidence


def test_a_bundled_embedding_says_which_encoders_there_are() -> None:
    assert infer_base_model({}, {}, None, ["bundle_emb.token.clip_g", "bundle_emb.token.clip_l"]).family == "sdxl"


# -- language models ---------------------------------------------------------------------------------

LLM_SPELLINGS = {
    "peft": "base_model.model.model.layers.{}.{}",
    "mlx": "model.layers.{}.{}",
    "vlm": "base_model.model.model.language_model.layers.{}.{}",
    "lycoris": "lycoris_model_layers_{}_{}",
}


def llm(hidden: int, q: int, kv: int, ffn: int, layers: int, spelling: str = "peft") -> Modules:
    widths = {
        "self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.o_proj": (hidden, q),
        "mlp.gate_proj": (ffn, hidden), "mlp.down_proj": (hidden, ffn),
    }  # fmt: skip
    if spelling == "gguf":
        names = ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_down")
        pairs = zip(names, widths.values(), strict=True)
        return {f"blk.{i}.{n}.weight": ModuleShape(*w, ()) for n, w in pairs for i in range(layers)}
    pattern = LLM_SPELLINGS[spelling]
    modules = {pattern.format(i, part): ModuleShape(*w, ()) for i in range(layers) for part, w in widths.items()}
    return {n.replace(".", "_"): s for n, s in modules.items()} if spelling == "lycoris" else modules


# Published config.json values: hidden_size, heads * head_dim, kv heads * head_dim, intermediate_size, layers.
SIZES = [
    ("llama", (4096, 4096, 1024, 14336, 32)),
    ("llama", (8192, 8192, 1024, 28672, 80)),
    ("llama", (2048, 2048, 512, 8192, 16)),
    ("llama", (3072, 3072, 1024, 8192, 28)),
    ("mistral", (5120, 4096, 1024, 14336, 40)),
    ("qwen2", (3584, 3584, 512, 18944, 28)),
    ("qwen2", (896, 896, 128, 4864, 24)),
    ("qwen3", (5120, 5120, 1024, 17408, 40)),
    ("qwen3", (2560, 4096, 1024, 9728, 36)),
    ("gemma", (3072, 4096, 4096, 24576, 28)),
    ("gemma2", (3584, 4096, 2048, 14336, 42)),
    ("gemma2", (2304, 2048, 1024, 9216, 26)),
    ("gemma3", (2560, 2048, 1024, 10240, 34)),
    ("granite", (2048, 2048, 512, 8192, 40)),
    ("stablelm", (5120, 5120, 1280, 13824, 40)),
    ("cohere", (8192, 8192, 1024, 24576, 40)),
]


@pytest.mark.parametrize("spelling", [*LLM_SPELLINGS, "gguf"])
@pytest.mark.parametrize(("expected", "size"), SIZES)
def test_a_decoder_is_known_by_its_widths(expected: str, size: tuple[int, ...], spelling: str) -> None:
    found = infer_base_model(llm(*size, spelling=spelling), {})
    assert found.family == expected, found.evidence


def test_a_decoder_of_no_published_size_stays_unknown() -> None:
    found = infer_base_model(llm(1111, 1111, 1111, 3333, 7), {})
    assert (found.family, found.from_keys, found.from_header) == ("unknown", None, None)
    assert (
        infer_base_model(llm(1111, 1111, 1111, 3333, 7), {}, {"base_model_name_or_path": "x/my-llama"}).family
        == "llama"
    )


@pytest.mark.parametrize("layers", [range(1), range(28, 32), range(32), [0, 99]])
def test_a_few_layers_or_one_too_many_do_not_hide_the_size(layers: Iterable[int]) -> None:
    modules = {
        f"base_model.model.model.layers.{i}.mlp.{part}": ModuleShape(*widths, ())
        for i in layers
        for part, widths in (("gate_proj", (14336, 4096)), ("down_proj", (4096, 14336)))
    }
    assert family(modules, config={"base_model_name_or_path": "mistralai/Mistral-7B-v0.1"}) == "mistral"


# Trained on attention alone, as most are: hidden, q, kv, layers, and what the configuration calls the base.
ATTENTION_OF_MIXTURES = [
    ("mixtral", (4096, 4096, 1024, 32), "mistralai/Mixtral-8x7B-Instruct-v0.1"),
    ("mixtral", (6144, 6144, 1024, 56), "mistralai/Mixtral-8x22B-v0.1"),
    ("llama4", (5120, 5120, 1024, 48), "meta-llama/Llama-4-Scout-17B-16E"),
    ("qwen2-moe", (2048, 2048, 2048, 24), "Qwen/Qwen1.5-MoE-A2.7B"),
    ("qwen3-moe", (2048, 4096, 512, 48), "Qwen/Qwen3-30B-A3B"),
    ("olmoe", (2048, 2048, 2048, 16), "allenai/OLMoE-1B-7B-0924"),
]


@pytest.mark.parametrize(("expected", "size", "base"), ATTENTION_OF_MIXTURES)
def test_attention_alone_does_not_contradict_a_mixture(expected: str, size: tuple[int, ...], base: str) -> None:
    hidden, q, kv, layers = size
    names = tuple(f"base_model.model.model.layers.{{}}.self_attn.{part}" for part in ("q_proj", "v_proj"))
    modules = stack(names, layers, q_proj=(q, hidden), v_proj=(kv, hidden))
    found = infer_base_model(modules, {}, {"base_model_name_or_path": base})
    assert (found.family, found.conflict) == (expected, False), found.evidence


def test_attention_of_a_shape_only_a_mixture_has_names_it() -> None:
    modules = stack(("model.layers.{}.self_attn.q_proj",), 48, other=(8192, 4096))
    assert infer_base_model(modules, {}).family == "qwen3-moe"


def test_query_norms_tell_qwen3_from_models_of_its_size() -> None:
    modules = llm(4096, 4096, 1024, 12288, 36)
    keys = ["base_model.model.model.layers.0.self_attn.q_norm.weight"]
    assert infer_base_model(modules, {}).from_keys is None
    assert infer_base_model(modules, {}, None, keys).from_keys == "qwen3"


OWN_NAMES = [
    ("mixtral", "model.layers.{}.block_sparse_moe.experts.0.w1", 14336, 4096),
    ("phi3", "model.layers.{}.self_attn.qkv_proj", 9216, 3072),
    ("phi2", "model.layers.{}.self_attn.dense", 2560, 2560),
    ("deepseek", "model.layers.{}.self_attn.kv_a_proj_with_mqa", 576, 2048),
    ("qwen2-moe", "model.layers.{}.mlp.shared_expert.gate_proj", 5632, 2048),
    ("qwen3-moe", "model.layers.{}.mlp.experts.0.gate_proj", 768, 2048),
    ("starcoder2", "model.layers.{}.mlp.c_fc", 12288, 3072),
    ("internlm2", "model.layers.{}.attention.wqkv", 6144, 4096),
    ("baichuan", "model.layers.{}.self_attn.W_pack", 12288, 4096),
    ("llama4", "language_model.model.layers.{}.feed_forward.shared_expert.gate_proj", 8192, 5120),
    ("gpt2", "transformer.h.{}.attn.c_attn", 2304, 768),
    ("starcoder", "transformer.h.{}.attn.c_attn", 6400, 6144),
    ("gptj", "transformer.h.{}.attn.q_proj", 4096, 4096),
    ("gpt-neo", "transformer.h.{}.attn.attention.q_proj", 2048, 2048),
    ("falcon", "transformer.h.{}.self_attention.query_key_value", 4672, 4544),
    ("falcon", "transformer.h.{}.self_attention.query_key_value", 9216, 8192),
    ("bloom", "transformer.h.{}.self_attention.query_key_value", 12288, 4096),
    ("bloom", "transformer.h.{}.self_attention.query_key_value", 8192, 4096),
    ("gpt-neox", "gpt_neox.layers.{}.attention.query_key_value", 6144, 2048),
    ("chatglm", "transformer.encoder.layers.{}.self_attention.query_key_value", 4608, 4096),
    ("mpt", "transformer.blocks.{}.attn.Wqkv", 12288, 4096),
    ("opt", "model.decoder.layers.{}.self_attn.q_proj", 768, 768),
    ("opt", "model.decoder.layers.{}.fc1", 3072, 768),
    ("mamba", "backbone.layers.{}.mixer.in_proj", 5120, 2560),
    ("bert", "bert.encoder.layer.{}.attention.self.query", 768, 768),
    ("bert", "encoder.layer.{}.attention.self.query", 768, 768),
    ("roberta", "roberta.encoder.layer.{}.attention.self.value", 768, 768),
    ("deberta", "deberta.encoder.layer.{}.attention.self.query_proj", 768, 768),
    ("electra", "electra.encoder.layer.{}.attention.self.query", 256, 256),
    ("distilbert", "transformer.layer.{}.attention.q_lin", 768, 768),
    ("t5", "decoder.block.{}.layer.1.EncDecAttention.q", 512, 512),
    ("bart", "model.encoder.layers.{}.self_attn.q_proj", 768, 768),
    ("vit", "vit.encoder.layer.{}.attention.attention.query", 768, 768),
    ("dinov2", "dinov2.encoder.layer.{}.attention.attention.query", 768, 768),
    ("swin", "swin.encoder.layers.{}.blocks.0.attention.self.query", 96, 96),
    ("clip", "vision_model.encoder.layers.{}.self_attn.q_proj", 1024, 1024),
    ("siglip", "vision_model.encoder.layers.{}.self_attn.q_proj", 1152, 1152),
    ("wav2vec2", "wav2vec2.encoder.layers.{}.attention.q_proj", 768, 768),
    ("wav2vec2", "encoder.layers.{}.feed_forward.intermediate_dense", 3072, 768),
    ("hubert", "hubert.encoder.layers.{}.attention.q_proj", 768, 768),
    ("sam", "vision_encoder.layers.{}.attn.qkv", 2304, 768),
    ("blip", "vision_model.encoder.layers.{}.self_attn.qkv", 2304, 768),
    ("llava", "vision_tower.vision_model.encoder.layers.{}.self_attn.q_proj", 1024, 1024),
]


@pytest.mark.parametrize(("expected", "name", "out", "inp"), OWN_NAMES)
def test_a_language_or_vision_family_is_known_by_its_names(expected: str, name: str, out: int, inp: int) -> None:
    modules = stack((f"base_model.model.{name}",), 6, other=(out, inp))
    found = infer_base_model(modules, {})
    assert found.family == expected, found.evidence


# -- the header alone --------------------------------------------------------------------------------

VERSIONS = {
    "sd15": ("sd_v1", "sd_v1_v", "sd_1.5"),
    "sd21": ("sd_v2", "sd_v2_v", "sd_2.1"),
    "sdxl": ("sdxl_base_v1-0", "sdxl_", "sdxl_1.0"),
    "sd3-medium": ("medium", "sd3m", "sd3"),
    "sd35-medium": ("5-medium",),
    "sd35-large": ("5-large",),
    "flux1": ("flux1", "flux_kontext", "flux.1_kontext", "FLUX.1-dev"),
    "flux2": ("flux_2_dev", "flux_2_klein_4b", "flux_2_klein_9b", "flux2", "flux2_klein_4b", "FLUX_KLEIN_9B"),
    "chroma": ("chroma", "chroma_radiance"),
    "lumina2": ("lumina2",),
    "hunyuan-image": ("hunyuan-image-2.1",),
    "anima": ("anima",),
    "hunyuan-video": ("hunyuan_video", "hunyuan_video_1_5"),
    "wan": ("wan", "wan_2.1", "wan_2.2_14b", "wan_2.2_5b"),
    "framepack": ("framepack",),
    "qwen-image": ("qwen_image", "qwen_image_edit", "qwen_image_layered"),
    "kandinsky5": ("kandinsky5",),
    "z-image": ("z_image", "zimage"),
    "hidream": ("hidream_o1_image", "hidream_i1"),
    "ideogram4": ("ideogram4",),
    "krea2": ("krea2",),
    "omnigen2": ("omnigen2",),
    "ltx2": ("ltx2",),
    "pixart": ("pixart",),
    "f-lite": ("f-lite",),
    "minimax-h3": ("minimax_h3",),
}
ARCHITECTURES = {
    "sd15": ("stable-diffusion-v1/lora",),
    "sd21": ("stable-diffusion-v2-512/lora", "stable-diffusion-v2-768-v/lora"),
    "sdxl": ("stable-diffusion-xl-v1-base/lora",),
    "sd3-medium": ("stable-diffusion-3-medium/lora",),
    "sd35-large": ("stable-diffusion-3-5-large/lora",),
    "flux1": ("flux-1-dev/lora", "flux-1-schnell/lora", "Flux.1-dev/lora"),
    "chroma": ("chroma/lora",),
    "lumina2": ("lumina-2/lora",),
    "hunyuan-image": ("hunyuan-image-2.1/lora",),
    "anima": ("anima-preview/lora",),
    "hunyuan-video": ("hunyuan-video/lora", "hunyuan-video-1.5/lora"),
    "wan": ("wan2.1/lora",),
    "framepack": ("framepack/lora",),
    "flux2": ("Flux.2-dev/lora", "Flux.2-klein-4b/lora", "Flux.2-klein-9b/lora"),
    "qwen-image": ("Qwen-Image/lora", "Qwen-Image-Edit/lora", "Qwen-Image-Edit-2509/lora"),
    "kandinsky5": ("Kandinsky-5/lora",),
    "z-image": ("Z-Image/lora",),
    "hidream": ("HiDream-O1-Image/lora",),
    "ideogram4": ("Ideogram-4/lora",),
    "krea2": ("Krea-2/lora",),
}
BASES = {
    "llama": (
        "meta-llama/Meta-Llama-3-8B",
        "unsloth/llama-3-8b-bnb-4bit",
        "/home/u/models/Llama-2-7b-hf/",
        "lmsys/vicuna-7b-v1.5",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
        "deepseek-ai/deepseek-coder-6.7b-base",
        "C:\\models\\TinyLlama-1.1B",
    ),
    "mistral": ("mistralai/Mistral-7B-v0.1", "HuggingFaceH4/zephyr-7b-beta", "TheBloke/Mistral-7B-Instruct-v0.2-GPTQ"),
    "mixtral": ("mistralai/Mixtral-8x7B-v0.1",),
    "qwen2": ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen1.5-7B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"),
    "qwen2-vl": ("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2-VL-7B"),
    "qwen3": ("Qwen/Qwen3-8B",),
    "qwen3-moe": ("Qwen/Qwen3-30B-A3B",),
    "gemma": ("google/gemma-2b",),
    "gemma2": ("google/gemma-2-2b-it", "unsloth/gemma-2-9b-bnb-4bit"),
    "gemma3": ("google/gemma-3-4b-it",),
    "phi2": ("microsoft/phi-2", "microsoft/phi-1_5"),
    "phi3": ("microsoft/Phi-3-mini-4k-instruct", "microsoft/phi-4"),
    "bloom": ("bigscience/bloomz-560m",),
    "falcon": ("tiiuae/falcon-7b",),
    "gpt2": ("gpt2", "openai-community/gpt2-xl"),
    "gpt-neox": ("EleutherAI/pythia-1.4b",),
    "opt": ("facebook/opt-350m",),
    "deepseek": ("deepseek-ai/DeepSeek-V3",),
    "distilbert": ("distilbert-base-uncased",),
    "roberta": ("FacebookAI/xlm-roberta-base", "distilroberta-base"),
    "deberta": ("microsoft/deberta-v3-base",),
    "bert": ("google-bert/bert-base-uncased",),
    "t5": ("t5-small", "google/flan-t5-xl", "google/mt5-base"),
    "bart": ("facebook/bart-large-cnn",),
    "mbart": ("facebook/mbart-large-50",),
    "whisper": ("openai/whisper-small",),
    "hubert": ("facebook/hubert-base-ls960",),
    "vit": ("google/vit-base-patch16-224-in21k",),
    "clip": ("openai/clip-vit-large-patch14",),
    "siglip": ("google/siglip-base-patch16-224",),
    "dinov2": ("facebook/dinov2-base",),
    "llava": ("llava-hf/llava-v1.6-mistral-7b-hf",),
    "sdxl": ("stabilityai/stable-diffusion-xl-base-1.0",),
    "sd15": ("runwayml/stable-diffusion-v1-5",),
    "sd21": ("stabilityai/stable-diffusion-2-1",),
    "sd35-medium": ("stabilityai/stable-diffusion-3.5-medium",),
    "flux1": ("black-forest-labs/FLUX.1-dev", "black-forest-labs/FLUX.1-Krea-dev"),
    "qwen-image": ("Qwen/Qwen-Image",),
    "wan": ("Wan-AI/Wan2.2-I2V-A14B-Diffusers",),
    "ltx-video": ("Lightricks/LTX-Video",),
}


def flat(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(expected, value) for expected, values in table.items() for value in values]


@pytest.mark.parametrize(("expected", "value"), flat(VERSIONS))
def test_a_version_in_the_header_is_read(expected: str, value: str) -> None:
    found = infer_base_model({}, {"ss_base_model_version": value})
    assert (found.family, found.from_keys, found.from_header) == (expected, None, expected)
    assert infer_base_model({}, {"ss_base_model_version": value.upper()}).family == expected


@pytest.mark.parametrize(("expected", "value"), flat(ARCHITECTURES))
def test_an_architecture_in_the_header_is_read(expected: str, value: str) -> None:
    assert infer_base_model({}, {"modelspec.architecture": value}).family == expected


@pytest.mark.parametrize(("expected", "value"), flat(BASES))
def test_a_base_model_in_the_configuration_is_read(expected: str, value: str) -> None:
    assert infer_base_model({}, {}, {"base_model_name_or_path": value}).family == expected


@pytest.mark.parametrize(
    ("expected", "metadata", "config"),
    [
        ("sd21", {"ss_v2": "True"}, None),
        ("sd21", {"ss_v2": True}, None),
        ("sd15", {"ss_v2": "False"}, None),
        ("sdxl", {"ss_v2": "False", "ss_base_model_version": "sdxl_base_v1-0"}, None),
        ("qwen2", {}, {"model": "mlx-community/Qwen2.5-0.5B-Instruct-4bit"}),
        ("flux1", {"lora_adapter_metadata": json.dumps({"transformer.base_model_name_or_path": "FLUX.1-dev"})}, None),
        ("gemma2", {"general.architecture": "gemma2"}, None),
        ("wan", {"ss_network_module": "networks.lora_wan"}, None),
        (
            "llama",
            {},
            {"base_model_name_or_path": "/tmp/out", "auto_mapping": {"base_model_class": "LlamaForCausalLM"}},
        ),
        ("llama", {}, {"base_model_name_or_path": "/cache/models--meta-llama--Llama-2-7b/snapshots/0a1b2c"}),
        ("mistral", {}, {"base_model_name_or_path": "/home/llama/models/mistral-7b"}),
        ("llama", {}, {"base_model_name_or_path": "/srv/flux/mistral/Llama-2-7b"}),
        ("sdxl", {"ss_sd_model_name": "ponyDiffusionV6XL.safetensors"}, None),
        ("sdxl", {"ot_config": json.dumps({"base_model_name": "stabilityai/stable-diffusion-xl-base-1.0"})}, None),
        ("unknown", {"ss_base_model_version": ""}, None),
        ("unknown", {}, {"base_model_name_or_path": "/tmp/checkpoint-500"}),
    ],
)
def test_every_source_of_the_header_is_read(
    expected: str, metadata: dict[str, Any], config: dict[str, Any] | None
) -> None:
    assert infer_base_model({}, metadata, config).family == expected


# -- two sources -------------------------------------------------------------------------------------


def answer(found: BaseModel) -> tuple[str, str | None, str | None, bool]:
    return found.family, found.from_keys, found.from_header, found.conflict


def version(value: object) -> dict[str, Any]:
    return {"ss_base_model_version": value}


def test_conclusive_names_win_over_the_header_and_both_are_shown() -> None:
    found = infer_base_model(spelled(flux(with_modulation=False), "kohya"), version("flux1"))
    assert answer(found) == ("chroma", "chroma", "flux1", True)
    assert "'flux1' disagrees" in found.evidence


def test_without_a_header_a_kohya_file_without_modulation_may_be_flux_all_the_same() -> None:
    found = infer_base_model(spelled(flux(with_modulation=False), "kohya"), {})
    assert answer(found) == ("chroma", None, None, False)
    assert "chroma or flux1" in found.evidence
    stated = infer_base_model(spelled(flux(with_modulation=False), "kohya"), version("chroma"))
    assert answer(stated) == ("chroma", "chroma", "chroma", False)
    assert "ambiguous" not in stated.evidence


def test_kontext_explains_a_kohya_file_without_modulation() -> None:
    found = infer_base_model(spelled(flux(with_modulation=False), "kohya"), version("flux_kontext"))
    assert answer(found) == ("flux1", None, "flux1", False)


@pytest.mark.parametrize("stated", ["flux1", "chroma"])
def test_the_header_decides_between_flux_and_chroma_where_names_cannot(stated: str) -> None:
    found = infer_base_model(spelled(flux(with_modulation=False), "comfyui"), version(stated))
    assert answer(found) == (stated, None, stated, False)


def test_without_a_header_the_ambiguity_is_in_the_evidence() -> None:
    found = infer_base_model(spelled(flux(with_modulation=False), "comfyui"), {})
    assert answer(found) == ("flux1", None, None, False)
    assert "flux1 or chroma" in found.evidence


@pytest.mark.parametrize(
    ("name", "stated"), [("meta-llama/Meta-Llama-3-8B", "llama"), ("mistralai/Mistral-7B-v0.1", "mistral")]
)
def test_the_configuration_decides_between_models_of_one_shape(name: str, stated: str) -> None:
    found = infer_base_model(llm(4096, 4096, 1024, 14336, 32), {}, {"base_model_name_or_path": name})
    assert answer(found) == (stated, None, stated, False)


def test_a_silent_configuration_leaves_the_likeliest_model() -> None:
    found = infer_base_model(llm(4096, 4096, 1024, 14336, 32), {}, {"base_model_name_or_path": None})
    assert answer(found) == ("llama", None, None, False)
    assert "llama or mistral" in found.evidence


def test_a_model_of_another_shape_is_a_conflict() -> None:
    found = infer_base_model(
        llm(3584, 3584, 512, 18944, 28), {}, {"base_model_name_or_path": "mistralai/Mistral-7B-v0.1"}
    )
    assert answer(found) == ("qwen2", "qwen2", "mistral", True)


def test_a_vision_language_model_is_no_conflict_with_the_decoder_inside_it() -> None:
    found = infer_base_model(llm(3584, 3584, 512, 18944, 28), {}, {"base_model_name_or_path": "Qwen/Qwen2.5-VL-7B"})
    assert answer(found) == ("qwen2-vl", None, "qwen2-vl", False)


def test_a_vague_source_does_not_contradict_precise_shapes() -> None:
    gguf = {"general.architecture": "llama"}
    assert not infer_base_model({"blk.0.attn_q.weight": ModuleShape(4096, 5120, ())}, gguf).conflict
    found = infer_base_model(
        stack(SD3, 38, qkv=(7296, 2432), proj=(2432, 2432), fc1=(9728, 2432)),
        {"ss_network_module": "networks.lora_sd3"},
    )
    assert (found.family, found.conflict) == ("sd35-large", False)


# -- odd input ---------------------------------------------------------------------------------------

ODD_VALUES = [
    {1: "flux1"},
    None,
    1,
    1.5,
    True,
    [],
    ["flux1"],
    {},
    {"a": 1},
    b"flux1",
    "",
    "   ",
    "\x00\u202e",
    "x" * 2_000_000,
    "[" * 90_000,
    "{",
]
SOURCES = [
    "ss_base_model_version", "modelspec.architecture", "lora_adapter_metadata", "ss_v2", "ss_network_module",
    "ss_sd_model_name", "ot_config", "general.architecture",
]  # fmt: skip


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("value", ODD_VALUES, ids=lambda value: repr(value)[:12])
def test_an_odd_value_in_the_header_says_nothing(source: str, value: object) -> None:
    found = infer_base_model(
        {}, {source: value}, {"base_model_name_or_path": value, "auto_mapping": value, "model": value}
    )
    assert found.family in ("unknown", "sd21")  # ss_v2: True as a boolean is SD 2
    assert (found.family == "sd21") is (source == "ss_v2" and value is True)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "_",
        "N",
        "7",
        "a" * 100_000,
        "layers." + "9" * 5000 + ".self_attn.q_proj",
        "\x00",
        "é",
        "lora_unet_",
        "unet:",
    ],
)
def test_an_odd_name_is_no_error(name: str) -> None:
    assert infer_base_model({name: ModuleShape(None, None, ())}, {}, None, [name]).family in FAMILIES


def test_nothing_is_unknown_and_says_so() -> None:
    found = infer_base_model({}, {})
    assert answer(found) == ("unknown", None, None, False)
    assert found.evidence


def test_hostile_text_in_the_header_is_shown_escaped() -> None:
    found = infer_base_model({}, version("flux1\x1b[2J\u202e" + "a" * 500))
    assert "\x1b" not in found.evidence
    assert "\u202e" not in found.evidence
    assert len(found.evidence) < 300


@pytest.mark.parametrize(
    "what", [what for what in BY_NAMES if what[0] not in ("flux1", "qwen-image", "framepack")][::3]
)
def test_unknown_shapes_are_no_error(what: tuple[str, str, Modules, tuple[str, ...]]) -> None:
    modules = {name: ModuleShape(None, None, ()) for name in what[2]}
    assert infer_base_model(modules, {}).family in FAMILIES


def test_inconsistent_shapes_do_not_hide_the_names() -> None:
    modules = {
        "diffusion_model.double_blocks.0.img_attn.proj": ModuleShape(1024, 3072, ()),
        "diffusion_model.double_blocks.0.img_attn.qkv": ModuleShape(1024, 27648, ()),
        "diffusion_model.single_blocks.0.linear1": ModuleShape(1024, 16384, ()),
    }
    assert family(modules) == "flux1"


def test_the_vocabulary_holds_every_family_a_header_can_name() -> None:
    named = {wording.family for wording in WORDINGS} | {name for name, _ in EXACT.values()}
    assert named <= set(FAMILIES)
    assert set(LABELS) == set(FAMILIES)
    assert "unknown" in FAMILIES


def test_no_spelling_in_the_header_table_is_hidden_by_an_earlier_one() -> None:
    """A row whose fragments all occur in an earlier, shorter row's text could never be reached."""
    hidden = [
        later
        for i, later in enumerate(WORDINGS)
        for earlier in WORDINGS[:i]
        if (later.family, later.variant) != (earlier.family, earlier.variant)
        and all(any(fragment in mine for mine in later.fragments) for fragment in earlier.fragments)
    ]
    assert hidden == []


@pytest.mark.parametrize(
    ("double", "single", "expected"), [(19, 38, "flux1"), (20, 40, "framepack"), (1, 1, "framepack")]
)
def test_diffusers_names_behind_kohyas_prefix_are_told_by_the_number_of_blocks(
    double: int, single: int, expected: str
) -> None:
    names = [f"lora_unet_transformer_blocks_{index}_attn_to_q" for index in range(double)]
    names += [f"lora_unet_single_transformer_blocks_{index}_attn_to_q" for index in range(single)]
    found = infer_base_model({name: ModuleShape(3072, 3072, ()) for name in names}, {})
    assert found.family == expected, found.evidence
    assert expected != "framepack" or "flux1" in found.evidence


def test_a_few_blocks_in_comfyuis_spelling_leave_hunyuan_video_to_the_header() -> None:
    modules = {"diffusion_model.double_blocks.0.img_attn.qkv": ModuleShape(9216, 3072, ())}
    assert infer_base_model(modules, {}).family == "flux1"
    assert infer_base_model(modules, {"ss_base_model_version": "hunyuan_video"}).family == "hunyuan-video"


def test_names_wrapped_twice_by_peft_are_read() -> None:
    name = "base_model.model.base_model.model.model.layers.{}.mlp.up_proj"
    modules = {name.format(index): ModuleShape(14336, 4096, ()) for index in range(32)}
    assert infer_base_model(modules, {}).family == "llama"
