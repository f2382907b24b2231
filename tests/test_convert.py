"""Conversion: the same deltas under other names, to the last bit where both dialects can say them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from command import lora
from layouts import index, needs_shared
from lora_analysis.errors import LoraAnalysisError, OptionError, UnknownDialectError
from lora_analysis.formats.architectures import canonical_parts
from lora_analysis.formats.layout import TensorPlan
from lora_analysis.formats.writer import write_safetensors
from shrunk import write_shrunk

H = 8  # hidden size of the small models here
FLUX = "lora_unet_double_blocks_0_img_attn_qkv"


def values(*shape: int, seed: int = 0, dtype: Any = np.float16) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) / 4).astype(dtype)


def pair(name: str, out: int, width: int, rank: int, alpha: float | None = None, seed: int = 1) -> dict:
    found = {
        f"{name}.lora_down.weight": values(rank, width, seed=seed),
        f"{name}.lora_up.weight": values(out, rank, seed=seed + 1),
    }
    return found | ({} if alpha is None else {f"{name}.alpha": np.array(alpha, np.float32)})


def write(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> Path:
    names = {"float16": "F16", "float32": "F32", "bfloat16": "BF16", "int64": "I64", "float64": "F64"}
    plans = [TensorPlan(key, names[array.dtype.name], array.shape) for key, array in arrays.items()]
    data = [np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in arrays.values()]
    write_safetensors(path, plans, data, metadata or {})
    return path


def deltas(path: Path, family: str) -> dict[str, np.ndarray]:
    """Every delta by canonical module, dense, in float64."""
    found: dict[str, np.ndarray] = {}
    with la.open(path) as adapter:
        for layer in adapter.layers.values():
            if layer.opaque is not None:
                continue
            delta = la.materialise(layer)
            for part in canonical_parts(layer, family) or ():
                found[part.module] = delta if layer.experts else delta[part.start : part.stop]
    return found


def same_deltas(one: Path, other: Path, family: str) -> None:
    """Bit for bit; what one lacks is zero in the other."""
    first, second = deltas(one, family), deltas(other, family)
    assert first
    for module in first.keys() | second.keys():
        if module in first and module in second:
            np.testing.assert_array_equal(first[module], second[module].reshape(first[module].shape), err_msg=module)
        else:
            assert not (first.get(module, second.get(module)) != 0).any(), module


def same_where_it_went(source: Path, there: Path, back: Path, family: str) -> None:
    """Plain LoRA is the same bit for bit in ``back``, of all modules that ``there`` could say."""
    before, between, after = (deltas(path, family) for path in (source, there, back))
    with la.open(source) as adapter:
        plain = {
            part.module
            for layer in adapter.layers.values()
            if layer.kind == "lora" and "mid" not in layer.keys
            for part in canonical_parts(layer, family) or ()
        }
    for module in plain & between.keys():
        found = after.get(module, np.zeros_like(before[module]))
        np.testing.assert_array_equal(found.reshape(before[module].shape), before[module], err_msg=module)
    for module in after.keys() - before.keys():  # the other parts of a fused weight
        assert not after[module].any(), module


# -- round trips over the layouts ------------------------------------------------------------------------

# Every family with fused weights, every kind. LORA_ALL_LAYOUTS=1 takes all of the layouts.
FEW = (
    "flux1-kohya-r16.json", "flux1-diffusers-r32-hands.json", "flux1-depth-control-bfl.json",
    "flux2-klein4b-musubi-r16.json", "sd15-kohya-r32.json", "sd15-comfy-extract-r8.json",
    "sd15-lycoris-locon-tucker-norm.json", "sd15-lycoris-lokr-f8.json",
    "sd35l-kohya-r16-te.json", "lumina2-kohya-r8.json", "zimage-musubi-r32.json", "hunyuan-video-musubi-r32.json",
    "wan21-1p3b-musubi-r16.json", "pixart-sigma-peft-r16.json", "llama32-1b-r16.json", "flux1-xlabs-excerpt.json",
    "sdxl-diffusers-r8-te.json",
)  # fmt: skip
ALL = bool(os.environ.get("LORA_ALL_LAYOUTS"))
LAYOUTS = [entry["file"] for entry in index() if ALL or entry["file"] in FEW]
BACK = {"kohya": "kohya", "comfyui": "comfyui", "diffusers": "diffusers", "peft": "peft", "onetrainer": "kohya",
        "lycoris": "kohya", "xlabs": "comfyui", "bfl": "comfyui", "diffsynth": "diffusers", "mlx": "peft",
        "diffusers-legacy": "diffusers"}  # fmt: skip


@needs_shared
@pytest.mark.parametrize("file", LAYOUTS)
def test_every_layout_survives_the_way_to_every_dialect_and_back(file: str, tmp_path: Path) -> None:
    entry = next(entry for entry in index() if entry["file"] == file)
    family = entry["base_model_family"]
    source = write_shrunk(file, tmp_path)
    with la.open(source) as adapter:
        kinds = {layer.kind for layer in adapter.layers.values()}
        dialect, layers = adapter.dialect, len(adapter.layers)
    reached = 0
    for to in ("kohya", "comfyui", "diffusers", "peft"):
        there = tmp_path / (to if to == "peft" else f"{to}.safetensors")
        try:
            report = la.convert(source, to, there, family=family, drop=True)
        except (OptionError, UnknownDialectError):
            continue
        reached += 1
        calculated = [plan for plan in report.plan.layers.values() if plan.action != "rename"]
        rounded = any(source.layer.kind != "lora" for plan in calculated for source in plan.sources) or any(
            plan.action == "factor" for plan in calculated
        )
        # bf16 rounds to 0.4 % of each value; 1e-16 is a unit in the last place of a float64
        assert report.relative_error <= (2e-2 if rounded else 1e-15), to
        if dialect not in BACK:
            continue  # names that no table spells: nothing is converted to them
        back = tmp_path / f"{to}-back{'' if BACK[dialect] == 'peft' else '.safetensors'}"
        la.convert(there, BACK[dialect], back, family=family, drop=True)
        start = source if dialect != "peft" else tmp_path
        same_where_it_went(start, there, back, family)
        if not (kinds - {"lora"} or report.plan.missing):
            same_deltas(start, back, family)  # with everything that the target could have left out
    known = layers and not file.startswith(("sd15-cloneofsimo", "tinyllama-peft-"))
    assert reached or not known


# -- fused and split ---------------------------------------------------------------------------------------


def test_a_fused_layer_is_split_with_its_down_copied(tmp_path: Path) -> None:
    source = write(tmp_path / "a.safetensors", pair(FLUX, 3 * H, H, 4, alpha=2.0))
    report = la.convert(source, "diffusers", tmp_path / "b.safetensors", family="flux1")
    assert report.plan.actions == {"slice": 3}
    with la.open(tmp_path / "b.safetensors") as out:
        ranks = {name: (layer.rank, layer.scale) for name, layer in out.layers.items()}
        downs = {out.source.raw(layer.keys["down"]) for layer in out.layers.values()}
    assert ranks == {f"transformer.transformer_blocks.0.attn.to_{x}": (4, 0.5) for x in "qkv"}
    assert len(downs) == 1
    # and joined again: one down, the old rank
    back = la.convert(tmp_path / "b.safetensors", "kohya", tmp_path / "c.safetensors", family="flux1")
    assert back.plan.actions == {"share": 1}
    with la.open(source) as a, la.open(tmp_path / "c.safetensors") as c:
        for key in a.source.tensors:
            np.testing.assert_array_equal(a.source.array(key), c.source.array(key))


def test_split_layers_are_stacked_and_cut_apart_again(tmp_path: Path) -> None:
    names = [f"transformer.transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    arrays: dict = {}
    for number, name in enumerate(names):
        arrays |= pair(name, H, H, 2, seed=10 * number + 1)
    source = write(tmp_path / "a.safetensors", arrays)
    report = la.convert(source, "comfyui", tmp_path / "b.safetensors", family="flux1")
    assert report.plan.actions == {"join": 1}
    with la.open(tmp_path / "b.safetensors") as joined:
        (layer,) = joined.layers.values()
        assert (layer.rank, layer.scale, layer.shape) == (6, 1.0, (3 * H, H))
        expected = np.concatenate(
            [arrays[f"{n}.lora_up.weight"].astype("f8") @ arrays[f"{n}.lora_down.weight"] for n in names]
        )
        np.testing.assert_array_equal(la.materialise(layer), expected)
    back = la.convert(tmp_path / "b.safetensors", "diffusers", tmp_path / "c.safetensors", family="flux1")
    assert back.plan.actions == {"cut": 3}
    with la.open(tmp_path / "c.safetensors") as c:
        for name in names:
            np.testing.assert_array_equal(c.source.array(f"{name}.lora_B.weight"), arrays[f"{name}.lora_up.weight"])
            np.testing.assert_array_equal(c.source.array(f"{name}.lora_A.weight"), arrays[f"{name}.lora_down.weight"])


def test_missing_parts_of_a_fused_weight_are_zero_rows_and_not_written_back(tmp_path: Path) -> None:
    one = "transformer.single_transformer_blocks.0"
    arrays = pair(f"{one}.attn.to_k", H, H, 2) | pair(f"{one}.proj_mlp", 4 * H, H, 3, seed=5)
    source = write(tmp_path / "a.safetensors", arrays)
    la.convert(source, "kohya", tmp_path / "b.safetensors", family="flux1")
    with la.open(tmp_path / "b.safetensors") as fused:
        delta = la.materialise(fused.layers["lora_unet_single_blocks_0_linear1"])
    assert delta.shape == (7 * H, H)
    assert not delta[:H].any()
    assert not delta[2 * H : 3 * H].any()
    back = la.convert(tmp_path / "b.safetensors", "diffusers", tmp_path / "c.safetensors", family="flux1")
    assert set(back.plan.layers) == {f"{one}.attn.to_k", f"{one}.proj_mlp"}
    assert any("zero" in note for note in back.plan.notes)
    same_deltas(source, tmp_path / "c.safetensors", "flux1")


def test_halves_in_the_other_order_are_exchanged(tmp_path: Path) -> None:
    arrays = pair("lora_unet_final_layer_adaLN_modulation_1", 2 * H, H, 3) | pair(FLUX, 3 * H, H, 2)
    source = write(tmp_path / "a.safetensors", arrays)
    la.convert(source, "diffusers", tmp_path / "b.safetensors", family="flux1")
    with la.open(source) as a, la.open(tmp_path / "b.safetensors") as b:
        native = la.materialise(a.layers["lora_unet_final_layer_adaLN_modulation_1"])
        other = la.materialise(b.layers["transformer.norm_out.linear"])
    np.testing.assert_array_equal(other, np.concatenate([native[H:], native[:H]]))


def test_parts_of_different_scale_keep_their_deltas(tmp_path: Path) -> None:
    arrays: dict = {}
    for number, (x, alpha) in enumerate((("q", 1.0), ("k", 3.0), ("v", 2.0))):
        arrays |= pair(f"lora_transformer_transformer_blocks_0_attn_to_{x}", H, H, 2, alpha=alpha, seed=number * 7 + 1)
    source = write(tmp_path / "a.safetensors", arrays)
    report = la.convert(source, "kohya", tmp_path / "b.safetensors", family="flux1")
    assert report.plan.actions == {"join": 1}
    assert 0 < report.relative_error < 5e-4  # fp16
    with la.open(source) as a, la.open(tmp_path / "b.safetensors") as b:
        expected = np.concatenate([la.materialise(layer) for layer in a.layers.values()])
        np.testing.assert_allclose(la.materialise(next(iter(b.layers.values()))), expected, atol=1e-3)


# -- DoRA, biases, other kinds ------------------------------------------------------------------------------


def dora(name: str, out: int, width: int, axis: str) -> dict:
    shape = (out, 1) if axis == "out" else (1, width)
    return pair(name, out, width, 2, alpha=2.0) | {f"{name}.dora_scale": values(*shape, seed=9)}


def test_norms_of_rows_follow_a_split_and_take_the_targets_shape(tmp_path: Path) -> None:
    arrays = dora(FLUX, 3 * H, H, "out")
    source = write(tmp_path / "a.safetensors", arrays)
    la.convert(source, "peft", tmp_path / "peft", family="flux1")
    with la.open(tmp_path / "peft") as out:
        found = [layer.magnitude() for layer in out.layers.values()]
        assert out.config is not None
        assert out.config["use_dora"] is True
    np.testing.assert_array_equal(
        np.concatenate([m.values for m in found if m is not None]), arrays[f"{FLUX}.dora_scale"].reshape(-1)
    )
    la.convert(tmp_path / "peft", "kohya", tmp_path / "c.safetensors", family="flux1")
    with la.open(tmp_path / "c.safetensors") as back:
        np.testing.assert_array_equal(back.source.array(f"{FLUX}.dora_scale"), arrays[f"{FLUX}.dora_scale"])


def test_biases_and_norms_are_measured_after_writing(tmp_path: Path) -> None:
    name = "double_blocks.0.img_attn.qkv"
    arrays = dora(FLUX, 3 * H, H, "out")
    source = write(tmp_path / "dora.safetensors", arrays)
    there = la.convert(source, "peft", tmp_path / "peft", family="flux1")  # one layer becomes three
    back = la.convert(tmp_path / "peft", "kohya", tmp_path / "back.safetensors", family="flux1")
    assert [report.measured.dora_norms for report in (there, back)] == [(3, 0.0, None)] * 2
    assert there.measured.biases == (0, 0.0, None)
    # A scale that multiplies the bias is rounded to the type of the bias.
    biased = {
        f"{name}.lora_A.weight": values(4, H), f"{name}.lora_B.weight": values(3 * H, 4),
        f"{name}.lora_B.bias": values(3 * H), f"{name}.alpha": np.array(1.3, np.float32),
    }  # fmt: skip
    source = write(tmp_path / "bias.safetensors", biased)
    report = la.convert(source, "comfyui", tmp_path / "b.safetensors", family="flux1", bake_scale=True)
    with la.open(source) as one, la.open(tmp_path / "b.safetensors") as other:
        (old,), (new,) = ([layer.bias() for layer in adapter.layers.values()] for adapter in (one, other))
        wanted = np.abs(old.values.astype(float) * old.scale - new.values.astype(float) * new.scale).max()
    assert report.measured.biases.compared == 1
    assert report.measured.biases.max_difference == wanted
    assert report.to_dict()["biases"]["max_difference"] == wanted


def test_a_bias_without_a_delta_is_no_delta(tmp_path: Path) -> None:
    """It is compared as a bias, counted and named as one, whatever its size beside the deltas."""
    alone = "lora_unet_double_blocks_1_img_attn_proj"
    arrays = pair(FLUX, 3 * H, H, 2, alpha=2.0) | {f"{alone}.diff_b": 100 * values(H, seed=4)}
    source = write(tmp_path / "a.safetensors", arrays)
    ran = lora("convert", source, "--to", "comfyui", "-o", tmp_path / "b.safetensors", "--base-model", "flux1")
    assert ran.code == 0, ran.err
    assert "largest difference 0; 1 compared, 1 of them without a delta" in ran.out
    document = la.convert(source, "comfyui", tmp_path / "c.safetensors", family="flux1").to_dict()
    assert document["layers_after"] == 2
    assert document["layers_compared"] == 1
    (name,) = (layer["layer"] for layer in document["layers"] if layer["kind"] == "bias")
    assert document["biases"] == {"compared": 1, "max_difference": 0.0, "layer": None, "alone": [name]}


def test_a_changed_bias_without_a_delta_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lora_analysis.formats.source import FileSource

    alone = "lora_unet_double_blocks_1_img_attn_proj"
    source = write(tmp_path / "a.safetensors", pair(FLUX, 3 * H, H, 2) | {f"{alone}.diff_b": values(H, seed=4)})
    changed = values(H, seed=4)
    changed[3] += 0.5
    raw = FileSource.raw
    monkeypatch.setattr(
        FileSource, "raw", lambda self, key: changed.tobytes() if key.endswith("diff_b") else raw(self, key)
    )
    report = la.convert(source, "comfyui", tmp_path / "b.safetensors", family="flux1")
    assert report.measured.biases.max_difference == pytest.approx(0.5, rel=1e-3)  # fp16
    assert report.measured.relative_error == 0


@pytest.mark.parametrize(("role", "field"), [("magnitude", "dora_norms"), ("bias", "biases")])
def test_a_wrong_bias_or_norm_is_found_and_shown(
    role: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is made to store a wrong value, in a layer that is split and one that is joined."""
    from lora_analysis.cli.convert_view import convert_view
    from lora_analysis.converting import building, writing

    def wrong(plan: Any) -> building.Built:
        made = right(plan)
        if role in made.arrays:
            made.arrays[role].reshape(-1)[2] += 0.5
        return made

    right = building.built
    monkeypatch.setattr(writing, "built", wrong)
    if role == "magnitude":
        source = write(tmp_path / "a.safetensors", dora(FLUX, 3 * H, H, "out"))
        report = la.convert(source, "diffusers", tmp_path / "b.safetensors", family="flux1")
        compared = 3
    else:
        parts = {f"transformer.transformer_blocks.0.attn.to_{x}": n for n, x in enumerate("qkv")}
        arrays = {
            key: array
            for name, n in parts.items()
            for key, array in (
                (f"{name}.lora_A.weight", values(2, H, seed=n)), (f"{name}.lora_B.weight", values(H, 2, seed=n)),
                (f"{name}.lora_B.bias", values(H, seed=n)),
            )
        }  # fmt: skip
        source = write(tmp_path / "a.safetensors", arrays)
        report = la.convert(source, "kohya", tmp_path / "b.safetensors", family="flux1")
        compared = 3  # each part's rows of the one bias
    assert report.relative_error < 1e-3  # the deltas are right
    found = getattr(report.measured, field)
    assert found.compared == compared
    assert found.max_difference == pytest.approx(0.5, rel=1e-2)
    assert found.layer in report.plan.layers
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as shown:
        console.print(convert_view(report))
    assert "largest difference 0.5" in shown.get()


