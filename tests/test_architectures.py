"""The module table: every name of every reference layout, there and back, with the rows of fused weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from layouts import index, load, needs_shared
from lora_analysis.adapter import Adapter, Layer, TensorInfo
from lora_analysis.formats.architectures import (
    _ARCHITECTURES,
    DIALECTS,
    canonical_parts,
    fused_in,
    is_known,
    spelled_in,
)
from lora_analysis.formats.architectures.table import Names, Table, fused, same, swapped
from lora_analysis.formats.opening import adapt


class _Header:
    """A layout as an open file: names and shapes, no values."""

    def __init__(self, file: str, layout: dict[str, Any]) -> None:
        self.path = f"/nonexistent/{file}"
        self.container = layout.get("container", "safetensors")
        self.size = 0
        self.tensors = {key: TensorInfo(i["dtype"], tuple(i["shape"]), 0, 0) for key, i in layout["tensors"].items()}
        self.metadata = layout.get("metadata") or {}
        self.findings: list[Any] = []

    def scalar(self, name: str) -> float:
        return 1.0

    def scalars(self, names: list[str]) -> dict[str, float]:
        return dict.fromkeys(names, 1.0)

    def close(self) -> None: ...


def opened(file: str) -> Adapter:
    layout = load(file)
    return adapt(_Header(file, layout), layout.get("adapter_config"))  # type: ignore[arg-type]


# Names the table does not know, each with its reason. Everything else in the layouts is known.
UNKNOWN_NAMES = {
    "sd15-cloneofsimo-svd-r4.json": ("", "numbered in traversal order, without any name"),
    "flux1-lokr-bfl-excerpt.json": ((".img_attn.qkv", ".linear1"), "rows of an inconsistent excerpt cannot be divided"),
}
LAYOUTS = [pytest.param(entry["file"], id=entry["file"]) for entry in index()]


@needs_shared
@pytest.mark.parametrize("file", LAYOUTS)
def test_every_layer_of_every_layout_has_its_base_weights(file: str) -> None:
    adapter = opened(file)
    excepted = UNKNOWN_NAMES.get(file, ((), ""))[0]
    seen: dict[str, str] = {}
    for name, layer in adapter.layers.items():
        parts = canonical_parts(layer, adapter.base_model.family)
        if excepted != () and name.endswith(excepted):
            assert parts is None
            continue
        assert parts, name
        for part in parts:
            assert seen.setdefault(part.module, name) == name, "two layers of one file change the same rows"
        if layer.shape is not None:
            assert parts[0].start == 0
            assert all(before.stop == after.start for before, after in pairwise(parts))
            assert parts[-1].stop == (layer.shape[1] if layer.experts else layer.shape[0])


@needs_shared
@pytest.mark.parametrize("file", LAYOUTS)
def test_a_name_in_any_dialect_is_read_back_as_what_it_was_written_for(file: str) -> None:
    adapter = opened(file)
    family = adapter.base_model.family
    components = set()
    for layer in adapter.layers.values():
        for part in canonical_parts(layer, family) or ():
            components.add(part.module.partition(".")[0])
            for dialect in DIALECTS:
                held = spelled_in(dialect, part.module, family)
                if held is None or (dialect in ("peft", "native") and part.module.startswith("text_encoder")):
                    continue  # bare names of text encoders: which of them is said by the folder
                assert part.module in held.modules
                found = fused_in(held.name, family)
                assert found is not None, held.name
                assert found.modules == held.modules
                assert found.shares == held.shares


@needs_shared
@pytest.mark.parametrize("file", [entry["file"] for entry in index() if entry["naming"] in ("kohya", "diffusers")])
def test_names_are_written_as_the_layouts_have_them(file: str) -> None:
    """A file's own dialect gives every layer its own name back."""
    entry = next(entry for entry in index() if entry["file"] == file)
    adapter = opened(file)
    family = adapter.base_model.family
    others = []
    for name, layer in adapter.layers.items():
        parts = canonical_parts(layer, family)
        assert parts
        held = spelled_in(entry["naming"], parts[0].module, family)
        assert held
        if held.name != name:
            others.append(name)
    # Other programs write kohya's prefix before diffusers' names, or leave diffusers' own prefix out.
    foreign = ("sdxl-lcm-lora", "qwen-image-lightning", "qwen-image-diffsynth")
    assert bool(others) == file.startswith(foreign), others[:3]


