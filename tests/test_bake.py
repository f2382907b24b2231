"""Baking: base plus deltas, against dense float64, and PEFT's own merged weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from command import lora
from lora_analysis.errors import FileAccessError, LoraAnalysisError, NonFiniteError, OptionError
from lora_analysis.formats.container import open_source
from test_convert import H, dora, merged_by_peft, pair, values, write
from test_runtimes import Q, V, peft

PREFIX = "model.diffusion_model."


def base_values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, 77, *shape]).standard_normal(shape).astype(np.float32)


def read(path: Path) -> dict[str, np.ndarray]:
    source = open_source(path, header_limit=1_000_000)
    try:
        return {key: np.array(source.array(key)) for key in source.tensors}
    finally:
        source.close()


SDXL = {
    f"{PREFIX}input_blocks.4.1.proj_in.weight": base_values(H, H),
    f"{PREFIX}input_blocks.4.1.proj_in.bias": base_values(H),
    f"{PREFIX}input_blocks.4.1.norm.weight": base_values(H),
    f"{PREFIX}input_blocks.1.0.in_layers.2.weight": base_values(6, 4, 3, 3),
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": base_values(3 * H, H, seed=3),
    "first_stage_model.untouched.weight": base_values(5, 5),
}


def oracle(path: Path, name: str) -> np.ndarray:
    with la.open(path) as adapter:
        return la.materialise(adapter.layers[name])


# -- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_deltas_are_added_where_the_module_table_says(tmp_path: Path, dialect: str) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    n, conv, key = (
        "lora_unet_input_blocks_4_1_proj_in",
        "lora_unet_input_blocks_1_0_in_layers_2",
        "lora_te2_text_model_encoder_layers_0_self_attn_k_proj",
    )
    arrays = pair(n, H, H, 2, alpha=1.0) | pair(key, H, H, 3, alpha=2.0, seed=8)
    arrays |= {f"{conv}.lora_down.weight": values(2, 4, 3, 3), f"{conv}.lora_up.weight": values(6, 2, 1, 1)}
    adapter = write(tmp_path / "a.safetensors", arrays)
    source = adapter
    if dialect == "diffusers":
        source = tmp_path / "d.safetensors"
        la.convert(adapter, "diffusers", source, family="sdxl")
    report = la.bake(base, [source], [0.5], tmp_path / "out.safetensors", family="sdxl")
    out = read(tmp_path / "out.safetensors")
    wanted = {key: array.astype(np.float64) for key, array in SDXL.items()}
    wanted[f"{PREFIX}input_blocks.4.1.proj_in.weight"] += 0.5 * oracle(adapter, n)
    wanted[f"{PREFIX}input_blocks.1.0.in_layers.2.weight"] += 0.5 * oracle(adapter, conv)
    wanted["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"][H : 2 * H] += 0.5 * oracle(
        adapter, key
    )
    for name, array in wanted.items():
        np.testing.assert_array_equal(out[name], array.astype(np.float32), err_msg=name)
    document = report.to_dict()
    assert document["adapters"][0]["layers_matched"] == 3
    assert document["tensors_changed"] == 3
    assert 0 < document["rounding"] < 1e-5


def test_untouched_tensors_keep_their_bytes_and_the_header_its_words(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL, {"format": "pt", "mine": "yes"})
    adapter = write(tmp_path / "a.safetensors", pair("lora_unet_input_blocks_4_1_proj_in", H, H, 2))
    before = base.read_bytes()
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="sdxl")
    assert base.read_bytes() == before
    one, other = (
        open_source(base, header_limit=1_000_000),
        open_source(tmp_path / "out.safetensors", header_limit=1_000_000),
    )
    assert list(one.tensors) == list(other.tensors)
    changed = [key for key in one.tensors if one.raw(key) != other.raw(key)]
    assert changed == [f"{PREFIX}input_blocks.4.1.proj_in.weight"]
    assert other.metadata["mine"] == "yes"
    assert json.loads(other.metadata["lora_analysis.history"])[0]["operation"] == "bake"
    one.close()
    other.close()


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("weight", [1.0, 0.6])
def test_dora_is_exact_on_either_axis(tmp_path: Path, axis: str, weight: float) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    n = "lora_unet_input_blocks_4_1_proj_in"
    adapter = write(tmp_path / "a.safetensors", dora(n, H, H, axis))
    la.bake(base, [adapter], [weight], tmp_path / "out.safetensors", family="sdxl")
    old = SDXL[f"{PREFIX}input_blocks.4.1.proj_in.weight"].astype(np.float64)
    whole = old + oracle(adapter, n)
    norms = np.linalg.norm(whole, axis=1 if axis == "out" else 0, keepdims=True)
    magnitude = values(*((H, 1) if axis == "out" else (1, H)), seed=9).astype(np.float64)
    wanted = old + weight * (magnitude * whole / norms - old)
    found = read(tmp_path / "out.safetensors")[f"{PREFIX}input_blocks.4.1.proj_in.weight"]
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


def test_norms_of_the_columns_of_a_convolution_go_over_its_kernel(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    conv = "lora_unet_input_blocks_1_0_in_layers_2"
    arrays = {
        f"{conv}.lora_down.weight": values(2, 4, 3, 3), f"{conv}.lora_up.weight": values(6, 2, 1, 1),
        f"{conv}.dora_scale": values(1, 4, 1, 1),
    }  # fmt: skip
    adapter = write(tmp_path / "a.safetensors", arrays)
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="sdxl")
    key = f"{PREFIX}input_blocks.1.0.in_layers.2.weight"
    whole = SDXL[key].astype(np.float64) + oracle(adapter, conv)
    norms = np.sqrt((whole**2).sum(axis=(0, 2, 3), keepdims=True))
    np.testing.assert_allclose(
        read(tmp_path / "out.safetensors")[key], arrays[f"{conv}.dora_scale"] * whole / norms, rtol=1e-5
    )


def test_norms_and_biases_are_added_to_their_parameters(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    n = "diffusion_model.input_blocks.4.1"
    arrays = {
        f"{n}.proj_in.diff": values(H, H), f"{n}.proj_in.diff_b": values(H, seed=2), f"{n}.norm.diff": values(H, seed=3)
    }  # fmt: skip
    adapter = write(tmp_path / "a.safetensors", arrays)
    la.bake(base, [adapter], [2.0], tmp_path / "out.safetensors", family="sdxl")
    out = read(tmp_path / "out.safetensors")
    for key, added in (
        ("proj_in.weight", "proj_in.diff"),
        ("proj_in.bias", "proj_in.diff_b"),
        ("norm.weight", "norm.diff"),
    ):
        name = f"{PREFIX}input_blocks.4.1.{key}"
        wanted = SDXL[name].astype(np.float64) + 2 * arrays[f"{n}.{added}"].astype(np.float64)
        np.testing.assert_array_equal(out[name], wanted.astype(np.float32))


def test_other_kinds_split_and_swapped_weights_of_flux(tmp_path: Path) -> None:
    tensors = {
        "single_blocks.0.linear1.weight": base_values(7 * H, H),
        "final_layer.adaLN_modulation.1.weight": base_values(2 * H, H, seed=4),
        "double_blocks.0.img_attn.proj.weight": base_values(H, H, seed=5),
    }
    base = write(tmp_path / "base.safetensors", tensors)
    one = "transformer.single_transformer_blocks.0"
    loha = "lycoris_transformer_blocks_0_attn_to_out_0"
    arrays = pair(f"{one}.proj_mlp", 4 * H, H, 2) | pair("transformer.norm_out.linear", 2 * H, H, 2, seed=6)
    arrays |= {
        f"{loha}.hada_w1_a": values(H, 2), f"{loha}.hada_w1_b": values(2, H, seed=1),
        f"{loha}.hada_w2_a": values(H, 2, seed=2), f"{loha}.hada_w2_b": values(2, H, seed=3),
    }  # fmt: skip
    adapter = write(tmp_path / "a.safetensors", arrays)
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="flux1")
    out = read(tmp_path / "out.safetensors")
    wanted = {key: array.astype(np.float64) for key, array in tensors.items()}
    wanted["single_blocks.0.linear1.weight"][3 * H :] += oracle(adapter, f"{one}.proj_mlp")
    delta = oracle(adapter, "transformer.norm_out.linear")  # scale, shift there; shift, scale here
    wanted["final_layer.adaLN_modulation.1.weight"] += np.concatenate([delta[H:], delta[:H]])
    wanted["double_blocks.0.img_attn.proj.weight"] += oracle(adapter, loha)
    for key, array in wanted.items():
        np.testing.assert_allclose(out[key], array, rtol=1e-6, atol=1e-7)


def test_several_adapters_add_up(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    n = "lora_unet_input_blocks_4_1_proj_in"
    first = write(tmp_path / "a.safetensors", pair(n, H, H, 2, alpha=1.0))
    second = write(tmp_path / "b.safetensors", pair(n, H, H, 3, alpha=6.0, seed=4))
    la.bake(base, [first, second], [1.0, -0.5], tmp_path / "out.safetensors", family="sdxl")
    key = f"{PREFIX}input_blocks.4.1.proj_in.weight"
    wanted = SDXL[key] + oracle(first, n) - 0.5 * oracle(second, n)
    np.testing.assert_array_equal(read(tmp_path / "out.safetensors")[key], wanted.astype(np.float32))


def test_a_control_adapter_pads_the_weight_first(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", {"img_in.weight": base_values(H, 4), "img_in.bias": base_values(H)})
    arrays = {
        "diffusion_model.img_in.lora_A.weight": values(2, 8), "diffusion_model.img_in.lora_B.weight": values(H, 2),
        "diffusion_model.img_in.reshape_weight": np.array([H, 8], np.int64),
    }  # fmt: skip
    adapter = write(tmp_path / "a.safetensors", arrays)
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="flux1")
    wanted = np.pad(base_values(H, 4).astype(np.float64), ((0, 0), (0, 4))) + oracle(adapter, "diffusion_model.img_in")
    np.testing.assert_array_equal(read(tmp_path / "out.safetensors")["img_in.weight"], wanted.astype(np.float32))


# -- language models, shards, PEFT ---------------------------------------------------------------------------


def test_the_result_is_what_peft_merges(tmp_path: Path) -> None:
    adapter = peft(tmp_path / "a", {Q: 4, V: 2}, r=4, lora_alpha=8, rank_pattern={"v_proj": 2}, use_rslora=True)
    names = [name.removeprefix("base_model.model.") for name in (Q, V)]
    before, after = merged_by_peft(adapter, dict.fromkeys(names, (H, H)))
    tensors = {f"{name}.weight": before[name].astype(np.float32) for name in names}
    base = write(tmp_path / "model.safetensors", tensors | {"lm_head.weight": base_values(9, H)})
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="llama")
    out = read(tmp_path / "out.safetensors")
    for name in names:
        np.testing.assert_allclose(out[f"{name}.weight"], after[name], atol=1e-6)


def test_shards_stay_shards_with_their_index_and_configuration(tmp_path: Path) -> None:
    names = [name.removeprefix("base_model.model.") + ".weight" for name in (Q, V)]
    folder = tmp_path / "base"
    folder.mkdir()
    files = {names[0]: "model-00001-of-00002.safetensors", names[1]: "model-00002-of-00002.safetensors"}
    for name, file in files.items():
        write(folder / file, {name: base_values(H, H)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "config.json").write_text("{}")
    adapter = peft(tmp_path / "a", {Q: 4, V: 4}, r=4, lora_alpha=4)
    la.bake(folder, [adapter], None, tmp_path / "out", family="llama")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        [*files.values(), "config.json", "model.safetensors.index.json"]
    )
    for layer, name in zip((Q, V), names, strict=True):
        wanted = base_values(H, H) + oracle(adapter, layer)
        np.testing.assert_array_equal(read(tmp_path / "out" / files[name])[name], wanted.astype(np.float32))
    with pytest.raises(OptionError, match="does not exist yet"):
        la.bake(folder, [adapter], None, tmp_path / "out", family="llama")


def test_transposed_bases_and_embeddings(tmp_path: Path) -> None:
    attn, emb = "base_model.model.transformer.h.0.attn.c_attn", "base_model.model.transformer.wte"
    beside = {
        f"{attn}.lora_A.weight": values(2, H), f"{attn}.lora_B.weight": values(3 * H, 2),
        f"{emb}.lora_embedding_A": values(2, 10), f"{emb}.lora_embedding_B": values(H, 2),
    }  # fmt: skip
    adapter = peft(tmp_path / "a", {}, beside, r=2, lora_alpha=2, fan_in_fan_out=True)
    base = write(tmp_path / "b.safetensors", {"transformer.h.0.attn.c_attn.weight": base_values(H, 3 * H),
                                              "transformer.wte.weight": base_values(10, H)})  # fmt: skip
    with la.open(adapter) as opened:
        embeds = opened.layers[emb].base_transposed
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="gpt2", drop=True)
    out = read(tmp_path / "out.safetensors")
    wanted = base_values(H, 3 * H) + oracle(adapter, attn).T
    np.testing.assert_array_equal(out["transformer.h.0.attn.c_attn.weight"], wanted.astype(np.float32))
    if not embeds:
        wanted = base_values(10, H) + oracle(adapter, emb)
        np.testing.assert_array_equal(out["transformer.wte.weight"], wanted.astype(np.float32))


def test_full_copies_replace_the_parameter(tmp_path: Path) -> None:
    head = values(9, H).astype(np.float32)
    adapter = peft(tmp_path / "a", {Q: 4}, {"base_model.model.lm_head.weight": head}, r=4, lora_alpha=4)
    q = Q.removeprefix("base_model.model.")
    base = write(tmp_path / "b.safetensors", {f"{q}.weight": base_values(H, H), "lm_head.weight": base_values(9, H)})
    la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="llama")
    np.testing.assert_array_equal(read(tmp_path / "out.safetensors")["lm_head.weight"], head)


# -- refusals --------------------------------------------------------------------------------------------------


def test_what_has_no_place_is_refused_or_listed(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    n, other = "lora_unet_input_blocks_4_1_proj_in", "lora_unet_input_blocks_7_1_proj_in"
    adapter = write(tmp_path / "a.safetensors", pair(n, H, H, 2) | pair(other, H, H, 2, seed=4))
    with pytest.raises(OptionError, match="no such weight"):
        la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="sdxl")
    assert not (tmp_path / "out.safetensors").exists()
    report = la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="sdxl", drop=True)
    assert [one["name"] for one in report.to_dict()["skipped"]] == [other]


def test_mistakes_end_before_any_work(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    n = "lora_unet_input_blocks_4_1_proj_in"
    fine = write(tmp_path / "a.safetensors", pair(n, H, H, 2))
    large = write(tmp_path / "large.safetensors", pair(n, H, 2 * H, 2))
    alien = write(tmp_path / "alien.safetensors", pair("lora_unet_double_blocks_0_img_attn_qkv", 3 * H, H, 2))
    wrong: list[tuple[dict[str, Any], type[LoraAnalysisError]]] = [
        ({"adapters": [large]}, OptionError),
        ({"adapters": [alien]}, OptionError),
        ({"adapters": [fine], "weights": [float("nan")]}, OptionError),
        ({"adapters": [fine], "weights": [1.0, 2.0]}, OptionError),
        ({"adapters": []}, OptionError),
        ({"adapters": [fine], "family": "no such"}, OptionError),
        ({"adapters": [tmp_path / "absent.safetensors"]}, FileAccessError),
        ({"adapters": [fine], "base": tmp_path / "absent.safetensors"}, FileAccessError),
        ({"adapters": [fine], "output": base}, LoraAnalysisError),
    ]
    for asked, error in wrong:
        given = {"base": base, "weights": None, "output": tmp_path / "out.safetensors", "family": "sdxl", **asked}
        with pytest.raises(error):
            la.bake(**given)
        assert not (tmp_path / "out.safetensors").exists()
    broken = write(
        tmp_path / "nan.safetensors", pair(n, H, H, 2) | {f"{n}.lora_up.weight": np.full((H, 2), np.nan, np.float16)}
    )
    with pytest.raises(NonFiniteError, match="proj_in"):
        la.bake(base, [broken], None, tmp_path / "out.safetensors", family="sdxl")
    assert not (tmp_path / "out.safetensors").exists()


def test_adapters_of_different_base_models_are_refused_before_any_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    to_k = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    one = write(tmp_path / "sd1.safetensors", pair(to_k, H, 768, 2, alpha=2.0))
    flux = {f"{n}_img_attn_qkv": n for n in ("lora_unet_double_blocks_0", "lora_unet_double_blocks_1")}
    arrays = {key: array for n, name in enumerate(flux) for key, array in pair(name, 3 * H, H, 2, 2.0, seed=n).items()}
    arrays |= pair("lora_unet_single_blocks_0_linear1", 7 * H, H, 2, alpha=2.0)
    two = write(tmp_path / "flux.safetensors", arrays)
    monkeypatch.setattr("lora_analysis.formats.checkpoint.Checkpoint.array", _no_values)
    for drop in (False, True):  # dropping leaves layers out, never a whole adapter
        with pytest.raises(OptionError, match=r"made for .+ and .+ no common base"):
            la.bake(base, [one, two], None, tmp_path / "out.safetensors", drop=drop)
        with pytest.raises(OptionError, match=r"flux.safetensors: none of its 3 layers"):
            la.bake(base, [two], None, tmp_path / "out.safetensors", drop=drop)
        with pytest.raises(OptionError, match=r"none of its"):  # also where the base model is said
            la.bake(base, [one, two], None, tmp_path / "out.safetensors", family="sdxl", drop=drop)
    done = lora("bake", base, one, two, "-o", tmp_path / "out.safetensors")
    assert done.code == 2
    assert "no common base" in done.err
    assert not (tmp_path / "out.safetensors").exists()


def _no_values(*_: object) -> None:
    raise AssertionError("a weight was read")


def test_a_quantised_weight_is_not_added_to(tmp_path: Path) -> None:
    key = f"{PREFIX}input_blocks.4.1.proj_in"
    base = write(
        tmp_path / "base.safetensors", {f"{key}.weight": base_values(H, H), f"{key}.scale_weight": base_values(1)}
    )
    adapter = write(tmp_path / "a.safetensors", pair("lora_unet_input_blocks_4_1_proj_in", H, H, 2))
    with pytest.raises(OptionError, match="quantised"):
        la.bake(base, [adapter], None, tmp_path / "out.safetensors", family="sdxl")


def test_the_command_reports_what_matched(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", SDXL)
    adapter = write(tmp_path / "a.safetensors", pair("lora_unet_input_blocks_4_1_proj_in", H, H, 2))
    arguments = ("bake", base, f"{adapter}:0.5", "--base-model", "sdxl")
    dry = lora(*arguments, "--dry-run", "--json")
    assert dry.json["adapters"][0]["layers_matched"] == 1
    done = lora(*arguments, "-o", tmp_path / "out.safetensors")
    assert done.code == 0
    assert "1 of 1 layers" in done.out
    assert "1 of 6 change" in done.out
    assert lora(*arguments, "-o", tmp_path / "out.safetensors").code == 1
    assert lora(*arguments).code == 2