def test_norms_of_columns_are_refused_where_no_name_exists_and_dropped_when_asked(tmp_path: Path) -> None:
    proj = "lora_unet_double_blocks_0_img_attn_proj"
    arrays = dora(proj, H, H, "in") | pair("lora_unet_double_blocks_0_txt_attn_proj", H, H, 2, alpha=2.0)
    source = write(tmp_path / "a.safetensors", arrays)
    with pytest.raises(OptionError, match=r"columns.*--drop"):
        la.convert(source, "diffusers", tmp_path / "b.safetensors", family="flux1")
    assert not (tmp_path / "b.safetensors").exists()
    report = la.convert(source, "diffusers", tmp_path / "b.safetensors", family="flux1", drop=True)
    assert [one.name for one in report.plan.missing] == [proj]
    la.convert(source, "comfyui", tmp_path / "c.safetensors", family="flux1")
    with la.open(tmp_path / "c.safetensors") as out:
        assert out.layers["diffusion_model.double_blocks.0.img_attn.proj"].magnitude_axis == "in"


def test_the_bias_of_the_factors_becomes_the_difference_of_the_bias(tmp_path: Path) -> None:
    name = "double_blocks.0.img_attn.qkv"
    arrays = {
        f"{name}.lora_A.weight": values(2, H),
        f"{name}.lora_B.weight": values(3 * H, 2),
        f"{name}.lora_B.bias": values(3 * H),
        "double_blocks.0.img_attn.norm.key_norm.scale": values(H),
    }  # fmt: skip
    source = write(tmp_path / "a.safetensors", arrays)
    report = la.convert(source, "comfyui", tmp_path / "b.safetensors", family="flux1")
    assert not report.plan.missing
    with la.open(tmp_path / "b.safetensors") as out:
        np.testing.assert_array_equal(out.source.array(f"diffusion_model.{name}.diff_b"), arrays[f"{name}.lora_B.bias"])
        key = "diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale.set_weight"
        np.testing.assert_array_equal(out.source.array(key), values(H))


