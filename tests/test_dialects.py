"""Every dialect and algorithm by a minimal example: one row each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lora_analysis import materialise
from lora_analysis.errors import OpaqueUpdateError
from lora_analysis.formats.architectures import canonical_parts
from lora_analysis.formats.dialects import DIALECTS
from sources import adapter_of


def factors(module: str, down: str, up: str, rank: int = 2, kernel: tuple[int, ...] = ()) -> dict[str, Any]:
    ones = (1,) * len(kernel)
    return {
        module + down: np.ones((rank, 6, *kernel), np.float32),
        module + up: np.ones((5, rank, *ones), np.float32),
    }


LORA = (".lora_down.weight", ".lora_up.weight")
PEFT = (".lora_A.weight", ".lora_B.weight")

DIALECT_CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("kohya", factors("lora_unet_mid_block_attentions_0_proj_in", *LORA), {}),
    ("kohya", factors("lora_te1_text_model_encoder_layers_0_mlp_fc1", *LORA), {}),
    ("onetrainer", factors("lora_transformer_single_transformer_blocks_0_attn_to_q", *LORA), {}),
    ("onetrainer", {**factors("lora_unet_mid_block_x", *LORA), "bundle_emb.token.clip_l": np.ones((1, 6))}, {}),
    ("onetrainer", factors("lora_unet_down_blocks_1_x", *LORA), {"metadata": {"ot_branch": "master"}}),
    ("lycoris", factors("lycoris_transformer_blocks_0_attn_to_q", *LORA), {}),
    ("peft", factors("base_model.model.model.layers.0.self_attn.q_proj", *PEFT), {}),
    ("peft", factors("model.layers.0.self_attn.q_proj", *PEFT), {"config": {"peft_type": "LORA"}}),
    ("peft", factors("distilbert.transformer.layer.0.attention.q_lin", *PEFT), {}),
    ("peft", factors("encoder.block.0.layer.0.SelfAttention.q", *PEFT), {}),
    ("peft", factors("vit.encoder.layer.0.attention.attention.query", *PEFT), {}),
    ("peft", factors("h.0.attn.c_attn", *PEFT), {}),
    ("peft", factors("model.language_model.layers.0.mlp.up_proj", *PEFT), {}),
    ("diffusers", factors("text_encoder.text_model.encoder.layers.0.self_attn.q_proj", *PEFT), {}),
    ("diffusers", factors("transformer.blocks.0.attn1.to_q", *PEFT), {}),
    ("diffusers", factors("transformer.transformer_blocks.0.attn.to_q", *PEFT), {}),
    ("diffusers", factors("unet.mid_block.attentions.0.proj_in", ".lora.down.weight", ".lora.up.weight"), {}),
    ("diffusers", factors("transformer_blocks.0.attn.to_q", *LORA), {}),
    (
        "diffusers-legacy",
        factors("text_encoder.text_model.encoder.layers.0.self_attn.to_q", "_lora.down.weight", "_lora.up.weight"),
        {},
    ),
    ("kohya", factors("lora_unet_x", ".lora_down", ".lora_up"), {}),
    (
        "diffusers",
        {**factors("unet.x.to_q", ".lora.down.weight", ".lora.up.weight"), "unet.x.to_q.lora.alpha": np.float32(1)},
        {},
    ),
    ("native", factors("lora_te.model.language_model.layers.0.self_attn.q_proj", *PEFT), {}),
    ("diffusers-legacy", factors("mid_block.attn1.processor.to_q", "_lora.down.weight", "_lora.up.weight"), {}),
    ("comfyui", factors("diffusion_model.double_blocks.0.img_attn.qkv", *PEFT), {}),
    ("comfyui", factors("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1", *LORA), {}),
    ("bfl", factors("double_blocks.0.img_attn.qkv", *PEFT), {}),
    ("xlabs", factors("double_blocks.0.processor.qkv_lora1", ".down.weight", ".up.weight"), {}),
    ("xlabs", factors("single_blocks.0.processor.qkv_lora", ".down.weight", ".up.weight"), {}),
    ("diffsynth", factors("blocks.0.self_attn.q", ".lora_A.default.weight", ".lora_B.default.weight"), {}),
    ("mlx", {"model.layers.0.q.lora_a": np.ones((6, 2)), "model.layers.0.q.lora_b": np.ones((2, 5))}, {}),
    ("gguf", factors("blk.0.attn_q", ".weight.lora_a", ".weight.lora_b"), {}),
    ("cloneofsimo", factors("unet:3", ":down", ":up"), {}),
    ("cloneofsimo", {"0": np.ones((5, 2)), "1": np.ones((2, 6))}, {}),
    ("native", factors("blocks.0.self_attn.q", *PEFT), {}),
]


@pytest.mark.parametrize(("dialect", "arrays", "stated"), DIALECT_CASES)
def test_a_dialect_is_recognised(dialect: str, arrays: dict[str, Any], stated: dict[str, Any]) -> None:
    adapter = adapter_of(arrays, **stated)
    assert adapter.dialect == dialect
    assert len(adapter.layers) == 1


def test_every_dialect_has_a_row() -> None:
    assert {dialect.name for dialect in DIALECTS} == {row[0] for row in DIALECT_CASES}


M = "lora_unet_m"
ALGORITHM_CASES: list[tuple[str, dict[str, Any]]] = [
    ("lora", factors(M, *LORA)),
    ("lora", factors(M, *LORA, kernel=(1, 1))),
    ("locon", {**factors(M, *LORA, kernel=(3, 3)), **factors("lora_unet_n", *LORA, kernel=(3, 3))}),
    ("locon", {**factors(M, *LORA, kernel=(1, 1)), f"{M}.lora_mid.weight": np.ones((2, 2, 3, 3))}),
    ("dora", {**factors(M, *LORA), f"{M}.dora_scale": np.ones((5, 1))}),
    (
        "loha",
        {
            f"{M}.hada_w1_a": np.ones((5, 2)),
            f"{M}.hada_w1_b": np.ones((2, 6)),
            f"{M}.hada_w2_a": np.ones((5, 2)),
            f"{M}.hada_w2_b": np.ones((2, 6)),
        },
    ),
    ("lokr", {f"{M}.lokr_w1": np.ones((2, 2)), f"{M}.lokr_w2_a": np.ones((3, 1)), f"{M}.lokr_w2_b": np.ones((1, 4))}),
    ("full", {f"{M}.diff": np.ones((5, 6)), f"{M}.diff_b": np.ones(5)}),
    ("lora+full", {**factors(M, *LORA), f"{M}.diff_b": np.ones(5)}),
    ("lora", {**factors(M, *LORA), "lora_unet_norm.w_norm": np.ones(5), "lora_unet_norm.b_norm": np.ones(5)}),
    (
        "lora+lokr",
        {
            **factors(M, *LORA),
            **factors("lora_unet_n", *LORA),
            "lora_unet_k.lokr_w1": np.ones((2, 2)),
            "lora_unet_k.lokr_w2": np.ones((3, 4)),
        },
    ),
    ("not-lora", {"model.weight": np.ones((5, 6))}),
    ("not-lora", {}),
]


@pytest.mark.parametrize(("algorithm", "arrays"), ALGORITHM_CASES)
def test_an_algorithm_is_named(algorithm: str, arrays: dict[str, Any]) -> None:
    assert adapter_of(arrays).algorithm == algorithm


P = "base_model.model.m"
OPAQUE_CASES: list[tuple[str, dict[str, Any]]] = [
    (
        "glora",
        {
            f"{M}.{name}.weight": np.ones(shape)
            for name, shape in {"a1": (6, 2), "a2": (2, 6), "b1": (5, 2), "b2": (2, 6)}.items()
        },
    ),
    (
        "glora",
        {
            f"{M}.{name}.weight": np.ones(shape)
            for name, shape in {"a1": (2, 6), "a2": (6, 2), "b1": (2, 6), "b2": (5, 2)}.items()
        },
    ),
    ("ia3", {f"{M}.weight": np.ones(5), f"{M}.on_input": np.float32(0)}),
    ("ia3", {f"{P}.ia3_l": np.ones((5, 1))}),
    ("oft", {f"{M}.oft_blocks": np.ones((2, 3, 3)), f"{M}.alpha": np.float32(0)}),
    ("oft", {f"{M}.oft_diag": np.ones((2, 3, 3))}),
    ("oft", {f"oft_unet_m.oft_blocks.{part}": np.ones((2, 3, 3)) for part in range(3)}),
    ("oft", {f"{P}.oft_R.weight": np.ones((4, 6))}),
    ("boft", {f"{M}.oft_blocks": np.ones((3, 2, 4, 4)), f"{M}.rescale": np.ones((8, 1))}),
    ("boft", {f"{P}.boft_R": np.ones((2, 2, 4, 4)), f"{P}.boft_s": np.ones((5, 1))}),
    (
        "vera",
        {
            f"{P}.vera_lambda_b": np.ones(5),
            f"{P}.vera_lambda_d": np.ones(4),
            "base_model.vera_A": np.ones((4, 6)),
            "base_model.vera_B": np.ones((5, 4)),
        },
    ),
    ("fourierft", {f"{P}.fourierft_spectrum": np.ones(100)}),
    ("hra", {f"{P}.hra_u": np.ones((6, 4))}),
    ("bone", {f"{P}.bone_block": np.ones((6, 4))}),
    ("vblora", {f"{P}.vblora_logits_A": np.ones((6, 4, 2)), f"{P}.vblora_logits_B": np.ones((6, 4, 2))}),
]


@pytest.mark.parametrize(("kind", "arrays"), OPAQUE_CASES)
def test_what_needs_the_base_weight_is_opaque_and_says_why(kind: str, arrays: dict[str, Any]) -> None:
    adapter = adapter_of(arrays)
    (layer,) = adapter.layers.values()
    assert (adapter.algorithm, layer.kind) == (kind, kind)
    assert layer.opaque
    assert adapter.unrecognised_keys == ()
    with pytest.raises(OpaqueUpdateError, match=layer.opaque.split()[0]):
        materialise(layer)


def test_dora_axis_follows_the_position_on_a_square_layer() -> None:
    square = {f"{M}.lora_down.weight": np.ones((2, 6)), f"{M}.lora_up.weight": np.ones((6, 2))}
    rows = adapter_of({**square, f"{M}.dora_scale": np.ones((6, 1))})
    columns = adapter_of({**square, f"{M}.dora_scale": np.ones((1, 6))})
    plain = adapter_of({**square, f"{M}.dora_scale": np.ones(6)})
    assert [a.layers[M].magnitude_axis for a in (rows, columns, plain)] == ["out", "in", "out"]


def test_a_control_lora_is_no_lora_of_the_base_and_keeps_every_tensor() -> None:
    arrays = {
        "lora_controlnet": np.ones(0),
        "input_blocks.1.0.in_layers.2.up": np.ones((5, 2, 1, 1)),
        "input_blocks.1.0.in_layers.2.down": np.ones((2, 6, 3, 3)),
        "zero_convs.0.0.weight": np.ones((5, 5, 1, 1)),
    }
    adapter = adapter_of(arrays)
    assert adapter.algorithm == "control-lora"
    assert {extra.key: extra.category for extra in adapter.extras} == {
        "lora_controlnet": "marker",
        "zero_convs.0.0.weight": "saved-module",
    }


def test_a_doubled_prefix_is_reported() -> None:
    adapter = adapter_of(factors("lora_unet_unet_mid_block_to_q", *LORA))
    assert [finding.code for finding in adapter.findings] == ["malformed-names"]


def test_a_whole_model_is_called_one() -> None:
    adapter = adapter_of({f"model.diffusion_model.blocks.{n}.weight": np.ones((2, 2)) for n in range(60)})
    assert (adapter.dialect, adapter.algorithm) == ("unknown", "not-lora")
    assert "whole model" in adapter.findings[0].message


BROKEN_CASES: list[tuple[str, dict[str, Any]]] = [
    ("orphan-factor", {f"{M}.lora_down.weight": np.ones((2, 6))}),
    ("orphan-factor", {f"{M}.lora_up.weight": np.ones((5, 2)), f"{M}.alpha": np.float32(1)}),
    ("orphan-factor", {f"{M}.alpha": np.float32(1)}),
    ("orphan-factor", {f"{M}.hada_w1_a": np.ones((5, 2)), f"{M}.hada_w1_b": np.ones((2, 6))}),
    ("orphan-factor", {f"{M}.lokr_w1": np.ones((5, 2))}),
    ("shape-mismatch", {f"{M}.lora_down.weight": np.ones((2, 6)), f"{M}.lora_up.weight": np.ones((5, 3))}),
    ("shape-mismatch", {f"{M}.lora_down.weight": np.ones(6), f"{M}.lora_up.weight": np.ones((5, 3))}),
    ("shape-mismatch", {**factors(M, *LORA), f"{M}.dora_scale": np.ones((7, 1))}),
    ("shape-mismatch", {**factors(M, *LORA, kernel=(1, 1)), f"{M}.lora_mid.weight": np.ones((3, 2, 3, 3))}),
    ("rank-zero", {f"{M}.lora_down.weight": np.ones((0, 6)), f"{M}.lora_up.weight": np.ones((5, 0))}),
]


@pytest.mark.parametrize(("code", "arrays"), BROKEN_CASES)
def test_a_broken_module_is_a_finding_and_its_tensors_are_kept(code: str, arrays: dict[str, Any]) -> None:
    good = factors("lora_unet_good", *LORA)
    adapter = adapter_of({**arrays, **good})
    assert code in [finding.code for finding in adapter.findings]
    assert "lora_unet_good" in adapter.layers
    used = [key for layer in adapter.layers.values() for key in layer.keys.values()]
    assert sorted([*used, *(extra.key for extra in adapter.extras)]) == sorted({**arrays, **good})


RESHAPED = {**factors("diffusion_model.img_in", *PEFT), **factors("diffusion_model.txt_in", *PEFT)}


def test_the_shape_a_base_is_padded_to_is_read() -> None:
    adapter = adapter_of({**RESHAPED, "diffusion_model.img_in.reshape_weight": np.array([7, 9])})
    assert [layer.reshape for layer in adapter.layers.values()] == [(7, 9), None]


@pytest.mark.parametrize(
    "values", [[np.nan, 4.0], [np.inf, 4.0], [-1.0, 4.0], [[4.0, 4.0]], [], [4.0] * 100], ids=lambda v: str(v)[:16]
)
def test_a_shape_that_is_none_breaks_its_own_layer_only(values: list[Any]) -> None:
    adapter = adapter_of({**RESHAPED, "diffusion_model.img_in.reshape_weight": np.array(values, np.float32)})
    assert list(adapter.layers) == ["diffusion_model.txt_in"]
    assert [finding.code for finding in adapter.findings] == ["shape-mismatch"]
    assert {extra.category for extra in adapter.extras} == {"broken"}


@pytest.mark.parametrize(
    "shapes",
    [
        {"hra_u": (4096, 8)},
        {"bone_block": (64, 4096)},
        {"miss_block": (64, 4096)},
        {"c3a_kernel": (64, 64, 64)},
        {"delora_A": (8, 4096), "delora_B": (4096, 8), "delora_lambda": (1,)},
    ],
    ids=lambda shapes: next(iter(shapes)),
)
def test_parameters_of_further_methods_tell_the_widths_of_the_base(shapes: dict[str, tuple[int, ...]]) -> None:
    arrays = {
        f"{P}odel.layers.{index}.self_attn.q_proj.{name}": np.ones(shape, np.float16)
        for index in range(32)
        for name, shape in shapes.items()
    }
    adapter = adapter_of(arrays)
    assert adapter.base_model.family == "llama", adapter.base_model.evidence
    assert all(layer.opaque for layer in adapter.layers.values())


# -- whole parameters in place of an adapter ------------------------------------------------------------


FULL = {f"model.layers.0.self_attn.{part}_proj.weight": np.ones((6, 6), np.float32) for part in "qkv"}
FULL |= {"model.layers.0.input_layernorm.weight": np.ones(6, np.float32)}


def test_a_full_fine_tune_of_mlx_is_whole_parameters_in_place_of_the_bases() -> None:
    adapter = adapter_of(FULL, config={"fine_tune_type": "full", "num_layers": 1})
    assert (adapter.dialect, adapter.algorithm, len(adapter.layers)) == ("mlx", "full-weights", 0)
    assert {extra.key: extra.category for extra in adapter.extras} == dict.fromkeys(FULL, "saved-module")
    assert adapter.unrecognised_keys == ()
    assert [(finding.severity, finding.code) for finding in adapter.findings] == [("info", "full-weights")]


@pytest.mark.parametrize("config", [None, {"fine_tune_type": "lora"}, {"fine_tune_type": "full", "peft_type": "LORA"}])
def test_plain_weights_are_no_fine_tune_unless_mlx_says_so(config: dict[str, Any] | None) -> None:
    adapter = adapter_of(FULL, config=config)
    assert adapter.algorithm == "not-lora"
    assert adapter.unrecognised_keys == tuple(FULL)


def test_factors_beside_a_config_that_says_full_are_factors() -> None:
    arrays = {"model.layers.0.q_proj.lora_a": np.ones((6, 2)), "model.layers.0.q_proj.lora_b": np.ones((2, 5))}
    adapter = adapter_of(arrays, config={"fine_tune_type": "full", "lora_parameters": {"scale": 20.0}})
    assert (adapter.dialect, adapter.algorithm) == ("mlx", "lora")


def test_an_embedding_of_mlx_is_the_product_as_it_stands() -> None:
    """mlx-lm ``LoRAEmbedding.fuse``: weight (vocabulary, dim) + scale * lora_a @ lora_b."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((7, 2)), rng.standard_normal((2, 5))
    names = ("model.embed_tokens", "model.layers.0.self_attn.q_proj")
    arrays = {f"{name}.{side}": array for name in names for side, array in (("lora_a", a), ("lora_b", b))}
    layers = adapter_of(arrays, config={"lora_parameters": {"scale": 3.0}}).layers
    np.testing.assert_allclose(materialise(layers[names[0]]), 3 * a @ b, rtol=1e-12)
    np.testing.assert_allclose(materialise(layers[names[1]]), 3 * (a @ b).T, rtol=1e-12)


