"""What goes with a method: Pico and SVC, thresholds for all layers, sketches, agreement, weights for blocks."""

from __future__ import annotations

import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import adapters
import merge_oracle as oracle
from adapters import MODULE
from lora_analysis.adapter import Adapter, Layer, LowRank
from lora_analysis.errors import OptionError
from lora_analysis.linalg.consensus import keep_count
from lora_analysis.linalg.selection import Selection, kth_largest
from lora_analysis.linalg.sketch import sketch
from lora_analysis.linalg.tasks import LayerTasks, Task
from lora_analysis.merging.layer_weights import BLOCK_LISTS, block_label, layer_weights_of
from lora_analysis.merging.methods import METHODS
from lora_analysis.merging.methods.method import Request
from lora_analysis.merging.methods.parameters import settings_of
from lora_analysis.merging.options import merge_options
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import write_merge
from sources import adapter_of
from test_merge_methods import CASES, ENTRYWISE, WEIGHTS, assert_close, matrix, stored, write

SIZES = {"out": 40, "width": 30}
DETERMINISTIC = [case for case in CASES if not case.ordered and case.method != "slerp"]
each_case = pytest.mark.parametrize("case", DETERMINISTIC, ids=[f"{c.method} {c.options or ''}" for c in DETERMINISTIC])


def three() -> list[Adapter]:
    return [adapter_of(adapters.lora(i, rank=i + 2, **SIZES)) for i in range(3)]


# -- Pico and SVC ------------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("steps", [{"pico": True}, {"svc": True, "svc_floor": 0.3}, {"pico": True, "svc": True}])
def test_steps_around_a_method_equal_their_definitions(case: Any, steps: dict[str, Any], tmp_path: Path) -> None:
    inputs = three()
    if steps.get("svc") and (case.method == "iso_cts" or (case.method == "iso_c" and "beta" not in case.options)):
        with pytest.raises(OptionError, match="no directions to calibrate"):
            merge_options(method=case.method, **case.options, **steps)
        return
    rank = {"rank": 30} if case.method in ENTRYWISE else {}
    write(tmp_path / "out.safetensors", inputs, WEIGHTS, method=case.method, **case.options, **steps, **rank)
    deltas = [matrix(adapter, MODULE) for adapter in inputs]
    floor = steps.get("svc_floor", 0.1)

    def calibrated(values: list[np.ndarray], weights: list[float]) -> np.ndarray:
        made = case.definition(values, weights, **case.options)
        return oracle.svc(values, weights, made, floor) if steps.get("svc") else made

    wanted = oracle.pico(deltas, WEIGHTS, calibrated) if steps.get("pico") else calibrated(deltas, WEIGHTS)
    assert_close(stored(tmp_path / "out.safetensors", MODULE), wanted)


@pytest.mark.parametrize("steps", [{"pico": True}, {"svc": True}])
def test_steps_leave_a_single_adapter_as_it_is(steps: dict[str, bool], tmp_path: Path) -> None:
    (source, *_) = three()
    write(tmp_path / "out.safetensors", [source], [1.0], **steps)
    assert_close(stored(tmp_path / "out.safetensors", MODULE), matrix(source, MODULE))


# -- identities --------------------------------------------------------------------------------------


def test_the_square_of_tsvs_norm_is_the_sum_of_the_squares(tmp_path: Path) -> None:
    inputs = three()
    write(tmp_path / "out.safetensors", inputs, WEIGHTS, method="tsv", alpha=1.0)
    squares = sum((w * np.linalg.norm(matrix(a, MODULE))) ** 2 for a, w in zip(inputs, WEIGHTS, strict=True))
    assert np.linalg.norm(stored(tmp_path / "out.safetensors", MODULE)) ** 2 == pytest.approx(squares, rel=1e-5)


def test_tsv_of_one_adapter_twice_is_that_adapter(tmp_path: Path) -> None:
    source = three()[0]
    write(tmp_path / "out.safetensors", [source, source], [0.5, 0.5], method="tsv")
    assert_close(stored(tmp_path / "out.safetensors", MODULE), matrix(source, MODULE))


@pytest.mark.parametrize("method", ["tsv", "iso_c", "iso_cts", "karcher"])
def test_results_that_are_no_averages_have_the_mean_norm(method: str, tmp_path: Path) -> None:
    inputs = three()
    write(tmp_path / "out.safetensors", inputs, [1.0, 1.0, 1.0], method=method, normalize=True)
    mean = np.mean([np.linalg.norm(matrix(adapter, MODULE)) for adapter in inputs])
    assert np.linalg.norm(stored(tmp_path / "out.safetensors", MODULE)) == pytest.approx(mean, rel=1e-5)