def test_other_kinds_become_lora_exactly_or_at_a_rank(tmp_path: Path) -> None:
    n = "lora_unet_input_blocks_4_1_proj_in"
    conv = "lora_unet_input_blocks_1_0_in_layers_2"
    arrays = {
        f"{n}.hada_w1_a": values(20, 2, seed=1, dtype=np.float32),
        f"{n}.hada_w1_b": values(2, 24, seed=2, dtype=np.float32),
        f"{n}.hada_w2_a": values(20, 2, seed=3, dtype=np.float32),
        f"{n}.hada_w2_b": values(2, 24, seed=4, dtype=np.float32),
        f"{n}.alpha": np.array(1.0, np.float32),
        f"{conv}.lokr_w1": values(2, 2, seed=5, dtype=np.float32),
        f"{conv}.lokr_w2": values(3, 18, seed=6, dtype=np.float32),
        f"{conv}.alpha": np.array(4.0, np.float32),
    }  # fmt: skip
    source = write(tmp_path / "a.safetensors", arrays)
    kept = la.convert(source, "comfyui", tmp_path / "k.safetensors", family="sdxl")
    assert kept.relative_error == 0.0
    assert kept.plan.actions == {"rename": 2}
    report = la.convert(source, "diffusers", tmp_path / "b.safetensors", family="sdxl")
    assert report.relative_error < 1e-6
    with la.open(source) as a, la.open(tmp_path / "b.safetensors") as b:
        linear = b.layers["unet.down_blocks.1.attentions.0.proj_in"]
        assert (linear.kind, linear.rank) == ("lora", 4)
        np.testing.assert_allclose(la.materialise(linear), la.materialise(a.layers[n]), atol=1e-6)
        wide = b.layers["unet.down_blocks.0.resnets.0.conv1"]
        assert wide.shape == (6, 4, 3, 3)  # LoKr stores the kernel flattened; the table knows it
        np.testing.assert_allclose(la.materialise(wide).reshape(6, -1), la.materialise(a.layers[conv]), atol=1e-6)
        best = {name: np.linalg.svd(la.materialise(layer).reshape(layer.shape[0], -1), compute_uv=False)
                for name, layer in a.layers.items() if layer.shape}  # fmt: skip
    cut = la.convert(source, "diffusers", tmp_path / "c.safetensors", family="sdxl", rank=1)
    dropped = sum(float(np.sum(s[1:] ** 2)) for s in best.values())
    whole = sum(float(np.sum(s**2)) for s in best.values())
    assert cut.relative_error == pytest.approx(np.sqrt(dropped / whole), rel=1e-5)


