"""A merge writes exactly the weighted sum of the deltas, whatever the inputs are made of."""

from __future__ import annotations

import hashlib
import json
from itertools import combinations_with_replacement, permutations
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapters
from adapters import CONV_KINDS, LINEAR_KINDS, MODULE, save
from lora_analysis import materialise
from lora_analysis import open as open_adapter
from lora_analysis.adapter import Adapter
from lora_analysis.merging.options import MergeOptions, merge_options
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import MergeReport, write_merge
from sources import BF16, adapter_of

PAIRS = [
    pytest.param(kinds[a], kinds[b], id=f"{a} + {b}")
    for kinds in (LINEAR_KINDS, CONV_KINDS)
    for a, b in combinations_with_replacement(kinds, 2)
]
AS_STATED = MergeOptions(normalize=False)
SMALL = 2700  # bytes: less than the exact sum in the test of budgets takes, in fp16 too


def merged(target: Path, inputs: list[Adapter], weights: list[float], options: MergeOptions = AS_STATED) -> MergeReport:
    return write_merge(plan_merge(inputs, weights, options), target)


def deltas(path: Path) -> dict[str, np.ndarray]:
    with open_adapter(path) as adapter:
        return {name: materialise(layer) for name, layer in adapter.layers.items()}


def weighted_sum(inputs: list[Adapter], weights: list[float]) -> dict[str, np.ndarray]:
    """Dense, in float64, over the union of the layers."""
    total: dict[str, np.ndarray] = {}
    for adapter, weight in zip(inputs, weights, strict=True):
        for name, layer in adapter.layers.items():
            delta = weight * materialise(layer)
            total[name] = total[name] + delta.reshape(total[name].shape) if name in total else delta
    return total


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float = 1e-6) -> None:
    """Layer by layer, relative to the layer's norm. fp32 storage leaves 1e-7."""
    assert found.keys() == expected.keys()
    for name, delta in expected.items():
        assert np.linalg.norm(found[name].reshape(delta.shape) - delta) <= tolerance * np.linalg.norm(delta), name


# -- the sum -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_sum_of_any_two_kinds_is_the_dense_sum(first: Any, second: Any, tmp_path: Path) -> None:
    inputs, weights = [adapter_of(first(1)), adapter_of(second(2))], [0.7, -0.3]
    report = merged(tmp_path / "sum.safetensors", inputs, weights)
    assert_equal(deltas(tmp_path / "sum.safetensors"), weighted_sum(inputs, weights))
    assert report.relative_error < 1e-6


@pytest.mark.parametrize("make", [*LINEAR_KINDS.values(), *CONV_KINDS.values()])
def test_one_adapter_with_weight_one_is_the_identity(make: Any, tmp_path: Path) -> None:
    source = adapter_of(make(1))
    merged(tmp_path / "same.safetensors", [source], [1.0])
    assert_equal(deltas(tmp_path / "same.safetensors"), weighted_sum([source], [1.0]))


def test_a_lora_of_weight_one_keeps_every_bit_of_its_delta(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float16) for name, array in adapters.lora(1, scale=0.5).items()}
    report = merged(tmp_path / "same.safetensors", [adapter_of(arrays)], [1.0])
    assert report.relative_error == 0.0
    assert_equal(deltas(tmp_path / "same.safetensors"), weighted_sum([adapter_of(arrays)], [1.0]), tolerance=1e-15)


@pytest.mark.parametrize("weight", [0.5, -1.0, 3.0])
def test_a_weight_acts_once(weight: float, tmp_path: Path) -> None:
    source = adapter_of(adapters.lora(1) | adapters.conv_full(2) | {"lora_unet_norm.w_norm": adapters.normal(3, 5)})
    merged(tmp_path / "half.safetensors", [source], [weight])
    whole = weighted_sum([source], [1.0])
    assert_equal(deltas(tmp_path / "half.safetensors"), {name: weight * delta for name, delta in whole.items()})


def test_weights_are_normalised_to_sum_one_unless_told_otherwise(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(1)), adapter_of(adapters.loha(2))]
    plan = plan_merge(inputs, [3.0, 1.0])
    assert [item.weight for item in plan.inputs] == [0.75, 0.25]
    write_merge(plan, tmp_path / "sum.safetensors")
    assert_equal(deltas(tmp_path / "sum.safetensors"), weighted_sum(inputs, [0.75, 0.25]))


def test_weights_default_to_equal_ones() -> None:
    plan = plan_merge([adapter_of(adapters.lora(seed)) for seed in range(4)])
    assert [item.weight for item in plan.inputs] == [0.25] * 4


