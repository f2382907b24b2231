"""What a spectrum says beyond its values: floors, a moved A, roles, dead layers, the base, a rank to choose."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import adapters
import layouts
import lora_analysis as la
from adapters import MODULE, save
from command import lora
from lora_analysis.adapter import Layer, LowRank
from lora_analysis.errors import NonFiniteError, OptionError
from lora_analysis.formats.roles import ROLES, role_of, stage_of
from lora_analysis.linalg import krylov
from lora_analysis.linalg.against_base import against_base
from lora_analysis.linalg.factor_spectrum import Measured, begin, finish
from lora_analysis.linalg.floors import plateau, rounding_floor
from lora_analysis.linalg.spectrum import summarise
from lora_analysis.linalg.streams import single_threaded_blas
from lora_analysis.spectra.recommendation import kept_energy
from sources import adapter_of


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def orthonormal(n: int, k: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(rng(seed).standard_normal((n, k)))[0]


def measured(update: LowRank) -> Measured:
    [measure] = finish([begin(update)])
    return measure()


# -- entropy -------------------------------------------------------------------------------------------


def test_entropy_is_the_logarithm_of_the_effective_rank():
    found = summarise(np.array([3.0, 2.0, 1.0, 0.5]))
    p = np.array([3, 2, 1, 0.5]) / 6.5
    assert found.spectral_entropy == pytest.approx(-np.sum(p * np.log(p)))
    assert found.relative_entropy == pytest.approx(found.spectral_entropy / np.log(4))
    assert summarise(np.full(8, 0.1)).relative_entropy == pytest.approx(1.0)
    assert (summarise(np.array([2.0])).spectral_entropy, summarise(np.array([2.0])).relative_entropy) == (0.0, 0.0)


# -- floors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_the_rounding_floor_is_the_size_of_what_rounding_adds(dtype):
    up, down = rng(1).standard_normal((300, 16)), rng(2).standard_normal((16, 200))
    stored = LowRank(up.astype(dtype), down.astype(dtype), 0.5)
    values, sizes = measured(stored)
    floor = rounding_floor(values, sizes.up, sizes.down, 0.5, (stored.up.dtype.name, stored.down.dtype.name))
    added = 0.5 * (stored.up.astype(np.float64) @ stored.down.astype(np.float64) - up @ down)
    assert floor.level == pytest.approx(np.linalg.norm(added) / np.sqrt(16), rel=0.15)
    assert floor.above == np.count_nonzero(values > floor.level)


def test_values_that_rounding_made_lie_around_the_floor_and_not_above_it():
    up = orthonormal(100, 8) @ np.diag([1.0, *[1e-5] * 7]) @ orthonormal(8, 8, 1)  # directions mixed in every column
    stored = LowRank(up.astype(np.float16), orthonormal(90, 8, 2).T.astype(np.float16))
    values, sizes = measured(stored)
    floor = rounding_floor(values, sizes.up, sizes.down, 1.0, ("float16", "float16"))
    assert values[1:].max() < 3 * floor.level  # the floor is their root mean square
    assert floor.above <= 3
    assert rounding_floor(values, sizes.up, sizes.down, 1.0, ("int8", "float16")) is None


def test_noise_is_a_plateau_and_what_stands_out_is_above_it():
    m, n, r = 600, 500, 24
    down = rng(3).uniform(-1, 1, (r, n)) / np.sqrt(n)
    noise = 1e-3 * rng(4).standard_normal((m, r))
    alone = np.linalg.svd(noise @ down, compute_uv=False)[:r]
    assert plateau(alone, (m, n)).above == 0
    signal = orthonormal(m, 3, 5) @ np.diag([3.0, 2.0, 1.0]) @ orthonormal(r, 3, 6).T
    found = plateau(np.linalg.svd((noise + signal) @ down, compute_uv=False)[:r], (m, n))
    assert found.above == 3
    assert found.level == pytest.approx(np.sqrt(np.mean(alone**2)), rel=0.1)


@pytest.mark.parametrize("values", [np.ones(3), 4.0 ** -np.arange(12.0), np.zeros(5), np.zeros(0)])
def test_short_steep_and_empty_spectra_have_no_plateau(values):
    assert plateau(values, (500, 500)) == (0.0, np.count_nonzero(values))


@pytest.mark.parametrize("rank", [1, 4, 30])
def test_factor_sizes_are_lengths_along_the_rank_on_every_route(rank):
    up, down = rng(1).standard_normal((20, rank)), rng(2).standard_normal((rank, 24))
    values, sizes = measured(LowRank(up, down, -2.0))
    np.testing.assert_allclose(
        values, 2 * np.linalg.svd(up @ down, compute_uv=False)[: len(values)], rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(sizes.up, np.sum(up**2, axis=0))
    np.testing.assert_allclose(sizes.down, np.sum(down**2, axis=1))
    with pytest.raises(NonFiniteError):
        measured(LowRank(up * np.nan, down))


def test_updates_measured_together_have_the_bits_they_have_alone():
    ranks = (4, 16, 4, 30, 16, 4)
    updates = [
        LowRank(rng(k).standard_normal((40, r)), rng(k + 9).standard_normal((r, 60))) for k, r in enumerate(ranks)
    ]
    updates[2] = LowRank(updates[2].up * np.nan, updates[2].down)
    measures = finish([begin(update) for update in updates])
    for at, (update, measure) in enumerate(zip(updates, measures, strict=True)):
        if at == 2:  # its own affair
            with pytest.raises(NonFiniteError):
                measure()
        else:
            assert measure().values.tobytes() == measured(update).values.tobytes()


# -- the initialisation, dead layers, roles ---------------------------------------------------------------


def test_an_untouched_a_has_the_size_of_its_initialisation():
    bound = 1 / np.sqrt(320)
    arrays = {
        f"{MODULE}.lora_down.weight": rng(1).uniform(-bound, bound, (16, 320)).astype(np.float32),
        f"{MODULE}.lora_up.weight": np.zeros((64, 16), np.float32),
    }
    [layer] = la.spectrum(adapter_of(arrays)).layers
    assert layer.down_moved == pytest.approx(1.0, abs=4 * layer.down_moved_chance)
    assert layer.down_moved_chance == pytest.approx(np.sqrt(0.8 / (16 * 320)))
    assert layer.is_dead
    moved = dict(arrays)
    moved[f"{MODULE}.lora_down.weight"] = 2 * arrays[f"{MODULE}.lora_down.weight"]
    assert la.spectrum(adapter_of(moved)).layers[0].down_moved == pytest.approx(4 * layer.down_moved)


def test_dead_layers_are_counted_and_named(tmp_path):
    arrays = adapters.lora(1) | adapters.lora(2, "lora_unet_dead")
    arrays["lora_unet_dead.lora_up.weight"][:] = 0
    path = save(tmp_path / "a.safetensors", arrays)
    found = la.spectrum(path)
    assert [layer.name for layer in found.dead] == ["lora_unet_dead"]
    assert [group.dead for group in found.components()] == [1]
    assert found.to_dict()["dead_layers"] == 1
    assert "dead: 1 layer" in lora("spectrum", path).out


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", "attention"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_0_proj", "mlp"),
        ("transformer.transformer_blocks.3.attn.to_add_out", "attention"),
        ("base_model.model.model.layers.0.mlp.down_proj", "mlp"),
        ("base_model.model.model.layers.0.self_attn.q_proj", "attention"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", "mlp"),
        ("lora_unet_double_blocks_0_img_mod_lin", "norm"),
        ("base_model.model.encoder.block.0.layer.0.SelfAttention.q", "attention"),
        ("base_model.model.model.embed_tokens", "embedding"),
        ("unet.conv_in", "other"),
    ],
)
def test_the_role_is_read_from_the_name(name, role):
    assert role_of(Layer(name, "lora", {}, (8, 8))) == role
    assert role in ROLES
    assert role_of(Layer(name, "lora", {}, (8, 8, 3, 3))) == "conv"


@layouts.needs_shared
def test_most_layers_of_real_layouts_have_a_role_and_every_unet_block_a_stage():
    known = total = 0
    for file in ("sdxl-kohya-r128-te.json.gz", "flux1-diffusers-r32-hands.json", "llama3-8b-peft-r16.json"):
        for key, info in layouts.load(file)["tensors"].items():
            if key.endswith((".lora_down.weight", ".lora_A.weight")):
                name = key.rpartition(".lora_")[0]
                known += role_of(Layer(name, "lora", {}, tuple(info["shape"]))) != "other"
                total += 1
    assert known / total > 0.95
    assert [stage_of(block) for block in ("output_blocks.3", "up_blocks.0", "middle_block.1", "layers.7")] == [
        "up",
        "up",
        "mid",
        "layers",
    ]


# -- beside the base -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread():
    """As in the real work: two threads of BLAS that share a busy core made these tests a hundred times slower."""
    with single_threaded_blas():
        yield


def dense_figures(delta: np.ndarray, weight: np.ndarray, rank: int, top: int) -> dict:
    u, _, vt = np.linalg.svd(delta, full_matrices=False)
    u, v = u[:, :rank], vt[:rank].T
    uw, _, vw = np.linalg.svd(weight, full_matrices=False)
    changed = np.linalg.svd(weight + delta)[0][:, :top]
    k = min(top, rank)
    return {
        "relative_norm": np.linalg.norm(delta) / np.linalg.norm(weight),
        "amplification": np.linalg.norm(delta) / np.linalg.norm(u.T @ weight @ v),
        "alignment_left": np.linalg.norm(u[:, :k].T @ uw[:, :k]) ** 2 / k,
        "alignment_right": np.linalg.norm(v[:, :k].T @ vw[:k].T) ** 2 / k,
        "intruders": int(np.sum(np.max(np.abs(uw.T @ changed), axis=0) < 0.5)),
        "most_foreign": float(np.min(np.max(np.abs(uw.T @ changed), axis=0))),
    }


def graded_weight(out: int, columns: int) -> np.ndarray:
    n = min(out, columns)
    return orthonormal(out, n, 7) * np.linspace(3, 0.5, n) @ orthonormal(columns, n, 8).T


@pytest.mark.parametrize(("out", "columns"), [(40, 30), (30, 40)])
@pytest.mark.parametrize("size", [0.1, 8.0])
def test_figures_beside_the_base_equal_the_dense_ones(out, columns, size):
    weight = graded_weight(out, columns)
    update = LowRank(size * orthonormal(out, 3, 1) * [1.0, 0.7, 0.4], orthonormal(columns, 3, 2).T)
    found = against_base(update, weight)
    for name, value in dense_figures(update.up @ update.down, weight, 3, 10).items():
        assert getattr(found, name) == pytest.approx(value, abs=1e-7), name
    assert found.is_exact
    assert found.chance_left == 3 / out
    assert (found.intruders > 0) == (size > 1)


WEIGHTS = {
    "noise": lambda out, columns: rng(3).standard_normal((out, columns)),
    "graded": graded_weight,
    "power law": lambda out, columns: (
        orthonormal(out, 200, 7) * np.arange(1.0, 201) ** -0.6 @ orthonormal(columns, 200, 8).T
    ),
}


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(("out", "columns"), [(200, 200), (200, 360), (360, 200)])
@pytest.mark.parametrize("size", [0.1, 0.9, 4.0])
def test_figures_of_a_large_base_agree_with_the_dense_ones(weight, out, columns, size, monkeypatch):
    monkeypatch.setattr(krylov, "DENSE", 32)
    base = WEIGHTS[weight](out, columns)
    scale = size * np.linalg.norm(base, 2)
    update = LowRank(scale * orthonormal(out, 4, 1) * [1.0, 0.9, 0.8, 0.7], orthonormal(columns, 4, 2).T)
    found = against_base(update, base)
    dense = dense_figures(update.up @ update.down, base, 4, 10)
    for name in ("relative_norm", "amplification", "alignment_left", "alignment_right"):
        assert getattr(found, name) == pytest.approx(dense[name], abs=1e-6), name
    assert found.residual < 1e-8
    assert found.is_exact
    assert found.intruders == dense["intruders"]
    assert (found.intruders > 0) == (size > 0.5)
    assert found.most_foreign <= dense["most_foreign"] + 1e-6
    assert dense["most_foreign"] <= found.most_foreign_at_most + 1e-6
    assert found.most_foreign_at_most < 0.5 or found.intruders == 0


@pytest.mark.parametrize(("out", "columns"), [(200, 260), (260, 200)])
def test_a_base_with_many_zero_singular_values_never_hides_an_intruder(out, columns, monkeypatch):
    monkeypatch.setattr(krylov, "DENSE", 32)
    base = orthonormal(out, 40, 7) * np.arange(1.0, 41) ** -0.6 @ orthonormal(columns, 40, 8).T
    update = LowRank(2.0 * orthonormal(out, 3, 1) * [1.0, 0.8, 0.6], orthonormal(columns, 3, 2).T)
    found = against_base(update, base)
    left = np.linalg.svd(base, full_matrices=False)[0][:, :40]  # the others belong to zero and are anything
    changed = np.linalg.svd(base + update.up @ update.down)[0][:, :10]
    largest = np.max(np.abs(left.T @ changed), axis=0)
    assert found.intruders >= np.sum(largest < 0.5) > 0
    assert found.most_foreign <= largest.min() + 1e-6
    assert largest.min() <= found.most_foreign_at_most + 1e-6


def test_a_vector_of_the_tail_that_stays_is_no_intruder(monkeypatch):
    monkeypatch.setattr(krylov, "DENSE", 32)
    monkeypatch.setattr(krylov, "_LOOKED_AT", 10)
    base = graded_weight(220, 200)
    left, _, right = np.linalg.svd(base, full_matrices=False)
    update = LowRank(5.0 * left[:, 150:151], right[150:151])  # a weak direction made the strongest
    found = against_base(update, base)
    assert found.compared_with < 150
    assert found.intruders == 0
    assert found.alignment_left == pytest.approx(0.0, abs=1e-9)


# -- the two tools under it --------------------------------------------------------------------------------


def positive(size: int, seed: int) -> np.ndarray:
    factor = rng(seed).standard_normal((size, 2 * size)) * np.linspace(1, 3, size)[:, None]
    return factor @ factor.T


@pytest.mark.parametrize("size", [20, 300, 600])
def test_leading_eigenpairs_are_those_of_the_whole_decomposition(size):
    matrix = positive(size, 4)
    values, vectors = np.linalg.eigh(matrix)
    found = krylov.leading(lambda rows: rows @ matrix, size, 10)
    assert found.is_whole == (size <= krylov.DENSE)
    assert found.known >= 10
    np.testing.assert_allclose(found.values[:10], values[::-1][:10], rtol=1e-10)
    overlap = np.abs(np.sum(found.vectors[:10] * vectors.T[::-1][:10], axis=1))
    np.testing.assert_allclose(overlap, 1.0, atol=1e-8)
    error = np.linalg.norm(found.vectors[:10] @ matrix - found.values[:10, None] * found.vectors[:10], axis=1)
    np.testing.assert_allclose(found.residuals[:10], error / values[-1], atol=1e-13)


def test_a_matrix_of_low_rank_ends_the_search_early():
    factor = rng(6).standard_normal((400, 5))
    found = krylov.leading(lambda rows: (rows @ factor) @ factor.T, 400, 10)
    np.testing.assert_allclose(found.values, np.linalg.svd(factor, compute_uv=False) ** 2)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("in_image", [False, True])
def test_the_heaviest_eigenvector_of_a_vector_lies_within_its_bounds(share, in_image):
    matrix = positive(300, 5)
    values, vectors = np.linalg.eigh(matrix)
    start = np.sqrt(1 - share) * rng(7).standard_normal(300) / np.sqrt(300) + np.sqrt(share) * vectors[:, 120]
    weights = np.square(vectors.T @ start) * (values if in_image else 1.0)
    bounds = krylov.heaviest(lambda rows: rows @ matrix, start[None], values[-1], in_image=in_image)
    assert bounds.low[0] <= weights.max() * (1 + 1e-6)
    assert weights.max() <= bounds.high[0]
    assert bounds.high[0] <= weights.max() + 0.12 * weights.sum()  # 48 steps tell 1/48 of the whole apart


def test_chance_amplification_is_what_random_directions_show():
    weight = rng(9).standard_normal((120, 100))
    shown = []
    for seed in range(20):
        update = LowRank(orthonormal(120, 4, 100 + seed), orthonormal(100, 4, 200 + seed).T)
        found = against_base(update, weight)
        shown.append(found.amplification / found.chance_amplification)
    assert np.median(shown) == pytest.approx(1.0, abs=0.15)


def test_a_zero_delta_or_weight_has_no_figures_beside_the_base():
    update = LowRank(np.zeros((6, 2)), np.ones((2, 5)))
    assert against_base(update, np.ones((6, 5))).relative_norm == 0.0
    assert against_base(update, np.ones((6, 5))).intruders is None
    assert against_base(update, np.ones((6, 5))).residual is None
    assert against_base(LowRank(np.ones((6, 2)), np.ones((2, 5))), np.zeros((6, 5))).relative_norm is None
    with pytest.raises(NonFiniteError):
        against_base(update, np.full((6, 5), np.nan))


@pytest.fixture
def with_base(tmp_path: Path) -> tuple[Path, Path]:
    adapter = save(
        tmp_path / "a.safetensors", adapters.lora(1) | adapters.conv_lora(2) | adapters.lora(3, "lora_unet_lone")
    )
    weights = {
        f"unet.{MODULE.removeprefix('lora_unet_')}.weight": rng(1).standard_normal((12, 10)).astype(np.float32),
        f"unet.{adapters.CONV.removeprefix('lora_unet_')}.weight": rng(2)
        .standard_normal((12, 10, 3, 3))
        .astype(np.float32),
    }
    return adapter, save(tmp_path / "base.safetensors", weights)


def test_layers_are_laid_beside_the_weights_they_find(with_base):
    adapter, checkpoint = with_base
    found = la.spectrum(adapter, base=checkpoint)
    by_name = {layer.name: layer for layer in found.layers}
    with la.open(adapter) as opened, la.open(checkpoint) as base:
        weight = base.source.array(f"unet.{adapters.CONV.removeprefix('lora_unet_')}.weight").reshape(12, -1)
        delta = la.materialise(opened.layers[adapters.CONV]).reshape(12, -1)
    figures = by_name[adapters.CONV].base
    assert figures.relative_norm == pytest.approx(np.linalg.norm(delta) / np.linalg.norm(weight))
    assert by_name["lora_unet_lone"].base is None
    assert [(one.name, one.code) for one in found.without_base] == [("lora_unet_lone", "no-base")]
    assert found.is_complete
    ran = lora("spectrum", adapter, "--base", checkpoint)
    assert ran.code == 0, ran.err
    assert "amplification" in ran.out
    assert "not beside the base: 1 layer" in ran.out
    document = lora("spectrum", adapter, "--base", checkpoint, "--json").json
    assert document["layers"][0]["base"]["intruders"] is not None


def test_a_base_that_stores_its_weights_turned_is_turned(tmp_path):
    name = "transformer.h.0.attn.c_attn"
    folder = tmp_path / "peft"
    config = adapters.peft_config(2, 2.0, target_modules=["c_attn"], fan_in_fan_out=True)
    arrays = {f"base_model.model.{name}.lora_A.weight": adapters.normal(1, 2, 8)}
    arrays[f"base_model.model.{name}.lora_B.weight"] = adapters.normal(2, 24, 2)
    save(folder / "adapter_model.safetensors", arrays)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    weight = adapters.normal(3, 8, 24)  # (in, out), as GPT-2's Conv1D
    found = la.spectrum(folder, base=save(tmp_path / "gpt2.safetensors", {f"{name}.weight": weight}))
    with la.open(folder) as opened:
        [layer] = opened.layers.values()
        expected = against_base(layer.update(), weight.T)
    assert layer.base_transposed
    assert found.layers[0].base.to_dict() == pytest.approx(expected.to_dict())


def test_a_checkpoint_of_something_else_is_refused(with_base, tmp_path):
    other = save(tmp_path / "other.safetensors", {"something.weight": np.ones((3, 3), np.float32)})
    with pytest.raises(OptionError, match="none of 3 layers"):
        la.spectrum(with_base[0], base=other)


# -- recommendation --------------------------------------------------------------------------------------


def graded(tmp_path: Path, rank: int = 16, strong: int = 3) -> Path:
    arrays = {}
    for block in range(3):
        name = f"lora_unet_down_blocks_{block}_attentions_0_proj_in"
        values = np.where(np.arange(rank) < strong, 1.0, 1e-3)
        arrays[f"{name}.lora_up.weight"] = (orthonormal(80, rank, block) * values).astype(np.float16)
        arrays[f"{name}.lora_down.weight"] = orthonormal(64, rank, 10 + block).T.astype(np.float16)
    return save(tmp_path / "graded.safetensors", arrays)


def test_the_recommendation_is_the_smallest_power_of_two_that_keeps_the_energy_and_its_size_is_exact(tmp_path):
    path = graded(tmp_path)
    found = la.recommend(path)
    assert (found.rank, [one.rank for one in found.candidates]) == (4, [1, 2, 4, 8])
    assert found.energy_kept > 0.99 > found.candidates[1].energy_kept
    assert "rank 4 keeps 99.9 % of the energy" in found.statement
    assert len(found.reasons) >= 3
    report = la.resize(path, tmp_path / "small.safetensors", rank=found.rank)
    assert found.size_after == report.written.size == (tmp_path / "small.safetensors").stat().st_size
    assert report.relative_error == pytest.approx((1 - found.energy_kept) ** 0.5, abs=2e-3)


def test_smaller_layers_keep_their_rank(tmp_path):
    path = save(tmp_path / "a.safetensors", adapters.lora(1, rank=1) | adapters.lora(2, "lora_unet_[x]", 9, 90, 80))
    found = la.recommend(path, energy=0.9)
    assert found.rank is not None
    assert found.rank > 1
    table = {MODULE: 1}  # a fixed rank alone would fill it up with zeros
    report = la.resize(path, tmp_path / "small.safetensors", rank=found.rank, rank_for=table)
    assert found.size_after == report.written.size < path.stat().st_size


def test_there_is_not_always_something_to_recommend(tmp_path, demo_library):
    flat = graded(tmp_path, strong=16)
    assert la.recommend(flat).rank is None
    assert "leave the rank" in la.recommend(flat).statement
    assert la.recommend(demo_library / "sdxl-style-lokr.safetensors").rank is None  # as LoRA it would be larger
    zero = adapters.lora(1)
    zero[f"{MODULE}.lora_up.weight"][:] = 0
    assert la.recommend(save(tmp_path / "zero.safetensors", zero)).rank is None
    with pytest.raises(OptionError):
        la.recommend(flat, energy=0)


def test_energy_kept_of_the_whole_weighs_layers_by_their_energy(tmp_path):
    layers = la.spectrum(graded(tmp_path)).layers
    squares = np.array([layer.singular_values**2 for layer in layers])
    assert kept_energy(layers, 2) == pytest.approx(squares[:, :2].sum() / squares.sum())
    assert kept_energy((), 2) == 1.0


def test_the_command_shows_the_recommendation_and_json_holds_it(tmp_path):
    path = graded(tmp_path)
    assert "rank 4 keeps" in lora("spectrum", path).out
    assert lora("spectrum", path, "--json").json["recommendation"]["rank"] == 4
    assert lora("spectrum", path, "--json", "--layer", "*blocks_0*").json["recommendation"] is None


@pytest.mark.parametrize("by", ["component", "block", "stage", "role"])
def test_the_summary_is_by_any_part(tmp_path, by):
    ran = lora("spectrum", graded(tmp_path), "--by", by)
    assert ran.code == 0, ran.err
    assert {"component": "unet", "block": "down_blocks.0", "stage": "down", "role": "other"}[by] in ran.out


# -- notebooks -----------------------------------------------------------------------------------------


def test_spectra_are_tables_in_notebooks(tmp_path):
    pytest.importorskip("pandas")
    found = la.spectrum(save(tmp_path / "a.safetensors", adapters.lora(1, "lora_unet_<script>")))
    frame = found.to_pandas()
    assert frame.loc[0, "frobenius_norm"] == found.layers[0].summary.frobenius_norm
    assert {"role", "stage", "noise_floor", "down_moved", "spectral_entropy"} <= set(frame.columns)
    assert "<script>" not in found._repr_html_()
    assert "lora_unet_&lt;script&gt;" in found._repr_html_()


def test_spectra_in_a_running_event_loop(tmp_path):
    path = save(tmp_path / "a.safetensors", adapters.lora(1))

    async def main() -> int:
        return len(la.spectrum(path).layers)

    assert asyncio.run(main()) == 1
