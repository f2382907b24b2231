"""Every merge method writes what its dense float64 definition says, for adapters of every kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import adapters
import merge_oracle as oracle
from adapters import CONV, CONV_KINDS, LINEAR_KINDS, MODULE, OUT
from lora_analysis import materialise
from lora_analysis import open as open_adapter
from lora_analysis.adapter import Adapter
from lora_analysis.merging.methods import METHODS
from lora_analysis.merging.options import merge_options
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import MergeReport, write_merge
from sources import adapter_of

TOLERANCE = 1e-6  # of the norm; fp32 storage leaves 1e-7


class Case(NamedTuple):
    """One row of the table: a method, its options, and its definition."""

    method: str
    definition: Callable[..., np.ndarray]
    options: Mapping[str, Any] = MappingProxyType({})
    inputs: int = 3
    ordered: bool = False  # random numbers belong to the position of an adapter
    is_mean_alone: bool = True  # one adapter of weight 1 is itself


LOCAL = {"threshold": "layer"}
CASES = [
    Case("weighted_sum", oracle.weighted_sum),
    Case("concat", oracle.weighted_sum),
    Case("slerp", oracle.slerp, inputs=2),
    Case("karcher", oracle.karcher),
    Case("model_stock", oracle.model_stock),
    Case("tsv", oracle.tsv),
    Case("tsv", oracle.tsv, {"alpha": 0.7}, is_mean_alone=False),
    Case("iso_c", oracle.iso_c),
    Case("iso_c", oracle.iso_c, {"alpha": 1.3, "beta": 0.4}),
    Case("iso_cts", oracle.iso_cts),
    Case("iso_cts", oracle.iso_cts, {"common": 0.4, "alpha": 1.0}),
    Case("knots_ties", oracle.knots_ties, {"density": 0.3, **LOCAL}),
    Case("core_ties", oracle.core_ties, {"density": 0.6}),
    Case("core_dare", oracle.core_dare, {"density": 0.4, "seed": 7}, ordered=True),
    Case("ctm", oracle.ctm, {"rank": 3, "density": 0.7, "beta": 0.6}),
    Case("ctm", oracle.ctm, {"rank": 4, "core_rule": "sum"}),
    Case("ctm", oracle.ctm, {"rank": 5, "core_rule": "dare_linear", "seed": 2}, ordered=True),
    Case("ties", oracle.ties, {"density": 0.25, **LOCAL}),
    Case("magnitude_prune", oracle.magnitude_prune, {"density": 0.25}, is_mean_alone=False),
    Case("dare_linear", oracle.dare_linear, {"density": 0.3, "seed": 3}, ordered=True, is_mean_alone=False),
    Case("dare_ties", oracle.dare_ties, {"density": 0.3, "seed": 4}, ordered=True, is_mean_alone=False),
    Case("della", oracle.della, {"density": 0.4, "seed": 5}, ordered=True, is_mean_alone=False),
]
ENTRYWISE = {"ties", "magnitude_prune", "dare_linear", "dare_ties", "della"}
WEIGHTS = [0.7, -0.4, 0.5]
each_case = pytest.mark.parametrize("case", CASES, ids=[f"{c.method} {c.options or ''}".strip() for c in CASES])


def matrix(adapter: Adapter, name: str) -> np.ndarray:
    delta = materialise(adapter.layers[name])
    return delta.reshape(delta.shape[0], -1)


def write(target: Path, inputs: list[Adapter], weights: list[float], **options: Any) -> MergeReport:
    return write_merge(plan_merge(inputs, weights, merge_options(**{"normalize": False, **options})), target)


def stored(target: Path, name: str) -> np.ndarray:
    with open_adapter(target) as adapter:
        return matrix(adapter, name)


def expected(case: Case, inputs: list[Adapter], weights: list[float], name: str, **more: Any) -> np.ndarray:
    deltas = [matrix(adapter, name) for adapter in inputs]
    return case.definition(deltas, weights, name=name, numbers=range(len(inputs)), **{**case.options, **more})


def whole_rank(case: Case) -> dict[str, Any]:
    """Entry-wise results have full rank; asked for it they are stored exactly."""
    return {"rank": OUT} if case.method in ENTRYWISE else {}


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float = TOLERANCE) -> None:
    assert np.linalg.norm(wanted) > 0
    assert np.linalg.norm(found - wanted) <= tolerance * np.linalg.norm(wanted)


# -- the definitions ---------------------------------------------------------------------------------


@each_case
@pytest.mark.parametrize("kinds", [LINEAR_KINDS, CONV_KINDS], ids=["linear", "convolution"])
def test_a_method_equals_its_dense_definition(case: Case, kinds: Any, tmp_path: Path) -> None:
    name = MODULE if kinds is LINEAR_KINDS else CONV
    makers = list(kinds.values())
    for shift in range(len(makers)):
        inputs = [adapter_of(makers[(shift + i) % len(makers)](i + 1)) for i in range(case.inputs)]
        weights = WEIGHTS[: case.inputs]
        target = tmp_path / f"{shift}.safetensors"
        write(target, inputs, weights, method=case.method, **case.options, **whole_rank(case))
        assert_close(stored(target, name), expected(case, inputs, weights, name))


@each_case
def test_low_ranks_in_large_layers_too(case: Case, tmp_path: Path) -> None:
    """Ranks that add up to less than a side: nothing is hidden by full rank."""
    inputs = [adapter_of(adapters.lora(i, rank=i + 2, out=40, width=30)) for i in range(case.inputs)]
    options = {"rank": 30} if case.method in ENTRYWISE else {}
    write(tmp_path / "out.safetensors", inputs, WEIGHTS[: case.inputs], method=case.method, **case.options, **options)
    assert_close(stored(tmp_path / "out.safetensors", MODULE), expected(case, inputs, WEIGHTS[: case.inputs], MODULE))


def test_every_method_is_in_the_table() -> None:
    own = {"svd"}  # has a test of its own: its rank decides
    assert {case.method for case in CASES} | own == {n for n, m in METHODS.items() if not m.is_compatibility}


@each_case
def test_one_adapter_with_weight_one_is_itself(case: Case, tmp_path: Path) -> None:
    source = adapter_of(adapters.lora(1, out=40, width=30))
    options = case.options if case.is_mean_alone else {"density": 1.0}
    options = {k: v for k, v in options.items() if k in METHODS[case.method].parameters}
    options.pop("alpha", None)
    if case.method == "della":
        options["epsilon"] = 0.0
    write(tmp_path / "out.safetensors", [source], [1.0], method=case.method, **options)
    assert_close(stored(tmp_path / "out.safetensors", MODULE), matrix(source, MODULE))


@each_case
def test_weights_act_once(case: Case, tmp_path: Path) -> None:
    """Half the weights make half the delta."""
    inputs = [adapter_of(adapters.lora(i, rank=3)) for i in range(case.inputs)]
    for name, factor in (("one", 1.0), ("half", 0.5)):
        weights = [factor * weight for weight in WEIGHTS[: case.inputs]]
        target = tmp_path / f"{name}.safetensors"
        write(target, inputs, weights, method=case.method, **case.options, **whole_rank(case))
    assert_close(stored(tmp_path / "half.safetensors", MODULE), 0.5 * stored(tmp_path / "one.safetensors", MODULE))


@each_case
def test_a_layer_that_one_input_holds_counts_with_its_weight_alone(case: Case, tmp_path: Path) -> None:
    """Nothing is there to be reconciled; what drops entries of every input by itself drops them here too."""
    alone = "lora_unet_mid_block_attentions_0_proj_in"
    inputs = [adapter_of(adapters.lora(i)) for i in range(case.inputs)]
    inputs[0] = adapter_of(adapters.lora(0) | adapters.lora(9, alone))
    weights = WEIGHTS[: case.inputs]
    write(tmp_path / "out.safetensors", inputs, weights, method=case.method, **case.options, **whole_rank(case))
    wanted = expected(case, inputs[:1], weights[:1], alone)
    if METHODS[case.method].alone == "kept":
        wanted = weights[0] * matrix(inputs[0], alone)
    assert_close(stored(tmp_path / "out.safetensors", alone), wanted)


@each_case
def test_order_does_not_matter_where_nothing_is_random(case: Case, tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(i, rank=i + 1)) for i in range(case.inputs)]
    weights = WEIGHTS[: case.inputs]
    for name, step in (("there", 1), ("back", -1)):
        target = tmp_path / f"{name}.safetensors"
        write(target, inputs[::step], weights[::step], method=case.method, **case.options, **whole_rank(case))
    there, back = (stored(tmp_path / f"{name}.safetensors", MODULE) for name in ("there", "back"))
    if case.ordered:
        assert np.linalg.norm(there - back) > 1e-3 * np.linalg.norm(there)
    else:
        assert_close(back, there)


@each_case
def test_lambda_multiplies_the_result(case: Case, tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(i)) for i in range(case.inputs)]
    weights, more = WEIGHTS[: case.inputs], {**case.options, **whole_rank(case)}
    write(tmp_path / "one.safetensors", inputs, weights, method=case.method, **more)
    write(tmp_path / "two.safetensors", inputs, weights, method=case.method, lambda_=-2, **more)
    assert_close(stored(tmp_path / "two.safetensors", MODULE), -2 * stored(tmp_path / "one.safetensors", MODULE))


@each_case
def test_experts_are_merged_one_by_one(case: Case, tmp_path: Path) -> None:
    if case.ordered:
        pytest.skip("the random numbers of an expert are its own; the others say enough")
    name, config = "model.layers.3.mlp.switch_mlp.up_proj", {"lora_parameters": {"rank": 2, "scale": 4.0}}
    inputs = [
        adapter_of(
            {f"{name}.lora_a": adapters.normal(i, 3, 2, 8), f"{name}.lora_b": adapters.normal(i, 3, 9, 2)},
            config=config,
        )
        for i in range(case.inputs)
    ]
    weights = WEIGHTS[: case.inputs]
    options = {"rank": 8} if case.method in ENTRYWISE else {}
    write(tmp_path / "out", inputs, weights, method=case.method, **case.options, **options)
    with open_adapter(tmp_path / "out") as made:
        found = materialise(made.layers[name])
    for expert in range(3):
        deltas = [materialise(adapter.layers[name])[expert] for adapter in inputs]
        assert_close(found[expert], case.definition(deltas, weights, **case.options))


VECTORS = {"slerp", "karcher", "model_stock", *ENTRYWISE}


@each_case
def test_vectors_are_merged_by_the_same_rule_or_summed(case: Case, tmp_path: Path) -> None:
    name = "lora_unet_norm"
    inputs = [adapter_of({f"{name}.w_norm": adapters.normal(i, 17)} | adapters.lora(i)) for i in range(case.inputs)]
    weights = WEIGHTS[: case.inputs]
    write(tmp_path / "out.safetensors", inputs, weights, method=case.method, **case.options)
    with open_adapter(tmp_path / "out.safetensors") as made:
        found = materialise(made.layers[name])
    deltas = [materialise(adapter.layers[name]).reshape(1, -1) for adapter in inputs]
    rule = case.definition if case.method in VECTORS else oracle.weighted_sum
    assert_close(found, rule(deltas, weights, name=name, numbers=range(case.inputs), **case.options)[0])


# -- ranks that decide -------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "rank"), [({}, 4), ({"rank": 2}, 2)])
def test_svd_truncates_to_the_largest_rank_unless_told(asked: dict[str, int], rank: int, tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(i, rank=i + 2, out=40, width=30)) for i in range(3)]
    report = write(tmp_path / "out.safetensors", inputs, WEIGHTS, method="svd", **asked)
    wanted = oracle.truncated(oracle.weighted_sum([matrix(a, MODULE) for a in inputs], WEIGHTS), rank)
    assert report.plan.ranks == {rank: 1}
    assert_close(stored(tmp_path / "out.safetensors", MODULE), wanted)


def test_ctm_has_the_largest_rank_unless_told(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(i, rank=i + 2, out=40, width=30)) for i in range(3)]
    report = write(tmp_path / "out.safetensors", inputs, WEIGHTS, method="ctm")
    assert report.plan.ranks == {4: 1}
    wanted = oracle.ctm([matrix(a, MODULE) for a in inputs], WEIGHTS, 4)
    assert_close(stored(tmp_path / "out.safetensors", MODULE), wanted)