def test_the_order_of_the_inputs_does_not_matter(tmp_path: Path) -> None:
    parts = [
        (adapter_of(adapters.lora(1)), 0.5),
        (adapter_of(adapters.lokr(2)), 0.2),
        (adapter_of(adapters.full(3)), 1.0),
    ]
    expected = weighted_sum([part for part, _ in parts], [weight for _, weight in parts])
    for number, order in enumerate(permutations(parts)):
        target = tmp_path / f"{number}.safetensors"
        merged(target, [part for part, _ in order], [weight for _, weight in order])
        assert_equal(deltas(target), expected)


def test_layers_that_one_input_holds_count_with_its_weight_alone(tmp_path: Path) -> None:
    inputs = [
        adapter_of(adapters.lora(1) | adapters.lora(2, "lora_te_text_model_encoder_layers_0_mlp_fc1")),
        adapter_of(adapters.lora(3) | adapters.conv_lora(4)),
    ]
    report = merged(tmp_path / "sum.safetensors", inputs, [0.6, 0.4])
    assert_equal(deltas(tmp_path / "sum.safetensors"), weighted_sum(inputs, [0.6, 0.4]))
    held = {layer["layer"]: layer["inputs"] for layer in report.to_dict()["layers"]}
    assert held == {MODULE: [0, 1], "lora_te_text_model_encoder_layers_0_mlp_fc1": [0], adapters.CONV: [1]}


def test_ranks_add_up_and_alpha_is_the_rank(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(1, rank=2)), adapter_of(adapters.lora(2, rank=5))]
    merged(tmp_path / "sum.safetensors", inputs, [0.5, 0.5])
    with open_adapter(tmp_path / "sum.safetensors") as adapter:
        layer = adapter.layers[MODULE]
        assert (layer.rank, layer.alpha, layer.scale) == (7, 7.0, 1.0)
        assert adapter.metadata["ss_network_dim"] == adapter.metadata["ss_network_alpha"] == "7"


def test_a_rank_is_never_above_what_a_matrix_of_that_shape_can_have(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(seed, rank=8)) for seed in range(2)]
    plan = plan_merge(inputs, [1.0, 1.0])
    assert plan.ranks == {min(adapters.OUT, adapters.IN): 1}
    write_merge(plan, tmp_path / "sum.safetensors")
    assert_equal(deltas(tmp_path / "sum.safetensors"), weighted_sum(inputs, [0.5, 0.5]))


def test_an_adapter_and_its_negative_cancel(tmp_path: Path) -> None:
    source = adapter_of(adapters.lora(1))
    merged(tmp_path / "zero.safetensors", [source, source], [1.0, -1.0])
    assert np.abs(deltas(tmp_path / "zero.safetensors")[MODULE]).max() < 1e-6


@pytest.mark.parametrize("parameters", [{"rank": 2, "scale": 4.0}, {"rank": 2}], ids=["scale", "no scale"])
def test_experts_and_mlx_factors_are_summed(parameters: dict[str, float], tmp_path: Path) -> None:
    name, config = "model.layers.3.mlp.switch_mlp.up_proj", {"lora_parameters": parameters}

    def made(seed: int) -> Adapter:
        arrays = {
            f"{name}.lora_a": adapters.normal(seed, 3, 2, 6),
            f"{name}.lora_b": adapters.normal(seed, 3, 8, 2),
        }
        return adapter_of(arrays, config=config)

    inputs = [made(1), made(2)]
    merged(tmp_path / "sum", inputs, [0.25, 0.5])
    assert_equal(deltas(tmp_path / "sum"), weighted_sum(inputs, [0.25, 0.5]))
    stated = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert stated["lora_parameters"] == {"rank": 4, "scale": 1.0}


def test_the_parts_of_a_merged_linear_are_summed_as_one_matrix(tmp_path: Path) -> None:
    """Early PEFT: up is a grouped convolution, one block for each part that was on."""
    name = "base_model.model.transformer.h.0.attn.c_attn"
    config = adapters.peft_config(2, 4, enable_lora=[True, False, True], fan_in_fan_out=True)

    def made(seed: int) -> Adapter:
        arrays = {
            f"{name}.lora_A.weight": adapters.normal(seed, 4, 10),
            f"{name}.lora_B.weight": adapters.normal(seed, 16, 2, 1),
        }
        return adapter_of(arrays, config=config)

    inputs = [made(1), made(2)]
    plan = plan_merge(inputs, [0.5, 0.5])
    assert plan.ranks == {8: 1}
    write_merge(plan, tmp_path / "sum")
    assert_equal(deltas(tmp_path / "sum"), weighted_sum(inputs, [0.5, 0.5]))


