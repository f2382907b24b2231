"""Tensor names taken apart, one row per spelling."""

from __future__ import annotations

import pytest

from lora_analysis.formats.keys import map_keys, split_key

SPELLINGS = [
    ("lora_unet_a_to_q.lora_down.weight", "lora_unet_a_to_q", "down"),
    ("lora_unet_a_to_q.lora_up.weight", "lora_unet_a_to_q", "up"),
    ("lora_unet_a_to_q.alpha", "lora_unet_a_to_q", "alpha"),
    ("lora_unet_conv.lora_mid.weight", "lora_unet_conv", "mid"),
    ("base_model.model.a.q_proj.lora_A.weight", "base_model.model.a.q_proj", "down"),
    ("base_model.model.a.q_proj.lora_B.bias", "base_model.model.a.q_proj", "up_bias"),
    ("base_model.model.embed.lora_embedding_A", "base_model.model.embed", "embedding_down"),
    ("base_model.model.a.q_proj.lora_magnitude_vector", "base_model.model.a.q_proj", "magnitude"),
    ("base_model.model.a.q_proj.lora_magnitude_vector.weight", "base_model.model.a.q_proj", "magnitude"),
    ("blocks.0.q.lora_A.default.weight", "blocks.0.q", "down"),
    ("diffusion_model.blocks.0.q.lora_A.lightx2v.weight", "diffusion_model.blocks.0.q", "down"),
    ("base_model.model.embed.lora_embedding_B.default", "base_model.model.embed", "embedding_up"),
    ("unet.mid.to_k.lora.down.weight", "unet.mid.to_k", "down"),
    ("model.layers.0.self_attn.q_proj.lora.A.weight", "model.layers.0.self_attn.q_proj", "down"),
    ("model.layers.0.self_attn.q_proj.lora.B.weight", "model.layers.0.self_attn.q_proj", "up"),
    ("model.layers.0.self_attn.q_proj.lora_alpha", "model.layers.0.self_attn.q_proj", "alpha"),
    ("mid.attn1.processor.to_out_lora.up.weight", "mid.attn1.processor.to_out", "up"),
    ("text_encoder.q_proj.lora_linear_layer.up.weight", "text_encoder.q_proj", "up"),
    ("double_blocks.0.processor.qkv_lora1.down.weight", "double_blocks.0.processor.qkv_lora1", "down"),
    ("unet:12:up", "unet:12", "up"),
    ("model.layers.3.self_attn.q_proj.lora_a", "model.layers.3.self_attn.q_proj", "down_t"),
    ("blk.0.attn_q.weight.lora_b", "blk.0.attn_q", "up"),
    ("lora_unet_unet_mid_to_q_lora_down.weight", "lora_unet_unet_mid_to_q", "down"),
    ("lora_unet_a.hada_w1_a", "lora_unet_a", "w1_a"),
    ("lora_unet_a.lokr_t2", "lora_unet_a", "k2_t"),
    ("lora_unet_a.dora_scale", "lora_unet_a", "dora"),
    ("lora_unet_a.diff_b", "lora_unet_a", "bias"),
    ("lora_unet_norm.w_norm", "lora_unet_norm", "norm"),
    ("lora_unet_a.b1.weight", "lora_unet_a", "gb_1"),
    ("lora_unet_a.oft_blocks.2", "lora_unet_a", "oft_blocks.2"),
    ("base_model.model.a.ia3_l", "base_model.model.a", "ia3_l"),
    ("base_model.model.a.hra_u", "base_model.model.a", "other:hra:hra_u"),
    ("diffusion_model.img_in.reshape_weight", "diffusion_model.img_in", "reshape"),
]


@pytest.mark.parametrize(("key", "module", "role"), SPELLINGS, ids=[row[0] for row in SPELLINGS])
def test_a_spelling_is_split(key: str, module: str, role: str) -> None:
    split = split_key(key)
    assert split is not None
    assert (split.module, split.role) == (module, role)


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "alpha",
        ".alpha",
        "model.layers.0.mlp.down.weight",
        "model.layers.0.weight",
        "x.lora_A.weight.extra",
        "a" * 5000,
    ],
)
def test_a_name_that_ends_in_no_role_is_not_split(key: str) -> None:
    assert split_key(key) is None


def test_plain_words_count_only_beside_factors() -> None:
    found = map_keys(
        [
            "lora_unet_a.weight",
            "lora_unet_a.on_input",
            "norm.scale",
            "b.lora_A.weight",
            "b.lora_B.weight",
            "b.scale",
            "c.m",
        ]
    )
    assert found.modules["lora_unet_a"] == {"on_input": "lora_unet_a.on_input", "ia3_weight": "lora_unet_a.weight"}
    assert found.modules["b"]["scale"] == "b.scale"
    assert found.rest == ["norm.scale", "c.m"]


def test_two_adapters_in_one_file_stay_apart() -> None:
    names = [f"b.lora_{part}.{adapter}.weight" for adapter in ("one", "two") for part in "AB"]
    found = map_keys(names)
    assert found.adapters == {"one", "two"}
    assert set(found.modules) == {"b", "b [two]"}


def test_two_spellings_of_one_role_are_reported() -> None:
    found = map_keys(["b.lora_A.weight", "b.lora_down.weight"])
    assert found.duplicates == [("b", "down", "b.lora_down.weight")]