def test_knots_with_the_sum_in_place_of_ties_is_the_sum() -> None:
    from lora_analysis.merging.methods.knots_ties import _coordinates

    tasks = [Task(i, w, LowRank(adapters.normal(i, 40, 3), adapters.normal(i, 3, 30))) for i, w in enumerate(WEIGHTS)]
    layer = LayerTasks("x", tuple(tasks))
    basis, coordinates = _coordinates(layer.canonical())
    wanted = sum(task.weight * task.delta.up.astype(float) @ task.delta.down.astype(float) for task in tasks)
    np.testing.assert_allclose(basis @ np.sum(coordinates, axis=0), wanted, atol=1e-12)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"slerp"} - {name for name in METHODS if ":" in name}))
def test_no_method_depends_on_how_a_delta_is_split(method: str) -> None:
    """``up G`` and ``G⁻¹ down`` are the same delta."""
    rng = np.random.default_rng(1)
    settings = settings_of(METHODS[method], {})
    results = []
    for mixes in (False, True):
        tasks = []
        for i, weight in enumerate(WEIGHTS):
            up, down = adapters.normal(i, 20, 3).astype(float), adapters.normal(i, 3, 15).astype(float)
            mix = rng.standard_normal((3, 3)) if mixes else np.eye(3)
            tasks.append(Task(i, weight, LowRank(up @ mix, np.linalg.solve(mix, down))))
        made = METHODS[method].merge(Request(LayerTasks("x", tuple(tasks)), settings, 15)).factors
        results.append(made.scale * made.up @ made.down)
    np.testing.assert_allclose(results[1], results[0], atol=1e-8 * np.abs(results[0]).max())