def test_biases_are_summed_beside_their_weights(tmp_path: Path) -> None:
    bias = f"{MODULE}.diff_b"
    inputs = [
        adapter_of(adapters.lora(1) | {bias: adapters.normal(5, adapters.OUT)}),
        adapter_of(adapters.lora(2)),
        adapter_of({bias: adapters.normal(6, adapters.OUT)}),
    ]
    merged(tmp_path / "sum.safetensors", inputs, [0.5, 0.3, 0.2])
    with open_adapter(tmp_path / "sum.safetensors") as adapter:
        layer = adapter.layers[MODULE]
        found = layer.bias()
        assert found is not None
        expected = 0.5 * adapters.normal(5, adapters.OUT) + 0.2 * adapters.normal(6, adapters.OUT)
        np.testing.assert_allclose(found.values, expected, rtol=1e-6)
        np.testing.assert_allclose(materialise(layer), weighted_sum(inputs[:2], [0.5, 0.3])[MODULE], atol=1e-5)


def test_a_bias_that_is_scaled_like_its_factors_acts_as_before(tmp_path: Path) -> None:
    """PEFT's lora_bias: the stored vector is multiplied by alpha / r, which becomes 1."""
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    arrays = adapters.peft_lora(1, 2) | {f"{name}.lora_B.bias": adapters.normal(2, adapters.OUT)}
    source = adapter_of(arrays, config=adapters.peft_config(2, 8, lora_bias=True))
    merged(tmp_path / "same", [source], [0.5])
    with open_adapter(tmp_path / "same") as adapter:
        bias = adapter.layers[name].bias()
        assert bias is not None
        np.testing.assert_allclose(bias.scale * bias.values, 0.5 * 4 * adapters.normal(2, adapters.OUT), rtol=1e-6)


def test_differences_stay_differences_where_nothing_is_truncated(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.full(1)), adapter_of(adapters.full(2))]
    plan = plan_merge(inputs)
    assert [tensor.name for tensor in plan.rewriting.tensors] == [f"{MODULE}.diff"]
    truncated = plan_merge(inputs, None, merge_options(rank=3))
    assert f"{MODULE}.lora_up.weight" in {tensor.name for tensor in truncated.rewriting.tensors}


# -- truncation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [*LINEAR_KINDS.values()])
def test_a_truncated_sum_is_the_best_of_its_rank(second: Any, tmp_path: Path) -> None:
    inputs, rank = [adapter_of(adapters.lora(1)), adapter_of(second(2))], 2
    report = merged(
        tmp_path / "sum.safetensors",
        inputs,
        [0.6, 0.4],
        merge_options(rank=rank, normalize=False),
    )
    delta = weighted_sum(inputs, [0.6, 0.4])[MODULE]
    found = deltas(tmp_path / "sum.safetensors")[MODULE]
    best = sqrt(np.sum(np.linalg.svd(delta, compute_uv=False)[rank:] ** 2))
    assert np.linalg.matrix_rank(found, tol=1e-4) == rank
    assert np.linalg.norm(found - delta) == pytest.approx(best, rel=1e-5)
    assert report.relative_error == pytest.approx(best / np.linalg.norm(delta), rel=1e-5)
    assert report.plan.relative_error == pytest.approx(report.relative_error_before_rounding, rel=1e-6)


def test_a_rank_above_the_sum_truncates_nothing() -> None:
    plan = plan_merge([adapter_of(adapters.lora(1, rank=2))], [1.0], merge_options(rank=9))
    assert plan.ranks == {2: 1}


@pytest.mark.parametrize(
    "options",
    [
        merge_options(energy=0.5),
        merge_options(ratio=2, max_rank=4),
        merge_options(error=0.5),
        merge_options(size=SMALL),
        merge_options(size=SMALL - 400, dtype="fp16"),
    ],
    ids=["energy", "ratio", "error", "size", "size fp16"],
)
def test_rules_and_budgets_hold(options: MergeOptions, tmp_path: Path) -> None:
    names = [f"lora_unet_down_blocks_{i}_attentions_0_proj_in" for i in range(2)]
    inputs = [adapter_of({**adapters.lora(i, names[0]), **adapters.lora(i + 5, names[1])}) for i in range(2)]
    report = write_merge(plan_merge(inputs, None, options), tmp_path / "sum.safetensors")
    expected, found = weighted_sum(inputs, [0.5, 0.5]), deltas(tmp_path / "sum.safetensors")
    whole = sqrt(sum(np.linalg.norm(delta) ** 2 for delta in expected.values()))
    lost = sqrt(sum(np.linalg.norm(found[name] - delta) ** 2 for name, delta in expected.items()))
    assert report.relative_error == pytest.approx(lost / whole, abs=1e-6)
    assert 0.01 < lost / whole <= sqrt(0.5) + 1e-6
    budget = options.as_resize().budget
    if budget is not None and budget.kind == "size":
        assert SMALL - 500 < report.written.size <= budget.limit