@pytest.mark.parametrize("family", sorted(_ARCHITECTURES))
def test_every_table_can_be_built_and_reads_what_it_spells(family: str) -> None:
    """Raised while building: one name that would mean two things once its dots are underscores."""
    from lora_analysis.formats import architectures

    built = architectures._architecture(family)
    assert built is not None
    assert is_known(family)
    count = 0
    for module in built.denoiser.modules():
        canonical = f"{built.component}.{module.format(3, 5, 7)}"
        for dialect in DIALECTS:
            held = spelled_in(dialect, canonical, family)
            if held is not None:
                count += 1
                read = fused_in(held.name, family)
                assert read is not None, held.name
                assert read.modules == held.modules
    assert count > 20


def layer(name: str, *shape: int) -> Layer:
    return Layer(name, "lora", {}, shape or None)


# (family, name in one dialect, name in another): both change the same weight.
SAME_WEIGHT = [
    ("sd15", "lora_unet_down_blocks_1_attentions_0_proj_in", "model.diffusion_model.input_blocks.4.1.proj_in"),
    ("sd15", "unet.up_blocks.3.resnets.2.conv1", "diffusion_model.output_blocks.11.0.in_layers.2"),
    ("sd15", "lora_unet_up_blocks_0_upsamplers_0_conv", "diffusion_model.output_blocks.2.1.conv"),
    ("sd15", "unet.up_blocks.2.upsamplers.0.conv", "diffusion_model.output_blocks.8.2.conv"),
    ("sd15", "lora_te_text_model_encoder_layers_3_mlp_fc1",
     "cond_stage_model.transformer.text_model.encoder.layers.3.mlp.fc1"),
    ("sd15", "down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out",
     "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"),
    ("sdxl", "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_k",
     "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"),
    ("sdxl", "lora_unet_output_blocks_5_2_conv", "lora_unet_up_blocks_1_upsamplers_0_conv"),
    ("sdxl", "lora_unet_input_blocks_6_0_op", "unet.down_blocks.1.downsamplers.0.conv"),
    ("sdxl", "lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
     "conditioner.embedders.1.model.transformer.resblocks.31.attn.out_proj"),
    ("flux1", "lora_te3_encoder_block_0_layer_1_DenseReluDense_wi_0",
     "lora_te2_encoder_block_0_layer_1_DenseReluDense_wi_0"),
    ("flux1", "lora_transformer_single_transformer_blocks_4_proj_out", "diffusion_model.single_blocks.4.linear2"),
    ("flux1", "double_blocks.2.processor.qkv_lora2", "lora_unet_double_blocks_2_txt_attn_qkv"),
    ("flux2", "lora_unet_single_blocks_1_linear1", "transformer.single_transformer_blocks.1.attn.to_qkv_mlp_proj"),
    ("sd35-large", "lora_unet_joint_blocks_36_context_block_adaLN_modulation_1",
     "transformer.transformer_blocks.36.norm1_context.linear"),
    ("wan", "lora_unet_blocks_0_ffn_2", "transformer.blocks.0.ffn.net.2"),
    ("wan", "diffusion_model.blocks.7.cross_attn.k_img", "transformer.blocks.7.attn2.add_k_proj"),
    ("hunyuan-video", "lora_unet_double_blocks_0_img_mlp_fc1", "diffusion_model.double_blocks.0.img_mlp.0"),
    ("z-image", "lora_unet__layers_0_attention_to_out_0", "diffusion_model.layers.0.attention.out"),
    ("lumina2", "lora_unet_layers_3_feed_forward_w2", "transformer.layers.3.feed_forward.linear_2"),
    ("anima", "lora_unet_blocks_0_adaln_modulation_cross_attn_1", "transformer.transformer_blocks.0.norm2.linear_1"),
    ("pixart", "base_model.model.transformer_blocks.0.ff.net.2", "diffusion_model.blocks.0.mlp.fc2"),
    ("auraflow", "transformer.joint_transformer_blocks.0.attn.add_q_proj", "diffusion_model.double_layers.0.attn.w1q"),
    ("llama", "base_model.model.model.layers.0.mlp.up_proj", "blk.0.ffn_up"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "one", "other"), SAME_WEIGHT)