@pytest.mark.parametrize("rank", [1, 3, 7, 30])
def test_a_shared_subspace_is_the_limit_of_plain_steps_in_fewer(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of matrices along the axes, where a step can turn a direction by a right angle, and of a rank above all."""
    from lora_analysis.linalg import tucker

    rng = np.random.default_rng(rank)
    axes = [np.diag(rng.permutation(12) + 1.0) for _ in range(3)]
    taken: list[int] = []
    alternate = tucker._alternate
    monkeypatch.setattr(tucker, "_alternate", lambda *given: (taken.append(1), alternate(*given))[1])
    for matrices in ([rng.standard_normal((15, 12)) for _ in range(3)], axes, [axes[0], axes[0]]):
        taken.clear()
        u, v = tucker.tucker(matrices, rank)
        wanted, plain = oracle.shared_bases(matrices, rank)
        for found, expected in zip((u, v), wanted, strict=True):
            assert np.linalg.norm(expected - found @ (found.T @ expected)) < 1e-9
            np.testing.assert_allclose(found.T @ found, np.eye(found.shape[1]), atol=1e-12)
        assert len(taken) <= max(plain, 6)


def test_karcher_has_no_answer_for_opposite_directions() -> None:
    source = three()[0]
    with pytest.raises(OptionError, match=rf"{MODULE}: the deltas cancel"):
        plan_merge([source, source], [1.0, -1.0], merge_options(method="karcher", normalize=False))


def test_slerp_is_for_two() -> None:
    with pytest.raises(OptionError, match="slerp merges 2 adapters, 3 were given"):
        plan_merge(three(), None, merge_options(method="slerp"))


@pytest.mark.parametrize("method", [name for name in METHODS if ":" not in name])
def test_layers_nobody_trained_stay_zero(method: str, tmp_path: Path) -> None:
    zero = {name: 0 * array if "up" in name else array for name, array in adapters.lora(1, **SIZES).items()}
    inputs = [adapter_of(zero), adapter_of({name: array.copy() for name, array in zero.items()})]
    write(tmp_path / "out.safetensors", inputs, [0.5, 0.5], method=method)
    assert not np.any(stored(tmp_path / "out.safetensors", MODULE))


# -- thresholds over all layers ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ties", "magnitude_prune", "knots_ties"])
def test_a_global_threshold_compares_all_layers_of_an_adapter(method: str, tmp_path: Path) -> None:
    names = [MODULE, "lora_unet_mid_block_attentions_0_proj_in"]
    alone = "lora_unet_up_blocks_1_attentions_0_proj_in"
    inputs = []
    for i in range(2):
        arrays = adapters.lora(i, names[0], scale=0.8, **SIZES) | adapters.lora(i + 5, names[1], scale=2.0, **SIZES)
        inputs.append(adapter_of(arrays | (adapters.lora(9, alone, scale=9.0, **SIZES) if i == 0 else {})))
    weights = WEIGHTS[:2]
    options = {"density": 0.3, "threshold": "global", **({"rank": 30} if method in ENTRYWISE else {})}
    write(tmp_path / "out.safetensors", inputs, weights, method=method, **options)
    definition = getattr(oracle, method)
    shown = [*names, alone] if method == "magnitude_prune" else names  # a layer of one input is trimmed there only
    if method == "knots_ties":
        entries = [oracle.knots_coordinates([matrix(a, name) for a in inputs], weights)[1] for name in names]
        limits = [oracle.threshold_of([layer[t] for layer in entries], 0.3) for t in range(2)]
    else:
        held = [[name for name in shown if name in adapter.layers] for adapter in inputs]
        limits = [
            oracle.threshold_of([w * matrix(a, name) for name in own], 0.3)
            for a, w, own in zip(inputs, weights, held, strict=True)
        ]
    for name in names:
        wanted = definition([matrix(a, name) for a in inputs], weights, density=0.3, given=limits)
        assert_close(stored(tmp_path / "out.safetensors", name), wanted)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.floats(0.01, 1), st.integers(1, 7))
def test_the_threshold_is_that_of_a_sort(values: list[float], density: float, size: int) -> None:
    array = np.array(values)
    keep = keep_count(density, len(array))
    chunks = [array[i : i + size] for i in range(0, len(array), size)]
    found = kth_largest(lambda: chunks, partial(keep_count, density))
    assert found == np.sort(np.abs(array))[::-1][keep - 1]


def test_the_threshold_is_found_without_gathering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit, where too many values share the leading ones."""
    from lora_analysis.linalg import selection

    monkeypatch.setattr(selection, "_FEW", 0)
    array = np.random.default_rng(1).standard_normal(5000)
    assert kth_largest(lambda: [array], lambda total: 700) == np.sort(np.abs(array))[-700]


def test_parts_of_a_selection_join() -> None:
    array = np.random.default_rng(2).standard_normal(999)
    selection = Selection(partial(keep_count, 0.2))
    while not selection.is_done:
        parts = [selection.part() for _ in range(3)]
        for part, values in zip(parts, np.array_split(array, 3), strict=True):
            part.add(values)
            selection.join(part)
        selection.end_pass()
    assert selection.threshold == np.sort(np.abs(array))[-199]


# -- entry-wise results as factors -------------------------------------------------------------------


@pytest.mark.parametrize("method", sorted(ENTRYWISE))
def test_what_the_factors_leave_out_is_measured(method: str, tmp_path: Path) -> None:
    inputs = three()
    case = next(case for case in CASES if case.method == method)
    report = write(tmp_path / "out.safetensors", inputs, WEIGHTS, method=method, **case.options, rank=6)
    deltas = [matrix(adapter, MODULE) for adapter in inputs]
    whole = case.definition(deltas, WEIGHTS, name=MODULE, numbers=range(3), **case.options)
    lost = np.linalg.norm(stored(tmp_path / "out.safetensors", MODULE) - whole) / np.linalg.norm(whole)
    assert report.relative_error == pytest.approx(lost, rel=1e-5)
    best = np.linalg.norm(np.linalg.svd(whole, compute_uv=False)[6:]) / np.linalg.norm(whole)
    assert best <= lost <= 1.02 * best
    plan = plan_merge(inputs, WEIGHTS, merge_options(method=method, normalize=False, **case.options, rank=6))
    assert plan.relative_error == pytest.approx(report.relative_error_before_rounding, rel=1e-6)
    if method != "svd":
        assert any("full rank" in note for note in report.to_dict()["notes"])


def test_a_sketch_never_holds_the_matrix() -> None:
    rng = np.random.default_rng(3)
    up, down = rng.standard_normal((4000, 4)), rng.standard_normal((4, 3000))

    def blocks() -> Any:
        for start in range(0, 4000, 100):
            yield start, up[start : start + 100] @ down

    tracemalloc.start()
    made = sketch(blocks, (4000, 3000), 8, np.random.default_rng(4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 3000 * 8 / 8  # the matrix has 96 MB
    assert made.missing < 1e-6 * np.linalg.norm(up) * np.linalg.norm(down)
    np.testing.assert_allclose((made.left @ made.right)[:50], up[:50] @ down, atol=1e-9)


def test_the_seed_decides_and_threads_do_not(tmp_path: Path) -> None:
    files = {}
    for name, seed, workers in (("a", 1, 1), ("b", 1, 2), ("c", 2, 1)):
        options = merge_options(method="dare_linear", density=0.5, seed=seed, rank=4)
        plan = plan_merge(three(), None, options, workers=workers)
        write_merge(plan, tmp_path / f"{name}.safetensors", workers=workers)
        files[name] = (tmp_path / f"{name}.safetensors").read_bytes()
    assert files["a"] == files["b"]
    assert files["a"] != files["c"]


# -- agreement ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("weights", "effect"), [([1.0, 1.0], "reinforce"), ([1.0, -0.5], "cancel")])
@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"method": "tsv"}])
def test_the_plan_says_whether_inputs_agree(weights: list[float], effect: str, options: Any, tmp_path: Path) -> None:
    first = adapters.lora(1, **SIZES)
    second = {name: array + 0.2 * adapters.lora(2, **SIZES)[name] for name, array in first.items()}
    inputs = [adapter_of(first), adapter_of(second)]
    plan = plan_merge(inputs, weights, merge_options(normalize=False, **options))
    report = write_merge(
        plan_merge(inputs, weights, merge_options(normalize=False, **options), predict=False),
        tmp_path / "o.safetensors",
    )
    wanted = oracle.cosine(*(w * matrix(a, MODULE) for w, a in zip(weights, inputs, strict=True)))
    for document in (plan.to_dict(), report.to_dict()):
        (layer,) = document["layers"]
        assert layer["interference"]["cosine"] == pytest.approx(wanted, abs=1e-6)
        assert layer["interference"]["effect"] == effect
        assert document["interference"]["layers"][effect] == 1