# -- storage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [AS_STATED, merge_options(rank=2), MergeOptions(dtype="bf16")])
def test_the_predicted_size_is_the_files(options: MergeOptions, tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(1) | adapters.tucker(2)), adapter_of(adapters.loha(3) | adapters.conv_full(4))]
    report = merged(tmp_path / "sum.safetensors", inputs, [1.0, 1.0], options)
    assert report.plan.size_after == report.written.size == (tmp_path / "sum.safetensors").stat().st_size


def cast(arrays: adapters.Arrays, dtype: Any) -> adapters.Arrays:
    return {name: array.astype(dtype) if array.ndim else array for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("first", "second", "asked", "stored"),
    [
        (np.float16, np.float32, "keep", "F32"),
        (BF16, np.float16, "keep", "F16"),
        (BF16, BF16, "keep", "BF16"),
        (np.float64, np.float16, "keep", "F64"),
        (np.float32, np.float32, "fp16", "F16"),
        (np.float16, np.float16, "fp32", "F32"),
    ],
)
def test_a_layer_is_stored_in_the_most_precise_type_of_its_holders(
    first: Any, second: Any, asked: Any, stored: str, tmp_path: Path
) -> None:
    inputs = [adapter_of(cast(adapters.lora(1), first)), adapter_of(cast(adapters.lora(2), second))]
    report = merged(tmp_path / "sum.safetensors", inputs, [0.3, 0.7], MergeOptions(normalize=False, dtype=asked))
    with open_adapter(tmp_path / "sum.safetensors") as adapter:
        assert adapter.layers[MODULE].dtypes == (stored,)
        assert adapter.source.tensors[f"{MODULE}.alpha"].dtype == "F32"
        found = materialise(adapter.layers[MODULE])
    delta = weighted_sum(inputs, [0.3, 0.7])[MODULE]
    assert report.relative_error == pytest.approx(np.linalg.norm(found - delta) / np.linalg.norm(delta), abs=1e-7)
    assert report.relative_error < {"F64": 1e-12, "F32": 1e-6, "F16": 1e-3, "BF16": 1e-2}[stored]


def test_rounding_of_vectors_is_measured_too(tmp_path: Path) -> None:
    source = adapter_of({"lora_unet_norm.w_norm": np.full(5, 1 / 3, np.float32)})
    report = merged(tmp_path / "sum.safetensors", [source], [1.0], MergeOptions(dtype="fp16"))
    assert report.relative_error == pytest.approx(abs(np.float64(np.float16(1 / 3)) * 3 - 1), rel=1e-3)


def test_the_same_merge_gives_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(1) | adapters.loha(2, "lora_unet_x")), adapter_of(adapters.lokr(3))]
    files = []
    for workers in (1, 2, 2):
        target = tmp_path / f"{len(files)}.safetensors"
        write_merge(plan_merge(inputs, [0.2, 0.8], workers=workers), target, workers=workers)
        files.append(target.read_bytes())
    assert files[0] == files[1] == files[2]