# -- other tensors ----------------------------------------------------------------------------------------

EXTRA_CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("prompt", "prompt_embeddings", {"peft_type": "PROMPT_TUNING"}),
    ("prompt", "prefix_task_cols", {"peft_type": "MULTITASK_PROMPT_TUNING"}),
    ("prompt", "base_model.model.model.layers.0.self_attn.adaption_prompt", {"peft_type": "ADAPTION_PROMPT"}),
    ("token-rows", f"{P}.token_adapter.trainable_tokens_delta", {"peft_type": "TRAINABLE_TOKENS"}),
    ("embedding", "text_encoders_0", {}),
    ("embedding", "<s1>", {}),
]


@pytest.mark.parametrize(("category", "key", "config"), EXTRA_CASES)
def test_what_is_no_update_is_named_and_is_no_surprise(category: str, key: str, config: dict[str, Any]) -> None:
    adapter = adapter_of({key: np.ones((3, 6))}, config=config)
    assert [(extra.key, extra.category) for extra in adapter.extras] == [(key, category)]
    assert adapter.findings == ()


def test_routers_are_named_beside_what_they_weigh() -> None:
    arrays = {f"{P}.poly_lora_A": np.ones((1, 2, 6, 2)), f"{P}.poly_router.module_logits": np.ones((2, 2))}
    adapter = adapter_of(arrays)
    assert [(extra.key, extra.category) for extra in adapter.extras] == [(f"{P}.poly_router.module_logits", "router")]