def test_unrelated_adapters_are_independent() -> None:
    inputs = [adapter_of(adapters.lora(i, out=300, width=200)) for i in range(2)]
    (layer,) = plan_merge(inputs).to_dict()["layers"]
    assert layer["interference"]["effect"] == "independent"
    assert layer["interference"]["chance"] == pytest.approx(1 / np.sqrt(300 * 200))


def test_model_stock_warns_of_adapters_that_share_little() -> None:
    options = merge_options(method="model_stock")
    assert any("hardly anything is left" in note for note in plan_merge(three(), None, options).notes)
    same = three()[0]
    assert not any("hardly" in note for note in plan_merge([same, same], None, options).notes)


# -- weights for blocks ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("lora_te_text_model_encoder_layers_0_mlp_fc1", "BASE"),
        ("lora_te2_text_model_encoder_layers_0_mlp_fc1", "BASE"),
        ("lora_unet_conv_in", "IN00"),
        ("lora_unet_down_blocks_0_attentions_1_proj_in", "IN02"),
        ("lora_unet_down_blocks_0_resnets_0_conv1", "IN01"),
        ("lora_unet_down_blocks_0_downsamplers_0_conv", "IN03"),
        ("lora_unet_down_blocks_3_resnets_1_conv2", "IN11"),
        ("lora_unet_mid_block_attentions_0_proj_in", "MID"),
        ("lora_unet_up_blocks_1_attentions_0_proj_in", "OUT03"),
        ("lora_unet_up_blocks_3_attentions_2_proj_out", "OUT11"),
        ("lora_unet_up_blocks_0_upsamplers_0_conv", "OUT02"),
        ("unet.down_blocks.1.attentions.0.proj_in", "IN04"),
        ("lora_unet_input_blocks_4_1_proj_in", "IN04"),
        ("lora_unet_middle_block_1_proj_in", "MID"),
        ("lora_unet_output_blocks_0_1_transformer_blocks_0_attn1_to_q", "OUT00"),
        ("lora_unet_time_embedding_linear_1", None),
        ("lora_unet_double_blocks_0_img_attn_qkv", None),
    ],
)
def test_layers_have_the_blocks_that_people_know(name: str, label: str | None) -> None:
    assert block_label(Layer(name, "lora", {}, (4, 4))) == label


@pytest.mark.parametrize("count", [12, 17, 20, 26])
def test_lists_have_one_number_for_each_block(count: int) -> None:
    assert len(BLOCK_LISTS[count]) == count == len(set(BLOCK_LISTS[count]))
    weights = layer_weights_of([0.1 * i for i in range(count)])
    assert weights is not None
    assert weights.factor(Layer("lora_te_text_model_encoder_layers_0_mlp_fc1", "lora", {}, (4, 4))) == 0.0
    middle = BLOCK_LISTS[count].index("MID")
    assert weights.factor(Layer("lora_unet_mid_block_attentions_0_proj_in", "lora", {}, (4, 4))) == 0.1 * middle


def test_layers_outside_the_list_keep_their_weight_and_are_counted(tmp_path: Path) -> None:
    arrays = adapters.lora(1) | adapters.lora(2, "lora_unet_time_embedding_linear_1")
    plan = plan_merge([adapter_of(arrays)], [1.0], merge_options(), layer_weights=[[0.0] * 26])
    assert [layer["layer"] for layer in plan.to_dict()["layers"]] == ["lora_unet_time_embedding_linear_1"]
    assert any("1 layers are in no block of the list" in note for note in plan.notes)


def test_factors_act_once_after_normalising(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(i)) for i in range(2)]
    plan = plan_merge(inputs, [3.0, 1.0], merge_options(), layer_weights=[{"*proj_in": 0.5}, None])
    write_merge(plan, tmp_path / "out.safetensors")
    wanted = oracle.weighted_sum([matrix(a, MODULE) for a in inputs], [0.375, 0.25])
    assert_close(stored(tmp_path / "out.safetensors", MODULE), wanted)
