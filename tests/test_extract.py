"""Extraction: the best adapter between two checkpoints, its error measured against a dense SVD."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from command import lora
from lora_analysis.errors import LoraAnalysisError, NonFiniteError, OptionError
from test_bake import PREFIX, base_values, read
from test_convert import H, deltas, merged_by_peft, write

WIDE = 96


def low(out: int, width: int, rank: int, seed: int, *, falling: float = 0.6) -> np.ndarray:
    """A matrix of this rank with falling singular values, over a small floor."""
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.standard_normal((n, rank)))[0] for n in (out, width))
    return (u * falling ** np.arange(rank)) @ v.T + 1e-4 * rng.standard_normal((out, width))


SHAPES = {
    f"{PREFIX}input_blocks.4.1.proj_in": (WIDE, WIDE),
    f"{PREFIX}input_blocks.4.1.transformer_blocks.0.attn2.to_k": (WIDE, 80),
    f"{PREFIX}input_blocks.1.0.in_layers.2": (12, 10, 3, 3),
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj": (3 * 40, 40),
}


def checkpoints(folder: Path) -> tuple[Path, Path, dict[str, np.ndarray]]:
    """Tuned, base, and the differences by tensor."""
    base = {_key(name): base_values(*shape) for name, shape in SHAPES.items()}
    base |= {
        f"{PREFIX}input_blocks.4.1.norm.weight": base_values(WIDE),
        f"{PREFIX}input_blocks.4.1.proj_in.bias": base_values(WIDE, seed=2),
        f"{PREFIX}input_blocks.7.1.proj_in.weight": base_values(H, H),
        "first_stage_model.decoder.conv_in.weight": base_values(3, 3, 3, 3),
    }
    tuned = dict(base)
    for number, (name, shape) in enumerate(SHAPES.items()):
        delta = low(shape[0], int(np.prod(shape[1:])), 10, number).reshape(shape)
        tuned[_key(name)] = (base[_key(name)] + delta).astype(np.float32)
    for key in (f"{PREFIX}input_blocks.4.1.norm.weight", f"{PREFIX}input_blocks.4.1.proj_in.bias"):
        tuned[key] = base[key] + np.float32(0.1)
    differences = {key: tuned[key].astype(np.float64) - base[key].astype(np.float64) for key in base}
    return write(folder / "tuned.safetensors", tuned), write(folder / "base.safetensors", base), differences


def _key(name: str) -> str:
    return f"{name}_weight" if name.endswith("in_proj") else f"{name}.weight"


def flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(array.shape[0], -1)


@pytest.mark.parametrize("to", ["kohya", "diffusers", "comfyui"])
def test_every_layer_is_its_best_approximation(tmp_path: Path, to: str) -> None:
    tuned, base, differences = checkpoints(tmp_path)
    report = la.extract(tuned, base, tmp_path / "out.safetensors", to=to, rank=4, family="sdxl", dtype="fp32")
    found = deltas(tmp_path / "out.safetensors", "sdxl")
    expected = {
        "unet.down_blocks.1.attentions.0.proj_in": differences[_key(f"{PREFIX}input_blocks.4.1.proj_in")],
        "unet.down_blocks.0.resnets.0.conv1": differences[_key(f"{PREFIX}input_blocks.1.0.in_layers.2")],
    }
    in_proj = differences["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"]
    for number, part in enumerate(("q_proj", "k_proj", "v_proj")):
        name = f"text_encoder_2.text_model.encoder.layers.0.self_attn.{part}"
        expected[name] = in_proj[40 * number : 40 * (number + 1)]
    for module, delta in expected.items():
        values = np.linalg.svd(flat(delta), compute_uv=False)
        error = np.linalg.norm(flat(found[module]) - flat(delta))
        best = np.linalg.norm(values[4:])
        assert error == pytest.approx(best, rel=1e-3), module
        assert found[module].shape == delta.shape
    document = report.to_dict()
    assert document["layers_extracted"] == 6
    assert document["unchanged"] == 1
    for layer in report.layers.values():
        assert 0 < layer.error < layer.norm
    reasons = {one["name"]: one["reason"] for one in document["skipped"]}
    assert "first_stage_model.decoder.conv_in.weight" in reasons


def test_the_reported_error_is_that_of_what_is_stored(tmp_path: Path) -> None:
    tuned, base, differences = checkpoints(tmp_path)
    report = la.extract(tuned, base, tmp_path / "out.safetensors", to="comfyui", rank=4, family="sdxl", dtype="bf16")
    with la.open(tmp_path / "out.safetensors") as adapter:
        name = "diffusion_model.input_blocks.4.1.proj_in"
        delta = differences[_key(f"{PREFIX}input_blocks.4.1.proj_in")]
        assert report.layers[name].error == pytest.approx(
            np.linalg.norm(la.materialise(adapter.layers[name]) - delta), rel=1e-9
        )
        assert report.layers[name].norm == pytest.approx(np.linalg.norm(delta), rel=1e-12)
    total = np.sqrt(
        sum(one.error**2 for one in report.layers.values()) / sum(one.norm**2 for one in report.layers.values())
    )
    assert report.relative_error == pytest.approx(total)


def test_baking_what_was_extracted_gives_the_tuned_checkpoint_back(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    la.extract(
        tuned, base, tmp_path / "a.safetensors", to="comfyui", rank=96, family="sdxl", dtype="fp32", full_norms=True
    )
    la.bake(base, [tmp_path / "a.safetensors"], None, tmp_path / "again.safetensors", family="sdxl")
    wanted, found = read(tuned), read(tmp_path / "again.safetensors")
    for key, array in wanted.items():
        np.testing.assert_allclose(found[key], array, atol=2e-6, err_msg=key)


def test_energy_is_the_smallest_rank_that_reaches_it(tmp_path: Path) -> None:
    tuned, base, differences = checkpoints(tmp_path)
    report = la.extract(tuned, base, tmp_path / "out.safetensors", to="comfyui", energy=0.95, family="sdxl")
    for name, key in (("input_blocks.4.1.proj_in", f"{PREFIX}input_blocks.4.1.proj_in.weight"),
                      ("input_blocks.1.0.in_layers.2", f"{PREFIX}input_blocks.1.0.in_layers.2.weight")):  # fmt: skip
        values = np.linalg.svd(flat(differences[key]), compute_uv=False)
        kept = np.cumsum(values**2) / np.sum(values**2)
        assert report.layers[f"diffusion_model.{name}"].rank == int(np.argmax(kept >= 0.95)) + 1


def test_budgets_hold_for_the_whole(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    report = la.extract(tuned, base, tmp_path / "e.safetensors", to="kohya", error=0.2, family="sdxl", dtype="fp32")
    assert 0.1 < report.relative_error <= 0.2
    for limit in (8_000, 12_000):
        out = tmp_path / f"{limit}.safetensors"
        sized = la.extract(tuned, base, out, to="kohya", size=limit, family="sdxl")
        assert 0.75 * limit < out.stat().st_size <= limit
        assert sized.size == out.stat().st_size
    with pytest.raises(OptionError, match="rank 1"):
        la.extract(tuned, base, tmp_path / "x.safetensors", to="kohya", size=1_000, family="sdxl")


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        la.extract(tuned, base, tmp_path / f"{name}.safetensors", to="kohya", rank=3, family="sdxl", seed=seed)
    first = (tmp_path / "a.safetensors").read_bytes()
    assert first == (tmp_path / "b.safetensors").read_bytes()
    assert first != (tmp_path / "c.safetensors").read_bytes()


def test_split_checkpoints_are_joined_for_a_dialect_that_fuses(tmp_path: Path) -> None:
    base = {f"transformer_blocks.0.attn.to_{x}.weight": base_values(H, H, seed=n) for n, x in enumerate("qkv")}
    tuned = {key: (array + low(H, H, 2, n)).astype(np.float32) for n, (key, array) in enumerate(base.items())}
    one, other = write(tmp_path / "t.safetensors", tuned), write(tmp_path / "b.safetensors", base)
    la.extract(one, other, tmp_path / "out.safetensors", to="kohya", rank=H, family="flux1", dtype="fp32")
    with la.open(tmp_path / "out.safetensors") as adapter:
        delta = la.materialise(adapter.layers["lora_unet_double_blocks_0_img_attn_qkv"])
    wanted = np.concatenate([tuned[key].astype(np.float64) - base[key] for key in base])
    np.testing.assert_allclose(delta, wanted, atol=1e-6)


def test_peft_loads_what_was_extracted_from_a_language_model(tmp_path: Path) -> None:
    names = [f"model.layers.{n}.self_attn.{p}" for n in (0, 1) for p in ("q_proj", "v_proj")]
    base = {f"{name}.weight": base_values(H, H, seed=n) for n, name in enumerate(names)}
    base["model.embed_tokens.weight"] = base_values(11, H)
    tuned = {key: (array + low(*array.shape, 3, n)).astype(np.float32) for n, (key, array) in enumerate(base.items())}
    one, other = write(tmp_path / "t.safetensors", tuned), write(tmp_path / "b.safetensors", base)
    report = la.extract(one, other, tmp_path / "out", to="peft", rank=H, family="llama", dtype="fp32")
    assert [name for name in report.found.skipped if "embed" in name]
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "v_proj"]
    before, after = merged_by_peft(tmp_path / "out", dict.fromkeys(names, (H, H)))
    for name in names:
        wanted = tuned[f"{name}.weight"].astype(np.float64) - base[f"{name}.weight"]
        np.testing.assert_allclose(after[name] - before[name], wanted, atol=2e-6)


def test_mistakes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    broken = read(tuned)
    broken[f"{PREFIX}input_blocks.4.1.proj_in.weight"][0, 0] = np.nan
    nan = write(tmp_path / "nan.safetensors", broken)
    wrong: list[tuple[dict[str, Any], type[LoraAnalysisError]]] = [
        ({}, OptionError),
        ({"rank": 4, "energy": 0.9}, OptionError),
        ({"rank": 0}, OptionError),
        ({"energy": 1.5}, OptionError),
        ({"rank": 4, "to": "klingon"}, OptionError),
        ({"rank": 4, "family": "no such"}, OptionError),
        ({"rank": 4, "wrong": 1}, OptionError),
        ({"rank": 4, "to": "diffusers", "full_norms": True}, OptionError),
        ({"rank": 4, "tuned": base}, OptionError),  # nothing differs
        ({"rank": 4, "tuned": nan}, NonFiniteError),
        ({"rank": 4, "tuned": tmp_path / "absent.safetensors"}, LoraAnalysisError),
        ({"rank": 4, "output": base, "overwrite": True}, LoraAnalysisError),
    ]
    before = base.read_bytes()
    for asked, error in wrong:
        given = {"tuned": tuned, "base": base, "output": tmp_path / "out.safetensors", "family": "sdxl", **asked}
        with pytest.raises(error):
            la.extract(**given)
        assert not (tmp_path / "out.safetensors").exists()
    assert base.read_bytes() == before


def test_the_command_reports_the_measured_error(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    done = lora("extract", tuned, base, "-o", tmp_path / "out.safetensors", "--rank", 4, "--base-model", "sdxl")
    assert done.code == 0, done.err
    assert "as stored, measured" in done.out
    assert "1 are equal in both" in done.out
    again = lora(
        "extract", tuned, base, "-o", tmp_path / "out.safetensors", "--rank", 4, "--base-model", "sdxl", "--json"
    )
    assert again.code == 1
    assert lora("extract", tuned, base, "-o", tmp_path / "x.safetensors").code == 2


@pytest.mark.parametrize("to", ["kohya", "diffusers", "comfyui"])
def test_a_plan_reads_no_value_and_says_the_size_of_what_is_written(
    tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    changed = read(tuned)
    changed[f"{PREFIX}input_blocks.7.1.proj_in.weight"] += np.float32(1)  # so that every weight differs
    other = write(tmp_path / "changed.safetensors", changed)
    asked: dict[str, Any] = {"to": to, "rank": 4, "family": "sdxl"}
    with monkeypatch.context() as patch:
        patch.setattr("lora_analysis.formats.checkpoint.Checkpoint.array", _no_values)
        plan = la.extract(other, base, tmp_path / "out.safetensors", dry_run=True, **asked)
    assert not (tmp_path / "out.safetensors").exists()
    report = la.extract(other, base, tmp_path / "out.safetensors", **asked)
    found, done = plan.to_dict(), report.to_dict()
    assert found["size_least"] == found["size_most"] == done["output"]["size"]
    assert {one["layer"]: one["max_rank"] for one in found["layers"]} == {
        one["layer"]: one["rank"] for one in done["layers"]
    }
    assert found["skipped"] == done["skipped"] != []


def _no_values(*_: object) -> None:
    raise AssertionError("a plan read a value")


@pytest.mark.parametrize("asked", [{"energy": 0.9}, {"error": 0.2}, {"size": 12_000}, {"energy": 1.0, "max_rank": 3}])
def test_sizes_of_a_plan_bound_what_is_written(tmp_path: Path, asked: dict[str, Any]) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    changed = read(tuned)
    changed[f"{PREFIX}input_blocks.7.1.proj_in.weight"] += np.float32(1)
    other = write(tmp_path / "changed.safetensors", changed)
    plan = la.extract(other, base, None, family="sdxl", full_norms=True, **asked).to_dict()
    report = la.extract(other, base, tmp_path / "out.safetensors", family="sdxl", full_norms=True, **asked)
    assert plan["size_least"] <= report.size <= plan["size_most"]
    limits = {one["layer"]: one["max_rank"] for one in plan["layers"]}
    assert all((one.rank or 0) <= (limits[name] or 0) for name, one in report.layers.items())
    assert any(limit is None for limit in limits.values())  # norms and biases, whole


def test_a_dry_run_of_the_command_writes_nothing_and_refuses_like_the_run(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    arguments = ("extract", tuned, base, "--rank", 4, "--base-model", "sdxl", "--dry-run")
    before = sorted(tmp_path.iterdir())
    done = lora(*arguments)
    assert done.code == 0, done.err
    assert "where every weight differs" in done.out
    assert "left out" in done.out
    document = lora(*arguments, "-o", tmp_path / "out.safetensors", "--json").json
    assert document["dry_run"] is True
    assert document["layers_compared"] == 7
    assert sorted(tmp_path.iterdir()) == before
    assert lora(*arguments, "-o", base).code == 1
    assert lora(*arguments[:-1], "--dry-run", "--component", "no such").code != 0


def test_weights_are_counted_before_bytes(tmp_path: Path) -> None:
    tuned, base, _ = checkpoints(tmp_path)
    told: list[tuple[str, int, int]] = []
    la.extract(
        tuned, base, tmp_path / "out.safetensors", rank=2, family="sdxl",
        compared=lambda done, total: told.append(("weights", done, total)),
        progress=lambda done, total: told.append(("bytes", done, total)),
    )  # fmt: skip
    weights = [one for one in told if one[0] == "weights"]
    assert weights == told[: len(weights)] == [("weights", done, len(weights)) for done in range(1, len(weights) + 1)]
    unit, done, total = told[-1]
    assert (unit, done) == ("bytes", total)
    assert weights