def test_a_method_without_factors_is_named_by_its_config() -> None:
    arrays = {"base_model.model.model.layers.0.input_layernorm.weight": np.ones(6)}
    adapter = adapter_of(arrays, config={"peft_type": "LN_TUNING"})
    assert "peft_type 'LN_TUNING'" in adapter.findings[0].message


def test_lora_alpha_says_nothing_of_a_method_that_has_none() -> None:
    config = {"peft_type": "VERA", "r": 4}
    arrays = {f"{P}.vera_lambda_b": np.ones(5), f"{P}.vera_lambda_d": np.ones(4)}
    [layer] = adapter_of(arrays, config=config).layers.values()
    assert (layer.alpha, layer.scale, layer.scale_origin) == (None, 1.0, "none")


# -- XLabs: both kinds of block name their processors alike -------------------------------------------------


@pytest.mark.parametrize(
    ("module", "rows", "parts"),
    [
        ("double_blocks.3.processor.qkv_lora1", 18, ["transformer_blocks.3.attn.to_" + part for part in "qkv"]),
        ("double_blocks.3.processor.proj_lora2", 6, ["transformer_blocks.3.attn.to_add_out"]),
        ("single_blocks.3.processor.qkv_lora", 18, ["single_transformer_blocks.3.attn.to_" + part for part in "qkv"]),
        ("single_blocks.3.processor.proj_lora", 6, ["single_transformer_blocks.3.proj_out"]),
    ],
)
def test_processors_of_xlabs_are_modules_of_flux(module: str, rows: int, parts: list[str]) -> None:
    arrays = {f"{module}.down.weight": np.ones((2, 6)), f"{module}.up.weight": np.ones((rows, 2))}
    adapter = adapter_of(arrays)
    assert (adapter.dialect, list(adapter.layers)) == ("xlabs", [module])
    found = canonical_parts(adapter.layers[module], "flux1") or ()
    assert [part.module for part in found] == [f"transformer.{part}" for part in parts]