def test_names_of_two_dialects_meet(family: str, one: str, other: str) -> None:
    found = fused_in(one, family)
    assert found is not None
    expected = fused_in(other, family)
    assert expected is not None
    assert found.modules == expected.modules


def test_fused_rows_are_divided_as_the_base_model_has_them() -> None:
    parts = canonical_parts(layer("lora_unet_single_blocks_0_linear1", 21504, 3072), "flux1") or ()
    assert [part.stop - part.start for part in parts] == [3072, 3072, 3072, 12288]
    parts = canonical_parts(layer("lora_unet_layers_0_attention_qkv", 3840, 2304), "lumina2") or ()
    assert [part.stop - part.start for part in parts] == [2304, 768, 768]
    assert canonical_parts(layer("lora_unet_single_blocks_0_linear1", 1024, 64), "flux1") is None


def test_halves_stored_the_other_way_round_meet_as_halves() -> None:
    native = canonical_parts(layer("final_layer.adaLN_modulation.1", 6144, 3072), "flux1") or ()
    other = canonical_parts(layer("transformer.norm_out.linear", 6144, 3072), "flux1") or ()
    assert {part.module: part.start for part in native} == {
        "transformer.norm_out.linear.shift": 0,
        "transformer.norm_out.linear.scale": 3072,
    }
    assert {part.module: part.start for part in other} == {
        "transformer.norm_out.linear.scale": 0,
        "transformer.norm_out.linear.shift": 3072,
    }
    # The last block of SD 3 alone ends its text stream so.
    last = fused_in("lora_unet_joint_blocks_37_context_block_adaLN_modulation_1", "sd35-large")
    assert last
    assert len(last.modules) == 2


def test_rows_of_a_layer_without_shape_are_unknown() -> None:
    assert [
        tuple(part)[1:] for part in canonical_parts(layer("lora_unet_double_blocks_0_img_attn_qkv"), "flux1") or ()
    ] == [(0, 0)] * 3


def test_a_bare_name_that_two_text_encoders_share_is_neither() -> None:
    name = "text_model.encoder.layers.0.mlp.fc1"
    assert fused_in(name, "sdxl") is None
    assert fused_in(name, "sd15") is not None


@pytest.mark.parametrize(
    "name", ["lora_unet_nothing", "unet:3", "", "x" * 10_000, "lora_unet_double_blocks_img_attn_qkv"]
)
def test_unknown_names_are_unknown(name: str) -> None:
    for family in ("flux1", "sd15", "unknown", "no such family"):
        assert fused_in(name, family) is None
    if "." not in name and name:
        assert fused_in(name, "llama") is None or "_" not in name


def test_permuted_rows_of_llama_cpp_are_not_taken_for_the_models() -> None:
    assert fused_in("blk.0.attn_q", "llama") is None
    assert fused_in("blk.0.attn_q", "qwen2") is not None


def test_a_name_that_would_mean_two_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="to_q"):
        Table((*same("attn.to_q"), Names(("other",), "attn_to.q"))).modules()
    table = Table((fused("a.{}.qkv", "b.{}", ("q", "k")), swapped("c", "d")))
    assert set(table.modules()) == {"b.{}.q", "b.{}.k", "d.shift", "d.scale"}
