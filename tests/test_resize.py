"""Resizing every kind of layer, held against a dense SVD: what is written, read back, and multiplied out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lora_analysis as la
import oracle
from lora_analysis.adapter import Layer
from lora_analysis.errors import NonFiniteError, OptionError, UnknownDialectError
from lora_analysis.linalg.budget import ANY_RANK, Bidder
from lora_analysis.linalg.decomposition import decompose
from lora_analysis.resizing import planning
from lora_analysis.resizing.budgets import _ranks_within_size
from lora_analysis.resizing.options import ResizeOptions
from lora_analysis.resizing.request import options_of
from lora_analysis.resizing.writing import ResizeReport
from resizable import CASES, KOHYA, PEFT, Case, Work, alpha, lora, peft, renamed, values
from sources import adapter_of
from strategies import low_ranks

VECTORS = ("bias", "norm", "modulation")


def deltas(adapter: la.Adapter) -> dict[str, np.ndarray]:
    return {
        name: la.materialise(layer)
        for name, layer in adapter.layers.items()
        if layer.opaque is None and layer.kind not in VECTORS
    }


def biases(adapter: la.Adapter) -> list[np.ndarray]:
    """What the adapter adds to the biases, scale included."""
    found = [layer.bias() for layer in adapter.layers.values()]
    return [np.asarray(bias.values, np.float64) * bias.scale for bias in found if bias is not None]


def whole(adapter: la.Adapter) -> dict[str, np.ndarray]:
    """Deltas and biases by name."""
    return deltas(adapter) | {f"bias {number}": bias for number, bias in enumerate(biases(adapter))}


def matrices(layer: Layer, delta: np.ndarray) -> list[np.ndarray]:
    """The delta's matrices: one per expert, or one."""
    return [oracle.unfolded(part) for part in (delta if layer.experts else [delta])]


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def measured_error(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> float:
    distance = sum(np.sum((after[name].reshape(delta.shape) - delta) ** 2) for name, delta in before.items())
    whole = sum(np.sum(delta**2) for delta in before.values())
    return float(np.sqrt(distance / whole)) if whole else 0.0


# -- against the dense truncated SVD -------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 3, 6])
@pytest.mark.parametrize("name", CASES)
def test_every_kind_becomes_its_dense_truncated_svd(name: str, rank: int, work: Work) -> None:
    old, new, _ = work.resized(name, rank=rank, dtype="fp32")
    assert list(new.layers) == list(old.layers)
    assert [finding for finding in new.findings if finding.severity == "error"] == []
    for key, before in deltas(old).items():
        layer = old.layers[key]
        after = matrices(layer, la.materialise(new.layers[key]).reshape(before.shape))
        for expected, found in zip(matrices(layer, before), after, strict=True):
            # fp32 factors: 24 bits, summed over at most 9 components
            assert np.linalg.norm(found - best(expected, rank)) <= 2e-6 * np.linalg.norm(expected)
    assert {layer.rank for layer in new.layers.values()} == {rank}


@pytest.mark.parametrize("dtype", ["keep", "fp32", "fp16", "bf16", "fp8"])
@pytest.mark.parametrize("name", CASES)
def test_reported_errors_and_sizes_are_the_measured_ones(name: str, dtype: str, work: Work) -> None:
    old, new, report = work.resized(name, rank=3, dtype=dtype)
    assert abs(report.relative_error - measured_error(whole(old), whole(new))) <= 1e-6
    assert Path(report.written.path).stat().st_size == report.written.size == report.plan.size_after
    plan = la.plan_resize(old, rank=3, dtype=dtype)
    assert plan.size_after == report.plan.size_after
    assert plan.relative_error == pytest.approx(report.relative_error_before_rounding, abs=1e-6)


@pytest.mark.parametrize("policy", ["rank", "baked"])
@pytest.mark.parametrize("name", CASES)
def test_where_alpha_goes_does_not_change_the_delta(name: str, policy: str, work: Work) -> None:
    old, new, _ = work.resized(name, rank=3, alpha=policy, dtype="fp32")
    for key, before in deltas(old).items():
        layer, after = old.layers[key], la.materialise(new.layers[key]).reshape(before.shape)
        expected = np.stack([best(one, 3) for one in matrices(layer, before)]).reshape(before.shape)
        assert np.linalg.norm(after - expected) <= 2e-6 * np.linalg.norm(before)
    for before, after in zip(biases(old), biases(new), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-6)
    if policy == "baked":
        assert not any(key.endswith(".alpha") for key in new.source.tensors)


GROWING = [name for name in CASES if name not in ("rank above size", "full rank", "scale tensor")]


@pytest.mark.parametrize("name", [name for name in GROWING if CASES[name].arrays.keys() & lora(KOHYA, 1, 1, 1).keys()])
def test_growing_a_pair_keeps_every_value_and_adds_zeros(name: str, work: Work) -> None:
    old, new, report = work.resized(name, rank=12)
    for key, before in deltas(old).items():
        if "mid" in old.layers[key].keys:
            continue  # becomes a pair of its own
        layer = new.layers[key]
        assert layer.rank == 12
        down = old.source.array(old.layers[key].keys["down"])
        np.testing.assert_array_equal(
            new.source.array(layer.keys["down"])[: len(down)].view(np.uint8), down.view(np.uint8)
        )
        assert not np.any(new.source.array(layer.keys["down"])[len(down) :].astype(np.float32))
        # alpha grows with the rank, in float32
        np.testing.assert_allclose(la.materialise(layer), before, rtol=1e-6, atol=1e-12)
    if "mid" not in next(iter(old.layers.values())).keys:
        assert report.relative_error == 0.0


def test_growing_keeps_alpha_over_rank(work: Work) -> None:
    old, new, _ = work.resized("linear", rank=16)
    (before,), (after,) = old.layers.values(), new.layers.values()
    assert (before.alpha, before.rank) == (4.0, 8)
    assert (after.alpha, after.rank) == (8.0, 16)


@given(low_ranks(cores=False), st.integers(1, 9))
def test_a_decomposition_truncates_like_a_dense_svd(update, rank):  # type: ignore[no-untyped-def]
    found = decompose(update)
    if found is None:
        return  # another route's; test_products holds those
    from lora_analysis.delta import materialise

    dense = oracle.unfolded(materialise(update))
    expected = np.linalg.svd(dense, compute_uv=False)[: len(found.singular_values)]
    np.testing.assert_allclose(found.singular_values, expected, atol=1e-7 * expected[0])
    made = found.truncate(update, rank)
    # By its error alone: where two singular values meet at the cut, any mixture of their vectors is as good.
    error = np.linalg.norm(made.up.astype(np.float64) @ made.down - dense)
    assert abs(error - np.linalg.norm(expected[rank:])) <= 1e-6 * expected[0]


# -- the measure of rounding ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp8"])
@pytest.mark.parametrize("shape", [(6, 7, 5), (40, 50, 20), (300, 200, 64)])
def test_rounding_is_measured_exactly_however_coarse(dtype: str, shape: tuple[int, int, int], work: Work) -> None:
    out, width, rank = shape
    case = Case(lora(KOHYA, out, width, rank) | alpha(KOHYA, 3))
    old, new, report = work.resized(case, rank=max(rank // 2, 1), dtype=dtype)
    assert abs(report.relative_error - measured_error(whole(old), whole(new))) <= 3e-7
    assert report.relative_error > report.relative_error_before_rounding


@pytest.mark.parametrize("dtype", ["keep", "bf16", "fp8"])
@pytest.mark.parametrize("rank", [1, 5, 11])
@pytest.mark.parametrize("name", ["linear", "conv 3x3", "peft", "mlx experts", "peft bias"])
def test_cutting_and_padding_factors_reports_its_error(name: str, rank: int, dtype: str, work: Work) -> None:
    old, new, report = work.resized(name, rank=rank, method="pad_truncate", dtype=dtype)
    assert abs(report.relative_error - measured_error(whole(old), whole(new))) <= 1e-6
    plan = la.plan_resize(old, rank=rank, method="pad_truncate")
    assert plan.relative_error == pytest.approx(report.relative_error_before_rounding, abs=1e-9)
    if dtype == "keep":
        assert (report.relative_error == 0.0) == (rank == 11)


def test_cutting_takes_the_first_rows_as_they_stand(work: Work) -> None:
    old, new, _ = work.resized("linear fp16", rank=3, method="pad_truncate")
    key = f"{KOHYA}.lora_down.weight"
    np.testing.assert_array_equal(new.source.array(key), old.source.array(key)[:3])


# -- which rank ----------------------------------------------------------------------------------------


def two_layers() -> Case:
    arrays = lora("lora_unet_a", 20, 24, 8) | alpha("lora_unet_a", 8) | lora("lora_unet_b", 20, 6, 8, kernel=(3, 3))
    return Case(arrays | alpha("lora_unet_b", 8))


def ranks(report: ResizeReport) -> list[int | None]:
    return [layer.new_rank for layer in report.layers.values()]


def test_convolutions_and_patterns_can_have_ranks_of_their_own(work: Work) -> None:
    case = two_layers()
    path = work.save(case)
    assert ranks(work.resize(path, "1.safetensors", rank=4, conv_rank=2)) == [4, 2]
    assert ranks(work.resize(path, "2.safetensors", rank=4, rank_for={"*_b": 3, "*": 5})) == [5, 3]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("energy", 0.9),
        ("norm", 0.95),
        ("sum", 0.7),
        ("ratio", 3.0),
        ("layer_error", 0.3),
        ("knee", True),
        ("absolute", 2.0),
    ],
)
def test_rules_choose_by_the_dense_spectrum(rule: str, value: Any, work: Work) -> None:
    from lora_analysis.linalg.rank import select_rank

    old, _, report = work.resized(two_layers(), **{rule: value})
    name = {"layer_error": "error"}.get(rule, rule)
    expected = [
        select_rank(oracle.singular_values(d)[:8], name, 0.0 if value is True else value) for d in deltas(old).values()
    ]
    assert ranks(report) == expected
    assert ranks(work.resize(old.path, "b.safetensors", **{rule: value}, max_rank=2)) == [min(k, 2) for k in expected]


def test_a_pattern_that_matches_nothing_is_an_error(work: Work) -> None:
    with pytest.raises(OptionError, match=r"no layer that can be resized is named like attn\*"):
        work.resized(two_layers(), rank=4, rank_for={"attn*": 3})
    with pytest.raises(OptionError, match="rank 55 was asked for convolutions"):
        work.resize(work.folder / "adapter.safetensors", rank=4, conv_rank=55)


def test_sd_scripts_rules_give_one_component_more(work: Work) -> None:
    path = work.save(two_layers())
    own = ranks(work.resize(path, "a.safetensors", norm=0.9))
    theirs = ranks(work.resize(path, "b.safetensors", sv_fro=0.9))
    assert theirs == [(rank or 0) + 1 for rank in own]


@pytest.mark.parametrize("limit", [2_500, 3_200, 3_201, 4_000])
def test_a_size_is_never_exceeded_and_the_next_component_would(limit: int, work: Work) -> None:
    path = work.save(two_layers())
    report = work.resize(path, "a.safetensors", size=limit)
    one_rank = 4 * (20 + 54)  # of the convolution, the larger one
    assert limit - one_rank - 100 < report.written.size <= limit


def test_a_size_that_nothing_fits_names_the_smallest(work: Work) -> None:
    path = work.save(two_layers())
    smallest = work.resize(path, "a.safetensors", rank=1).written.size
    with pytest.raises(OptionError, match="1,000 bytes were asked for; the smallest ranks make a file"):
        work.resize(path, "b.safetensors", size=1_000)
    assert work.resize(path, "b.safetensors", size=smallest + 200).written.size <= smallest + 200


def test_a_header_a_few_bytes_too_long_costs_one_more_try() -> None:
    bidders, tries = [Bidder(np.ones(9), 1e6)], []

    def size_of(ranks: Sequence[int]) -> int:
        tries.append(tuple(ranks))
        return ranks[0] * 1_000_000 + 999_950

    assert _ranks_within_size(bidders, 5_999_900, 0, ANY_RANK, size_of) == (4,)
    assert tries == [(5,), (4,)]


def test_budgets_of_parameters_and_error_hold_for_the_whole_file(work: Work) -> None:
    path = work.save(two_layers())
    small = work.resize(path, "a.safetensors", parameters=500)
    assert 500 - 74 < work.open(work.folder / "a.safetensors").parameters <= 500
    assert small.relative_error_before_rounding < 1
    close = work.resize(path, "b.safetensors", error=0.2)
    assert close.relative_error_before_rounding <= 0.2
    assert la.plan_resize(work.open(path), error=0.2).relative_error == pytest.approx(
        close.relative_error_before_rounding
    )


def test_experts_that_share_a_rank_meet_an_error_exactly(work: Work) -> None:
    """Their pooled spectrum drops what the experts together drop."""
    from lora_analysis.resizing.calculation import analyse

    (old,) = [layer for layer in work.open(work.save(CASES["mlx experts"])).layers.values() if layer.experts]
    delta = la.materialise(old)
    spectrum = analyse(old).spectrum
    for rank in range(9):
        expected = np.sqrt(sum(oracle.best_error(part, rank) ** 2 for part in delta))
        assert np.linalg.norm(spectrum[rank:]) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_recipes_choose_by_score(work: Work) -> None:
    path = work.save(two_layers())
    spectra = [oracle.singular_values(d)[:8] for d in deltas(work.open(path)).values()]
    report = work.resize(path, "a.safetensors", recipe="spn_lora=1,thr=-0.5")
    assert ranks(report) == [int(np.sum(np.log10(s / s[0]) >= -0.5)) for s in spectra]
    report = work.resize(path, "b.safetensors", recipe=f"fro_lora,params=3,size={4500 / 2**20}")
    assert report.written.size <= 4500
    score = [s / np.linalg.norm(s) ** 0.25 / cost**0.75 for s, cost in zip(spectra, (44, 74), strict=True)]
    kept = min(s[k - 1] for s, k in zip(score, ranks(report), strict=True) if k)
    dropped = max(s[k] for s, k in zip(score, ranks(report), strict=True) if k and k < 8)
    assert kept >= dropped


@pytest.mark.parametrize(
    "text", ["spn_lora", "thr=x", "foo=1,thr=1", "spn_ckpt,thr=1", "rescale=2,thr=1", "fro_lora=-1,thr=1"]
)
def test_a_recipe_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(OptionError):
        options_of(recipe=text)


# -- what has one rank for all --------------------------------------------------------------------------


def test_mlx_gets_one_rank_for_all_even_beyond_a_layers_own(work: Work) -> None:
    arrays = dict(CASES["mlx"].arrays) | {
        "model.layers.0.tiny.lora_a": values(2, 8),
        "model.layers.0.tiny.lora_b": values(8, 20),
    }
    old, new, _ = work.resized(Case(arrays, None, CASES["mlx"].config), rank=4)
    assert {layer.rank for layer in new.layers.values()} == {4}
    assert new.config is not None
    assert new.config["lora_parameters"] == {"rank": 4, "scale": 20.0}
    assert measured_error(whole(old), whole(new)) < 0.2


@pytest.mark.parametrize("asked", [{"energy": 0.9}, {"error": 0.1}, {"rank": 3, "rank_for": {"*mlp*": 2}}], ids=str)
@pytest.mark.parametrize("name", ["mlx experts", "peft experts"])
def test_ranks_that_the_format_cannot_tell_apart_are_refused(name: str, asked: dict[str, Any], work: Work) -> None:
    if name == "peft experts" and "rank_for" in asked:
        pytest.skip("the experts have one rank then, and the other layer its own")
    with pytest.raises(OptionError, match="one rank for all"):
        work.resized(name, **asked)


# -- what is refused, and what is left alone ------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"rank": 0}, {"rank": -1}, {"rank": 2.5}, {"rank": float("nan")}, {"rank": "many"}, {"rank": True},
        {"rank": 25},
        {}, {"rank": 4, "energy": 0.9}, {"energy": 0}, {"energy": 1.5}, {"error": 2}, {"size": -1}, {"size": "big"},
        {"rank": 4, "dtype": "int4"}, {"rank": 4, "alpha": "x"}, {"rank": 4, "method": "x"}, {"rank": 4, "rnk": 3},
        {"energy": 0.9, "method": "pad_truncate"}, {"energy": 0.9, "min_rank": 4, "max_rank": 2},
        {"size": 9999, "conv_rank": 2}, {"rank": 4, "rank_for": {"*": 0}}, {"rank": 4, "rank_for": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_a_request_that_cannot_be_met_is_refused_before_any_work(asked: dict[str, Any], work: Work) -> None:
    path = work.save(CASES["linear"])
    with pytest.raises(OptionError):
        work.resize(path, "out.safetensors", **asked)
    assert work.names == [path.name]


WAYS = [{"rank": 3}, {"energy": 0.9}, {"rank": 12}, {"rank": 3, "method": "pad_truncate"}]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "asked", [{"rank": 3}, {"energy": 0.9}, {"rank": 12}, {"rank": 3, "method": "pad_truncate"}], ids=str
)
def test_a_layer_that_is_no_number_is_named_and_nothing_is_written(value: float, asked: Any, work: Work) -> None:
    arrays = dict(two_layers().arrays)
    arrays["lora_unet_b.lora_up.weight"] = np.array(arrays["lora_unet_b.lora_up.weight"])
    arrays["lora_unet_b.lora_up.weight"][3, 1] = value
    path = work.save(Case(arrays))
    with pytest.raises(NonFiniteError, match="lora_unet_b"):
        work.resize(path, "out.safetensors", **asked)
    assert work.names == [path.name]


def test_values_too_large_for_the_type_are_named(work: Work) -> None:
    arrays = lora(KOHYA, 20, 24, 8)
    arrays[f"{KOHYA}.lora_up.weight"] = arrays[f"{KOHYA}.lora_up.weight"] * np.float32(1e12)
    with pytest.raises(NonFiniteError, match=r"lora_(up|down).weight: values up to .* do not fit F16"):
        work.resized(Case(arrays), rank=3, dtype="fp16")


def test_nothing_to_resize_is_an_error_that_says_why(work: Work) -> None:
    with pytest.raises(UnknownDialectError, match="no adapter layer"):
        work.resized(Case({"model.weight": values(4, 4)}), rank=2)
    with pytest.raises(UnknownDialectError, match="IA3"):
        la.plan_resize(adapter_of({"base_model.model.q.ia3_l": values(4, 1)}), rank=2)


def test_a_request_that_changes_nothing_is_refused(work: Work) -> None:
    with pytest.raises(OptionError, match="no layer would change"):
        work.resized("linear", rank=8)


def test_layers_left_alone_say_why(work: Work) -> None:
    arrays = lora("lora_unet_a", 20, 24, 8) | {
        "lora_unet_norm.w_norm": values(8),
        "lora_unet_b.oft_blocks": values(4, 5, 5),
        "lora_unet_zero.lora_down.weight": values(8, 24),
        "lora_unet_zero.lora_up.weight": values(20, 8, seed=2),
        "lora_unet_zero.alpha": np.zeros((), np.float32),
        "lora_unet_grouped.lora_down.weight": values(8, 6, 3, 3),
        "lora_unet_grouped.lora_up.weight": values(20, 4, 1, 1),
    }
    old, new, report = work.resized(Case(arrays), rank=3)
    reasons = {layer.name: layer.reason for layer in report.plan.kept}
    assert list(reasons) == ["lora_unet_norm", "lora_unet_b", "lora_unet_zero", "lora_unet_grouped"]
    assert all(reasons.values())
    for key in arrays:
        if not key.startswith("lora_unet_a"):
            assert new.source.raw(key) == old.source.raw(key)


def test_keep_structure_leaves_other_kinds_alone(work: Work) -> None:
    arrays = dict(CASES["loha"].arrays) | lora("lora_unet_other", 20, 24, 8)
    _, new, report = work.resized(Case(arrays), rank=3, keep_structure=True)
    assert [layer.name for layer in report.plan.changed] == ["lora_unet_other"]
    assert new.layers[KOHYA].kind == "loha"
    assert "--keep-structure" in (report.layers[KOHYA].reason or "")


def test_notes_say_what_happens_to_dora_loha_and_flattened_convolutions() -> None:
    assert any("DoRA" in note for note in la.plan_resize(adapter_of(CASES["dora"].arrays), rank=3).notes)
    flattened = renamed(CASES["loha"].arrays, "lora_unet_input_blocks_1_0_in_layers_2")
    assert any("flattened" in note for note in la.plan_resize(adapter_of(flattened), rank=3).notes)
    assert not any("flattened" in note for note in la.plan_resize(adapter_of(CASES["loha"].arrays), rank=3).notes)


# -- threads, memory, repetition -------------------------------------------------------------------------


def test_plans_with_and_without_kept_decompositions_write_the_same_bytes(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = work.save(two_layers())
    files = []
    for number, room in enumerate((planning._CACHE_BYTES, 0)):
        monkeypatch.setattr(planning, "_CACHE_BYTES", room)
        work.resize(path, f"{number}.safetensors", energy=0.9)
        files.append((work.folder / f"{number}.safetensors").read_bytes())
    assert files[0] == files[1]


def test_options_say_what_was_asked_and_nothing_else() -> None:
    asked = options_of(energy=0.9, max_rank=16, dtype="bf16")
    assert asked.to_dict() == {
        "method": "svd", "dtype": "bf16", "alpha": "keep-scale",
        "rule": {"name": "energy", "value": 0.9}, "max_rank": 16,
    }  # fmt: skip
    with pytest.raises(OptionError):
        replace(asked, budget=options_of(size=9).budget)
    assert isinstance(asked, ResizeOptions)


def test_bf16_alpha_is_stored_in_float32(work: Work) -> None:
    arrays = lora(KOHYA, 20, 24, 8, dtype=ml_dtypes.bfloat16) | alpha(KOHYA, 3, ml_dtypes.bfloat16)
    _, new, _ = work.resized(Case(arrays), rank=7)
    info = new.source.tensors[f"{KOHYA}.alpha"]
    assert info.dtype == "F32"
    assert new.source.scalar(f"{KOHYA}.alpha") == np.float32(3 / 8 * 7)


def test_peft_names_of_a_neighbour_are_used_for_new_pairs(work: Work) -> None:
    other = PEFT.replace("q_proj", "k_proj")
    arrays = peft(PEFT, 20, 24, 8) | renamed(CASES["loha"].arrays, other)
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 4}
    _, new, _ = work.resized(Case(arrays, None, config), rank=3)
    assert f"{other}.lora_A.weight" in new.source.tensors
    assert new.layers[other].scale == pytest.approx(new.layers[PEFT].scale)