# -- scales, ranks, types -------------------------------------------------------------------------------------


def test_one_rank_and_one_alpha_for_runtimes_that_read_no_patterns(tmp_path: Path) -> None:
    arrays = pair("lora_unet_double_blocks_0_img_attn_proj", H, H, 2, alpha=1.0) | pair(
        "lora_unet_double_blocks_0_txt_attn_proj", H, H, 5, alpha=4.0, seed=4
    )
    source = write(tmp_path / "a.safetensors", arrays)
    report = la.convert(
        source, "peft", tmp_path / "b", family="flux1", uniform_rank=5, bake_scale=True, dtype="fp32"
    )  # fmt: skip
    config = json.loads((tmp_path / "b" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["rank_pattern"], config["alpha_pattern"]) == (5, 5, {}, {})
    assert report.relative_error < 1e-6
    cut = la.convert(source, "peft", tmp_path / "c", family="flux1", uniform_rank=3)
    assert 0.01 < cut.relative_error < 1
    with la.open(tmp_path / "c") as out:
        assert {layer.rank for layer in out.layers.values()} == {3}


def test_patterns_of_a_configuration_are_exact(tmp_path: Path) -> None:
    arrays = pair("lora_unet_double_blocks_0_img_attn_proj", H, H, 2, alpha=0.7) | pair(
        "lora_unet_double_blocks_0_txt_attn_proj", H, H, 5, alpha=4.0, seed=4
    )
    source = write(tmp_path / "a.safetensors", arrays)
    for to, target in (("peft", tmp_path / "b"), ("diffusers", tmp_path / "b.safetensors")):
        assert la.convert(source, to, target, family="flux1").relative_error == 0.0
        same_deltas(source, target, "flux1")


def test_the_input_is_untouched_and_the_output_says_what_was_done(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.safetensors", pair(FLUX, 3 * H, H, 4, alpha=2.0), {"ss_network_dim": "9", "keep": "me"}
    )
    before = source.read_bytes()
    la.convert(source, "kohya", tmp_path / "b.safetensors", family="flux1")
    assert source.read_bytes() == before
    with la.open(tmp_path / "b.safetensors") as out:
        assert out.metadata["ss_network_dim"] == "4"
        assert out.metadata["keep"] == "me"
        assert out.metadata["lora_analysis.operation"] == "convert"
        (record,) = json.loads(out.metadata["lora_analysis.history"])
        assert record["options"] == {"to": "kohya", "family": "flux1"}
        assert len(record["inputs"][0]["sha256"]) == 64
    again = tmp_path / "again.safetensors"
    la.convert(source, "kohya", again, family="flux1")
    assert again.read_bytes() == (tmp_path / "b.safetensors").read_bytes()


# -- refusals ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = write(tmp_path / "a.safetensors", pair(FLUX, 3 * H, H, 4))
    odd = write(tmp_path / "odd.safetensors", pair("lora_unet_no_such_module", H, H, 2))
    two = write(
        tmp_path / "two.safetensors",
        pair(FLUX, 3 * H, H, 2) | pair("transformer.transformer_blocks.0.attn.to_k", H, H, 2),
    )
    refused: list[tuple[Path, dict[str, Any], type[LoraAnalysisError]]] = [
        (source, {"to": "klingon"}, OptionError),
        (source, {"to": "kohya", "family": "no such"}, OptionError),
        (source, {"to": "kohya", "family": "flux1", "uniform_rank": 0}, OptionError),
        (source, {"to": "kohya", "family": "flux1", "wrong": 1}, OptionError),
        (source, {"to": "peft", "family": "flux1", "component": "text_encoder"}, OptionError),
        (odd, {"to": "kohya"}, OptionError),  # the base model is unknown
        (odd, {"to": "kohya", "family": "flux1"}, UnknownDialectError),  # no layer matches
        (two, {"to": "kohya", "family": "flux1"}, OptionError),  # two layers of one file change the same rows
        (tmp_path / "absent.safetensors", {"to": "kohya"}, LoraAnalysisError),
    ]
    for path, asked, error in refused:
        with pytest.raises(error):
            la.convert(path, output=tmp_path / "out.safetensors", **asked)
        assert not (tmp_path / "out.safetensors").exists()


def test_a_language_model_has_no_names_of_image_tools(tmp_path: Path) -> None:
    arrays = {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": values(2, H),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": values(H, 2),
    }
    source = write(tmp_path / "a.safetensors", arrays)
    with pytest.raises(UnknownDialectError, match="no name"):
        la.convert(source, "kohya", tmp_path / "b.safetensors", family="llama")


# -- PEFT loads what is written -------------------------------------------------------------------------------------


def module_tree(shapes: dict[str, tuple[int, ...]]) -> Any:
    """A torch model with these modules: linear for two sizes, convolutions for four."""
    torch = pytest.importorskip("torch")
    root = torch.nn.Module()
    for name, shape in shapes.items():
        parent = root
        *folders, last = name.split(".")
        for folder in folders:
            if not hasattr(parent, folder):
                parent.add_module(folder, torch.nn.Module())
            parent = getattr(parent, folder)
        if len(shape) == 4:
            parent.add_module(last, torch.nn.Conv2d(shape[1], shape[0], shape[2:], padding=shape[2] // 2))
        else:
            parent.add_module(last, torch.nn.Linear(shape[1], shape[0]))
    return root


def merged_by_peft(
    folder: Path, shapes: dict[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Weights of a model before and after PEFT merged the folder's adapter into it."""
    peft = pytest.importorskip("peft")
    model = module_tree(shapes)
    before = {name: model.get_submodule(name).weight.detach().double().numpy().copy() for name in shapes}
    loaded = peft.PeftModel.from_pretrained(model, str(folder))
    merged = loaded.merge_and_unload()
    return before, {name: merged.get_submodule(name).weight.detach().double().numpy() for name in shapes}


def test_peft_loads_a_converted_image_adapter_and_merges_the_same_weights(tmp_path: Path) -> None:
    conv = "lora_unet_input_blocks_1_0_in_layers_2"
    arrays = pair("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q", H, H, 3, alpha=1.5) | pair(
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", H, 12, 2, alpha=2.0, seed=5
    )
    arrays |= {
        f"{conv}.lora_down.weight": values(2, 4, 3, 3), f"{conv}.lora_up.weight": values(6, 2, 1, 1),
        f"{conv}.alpha": np.array(1.0, np.float32),
    }  # fmt: skip
    source = write(tmp_path / "a.safetensors", arrays)
    la.convert(source, "peft", tmp_path / "peft", family="sdxl")
    expected = deltas(source, "sdxl")
    shapes = {module.removeprefix("unet."): delta.shape for module, delta in expected.items()}
    before, after = merged_by_peft(tmp_path / "peft", shapes)
    for name in shapes:
        np.testing.assert_allclose(after[name] - before[name], expected[f"unet.{name}"], atol=2e-6)  # float32 sums


@pytest.mark.parametrize("rslora", [False, True])
def test_peft_loads_a_converted_language_adapter(tmp_path: Path, rslora: bool) -> None:
    names = [f"base_model.model.model.layers.{n}.self_attn.{p}" for n in (0, 1) for p in ("q_proj", "v_proj")]
    arrays = {
        key: array
        for number, name in enumerate(names)
        for key, array in (
            (f"{name}.lora_A.weight", values(2 + number, H, seed=number, dtype=np.float32)),
            (f"{name}.lora_B.weight", values(H, 2 + number, seed=number + 9, dtype=np.float32)),
        )
    }
    config = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"], "use_rslora": rslora,
        "rank_pattern": {name.removeprefix("base_model.model."): 2 + n for n, name in enumerate(names) if n},
        "task_type": None, "base_model_name_or_path": "some/model",
    }  # fmt: skip
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "adapter_model.safetensors", arrays)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    la.convert(folder, "peft", tmp_path / "out", family="llama", uniform_rank=5, bake_scale=True)
    written = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert written["target_modules"] == ["q_proj", "v_proj"]
    assert written["base_model_name_or_path"] == "some/model"
    expected = deltas(folder, "llama")
    shapes = {name: delta.shape for name, delta in expected.items()}
    for adapter in (folder, tmp_path / "out"):
        before, after = merged_by_peft(adapter, shapes)
        for name in shapes:
            np.testing.assert_allclose(after[name] - before[name], expected[name], atol=2e-6)


def test_peft_loads_a_split_dora(tmp_path: Path) -> None:
    """W = m (W0 + delta) / norm of its rows: each part's own rows."""
    arrays = dora(FLUX, 3 * H, H, "out")
    arrays[f"{FLUX}.dora_scale"] = np.abs(arrays[f"{FLUX}.dora_scale"]) + np.float16(1)
    source = write(tmp_path / "a.safetensors", arrays)
    la.convert(source, "peft", tmp_path / "peft", family="flux1")
    names = [f"transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    before, after = merged_by_peft(tmp_path / "peft", dict.fromkeys(names, (H, H)))
    with la.open(source) as adapter:
        delta = la.materialise(adapter.layers[FLUX])
    for number, name in enumerate(names):
        rows = slice(number * H, (number + 1) * H)
        whole = before[name] + delta[rows]
        magnitude = arrays[f"{FLUX}.dora_scale"][rows].astype(np.float64)
        wanted = magnitude * whole / np.linalg.norm(whole, axis=1, keepdims=True)
        np.testing.assert_allclose(after[name], wanted, atol=3e-6)