def test_the_inputs_are_not_touched(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.safetensors", adapters.lora(i)) for i in range(2)]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    with open_adapter(paths[0]) as a, open_adapter(paths[1]) as b:
        merged(tmp_path / "sum.safetensors", [a, b], [1.0, 1.0])
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before


# -- header and configuration ------------------------------------------------------------------------


def test_the_header_says_what_was_done(tmp_path: Path) -> None:
    shared = {"ss_base_model_version": "sd_v1", "ss_network_module": "networks.lora", "ss_output_name": "private"}
    paths = [save(tmp_path / f"{i}.safetensors", adapters.lora(i), shared) for i in range(2)]
    with open_adapter(paths[0]) as a, open_adapter(paths[1]) as b:
        report = write_merge(plan_merge([a, b], [3.0, 1.0]), tmp_path / "sum.safetensors")
        digests = []
        for adapter in (a, b):
            start = min(info.offset for info in adapter.source.tensors.values())
            digests.append(hashlib.sha256(Path(adapter.path).read_bytes()[start:]).hexdigest())
    with open_adapter(tmp_path / "sum.safetensors") as made:
        metadata = made.metadata
    assert metadata["lora_analysis.operation"] == "weighted_sum"
    (record,) = json.loads(metadata["lora_analysis.history"])
    assert record["inputs"] == [
        {"name": "0.safetensors", "sha256": digests[0], "weight": 0.75},
        {"name": "1.safetensors", "sha256": digests[1], "weight": 0.25},
    ]
    assert metadata["sshs_model_hash"] == report.written.data_sha256
    assert (metadata["ss_base_model_version"], metadata["ss_network_module"]) == ("sd_v1", "networks.lora")
    assert "ss_output_name" not in metadata


@pytest.mark.parametrize(
    ("file", "name"),
    [("folder/style.safetensors", "style.safetensors"), ("style/adapter_model.safetensors", "style")],
)
def test_an_input_is_called_by_what_tells_it_apart(file: str, name: str, tmp_path: Path) -> None:
    with open_adapter(save(tmp_path / file, adapters.lora(1))) as adapter:
        assert plan_merge([adapter]).inputs[0].name == name


def test_what_was_done_to_an_input_before_is_kept(tmp_path: Path) -> None:
    merged(tmp_path / "first.safetensors", [adapter_of(adapters.lora(1))], [1.0])
    with open_adapter(tmp_path / "first.safetensors") as first:
        merged(tmp_path / "second.safetensors", [first, adapter_of(adapters.lora(2))], [1.0, 1.0])
    with open_adapter(tmp_path / "second.safetensors") as second:
        (record,) = json.loads(second.metadata["lora_analysis.history"])
    assert [entry["operation"] for entry in record["inputs"][0]["history"]] == ["weighted_sum"]
    assert "history" not in record["inputs"][1]


def test_facts_on_which_the_inputs_differ_are_left_out() -> None:
    common = {"ss_base_model_version": "sd_v1", "ss_network_module": "lycoris.kohya"}
    inputs = [adapter_of(adapters.loha(seed), {**common, "format": value}) for seed, value in enumerate(("pt", "np"))]
    made = plan_merge(inputs).rewriting.metadata
    assert "format" not in made
    assert made["ss_base_model_version"] == "sd_v1"
    assert made["ss_network_module"] == "networks.lora"  # what the output is, though every input says otherwise


def test_a_peft_merge_states_ranks_and_alphas_in_its_configuration(tmp_path: Path) -> None:
    first = adapter_of(adapters.peft_lora(1, 2), config=adapters.peft_config(2, 8, use_rslora=True))
    second = adapter_of(
        adapters.peft_lora(2, 3) | adapters.peft_lora(3, 3, projection="v_proj"),
        config=adapters.peft_config(3, 3, target_modules=["v_proj", "q_proj"]),
    )
    merged(tmp_path / "sum", [first, second], [0.5, 0.5])
    config = json.loads((tmp_path / "sum" / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == ["q_proj", "v_proj"]
    assert not config["use_rslora"]
    assert_equal(deltas(tmp_path / "sum"), weighted_sum([first, second], [0.5, 0.5]))


def test_the_output_speaks_the_first_inputs_dialect(tmp_path: Path) -> None:
    module = "unet.down_blocks.0.attentions.0.proj_in"
    old = {
        f"{module}.lora.down.weight": adapters.normal(1, 2, 10),
        f"{module}.lora.up.weight": adapters.normal(1, 12, 2),
    }
    new = {f"{module}.lora_A.weight": adapters.normal(2, 3, 10), f"{module}.lora_B.weight": adapters.normal(2, 12, 3)}
    plan = plan_merge([adapter_of(old), adapter_of(new)])
    assert {tensor.name for tensor in plan.rewriting.tensors} == set(old)


def test_tensors_beside_the_layers_are_carried(tmp_path: Path) -> None:
    head = {"base_model.model.score.weight": adapters.normal(9, 2, 12)}
    config = adapters.peft_config(2, 2, modules_to_save=["score"])
    inputs = [adapter_of(adapters.peft_lora(i, 2) | head, config=config) for i in range(2)]
    inputs.append(adapter_of(adapters.peft_lora(5, 2), config=adapters.peft_config(2, 2)))
    merged(tmp_path / "sum", inputs, [1.0, 1.0, 1.0])
    with open_adapter(tmp_path / "sum") as adapter:
        np.testing.assert_array_equal(adapter.source.array("base_model.model.score.weight"), head.popitem()[1])
