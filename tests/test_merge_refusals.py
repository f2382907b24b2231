"""What cannot be merged is refused with the reason, before anything is written; nothing is left out silently."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapters
from adapters import CONV, MODULE, save
from lora_analysis import LoraResizer, materialise
from lora_analysis.errors import (
    LoraAnalysisError,
    NonFiniteError,
    OpaqueUpdateError,
    OptionError,
    OutputError,
    ShapeError,
    UnknownDialectError,
)
from lora_analysis.merging.api import merge_loras
from lora_analysis.merging.options import MergeOptions, effective_weights, merge_options
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import write_merge
from lora_analysis.resizing.request import options_of
from sources import adapter_of

SDXL_TE = "lora_te2_text_model_encoder_layers_30_self_attn_q_proj"
FLUX = "lora_unet_double_blocks_0_img_attn_qkv"
OFT = {"oft_unet_down_blocks_0_attentions_0_proj_in.oft_blocks": adapters.normal(1, 4, 3, 3)}
DORA = {f"{MODULE}.dora_scale": np.ones((adapters.OUT, 1), np.float32)}
HEAD = "base_model.model.score.weight"


# -- weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "normalize", "message"),
    [
        ([1.0, nan], True, "weight 2 is nan"),
        ([inf, 1.0], False, "weight 1 is inf"),
        ([0.0, 0.0], True, "all weights are 0"),
        ([0.0], False, "all weights are 0"),
        ([1.0, -1.0], True, "sum to 0.*--no-normalize"),
        ([0.1, 0.2, -0.3], True, "sum to 0"),
        ([1.0], True, "2 adapters and 1 weights"),
        ([1.0, 1.0, 1.0], True, "2 adapters and 3 weights"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights: list[float], normalize: bool, message: str) -> None:
    count = 2 if "adapters" in message else len(weights)
    inputs = [adapter_of(adapters.lora(seed)) for seed in range(count)]
    with pytest.raises(OptionError, match=message):
        plan_merge(inputs, weights, MergeOptions(normalize=normalize))


def test_negative_weights_and_weights_that_sum_to_nothing_are_allowed_as_they_stand() -> None:
    assert effective_weights([1.0, -1.0], normalize=False) == (1.0, -1.0)
    assert effective_weights([3.0, -1.0], normalize=True) == (1.5, -0.5)


def test_no_adapters_are_refused() -> None:
    with pytest.raises(OptionError, match="at least one"):
        plan_merge([])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"rank": 2, "error": 0.1}, "rank and error choose ranks"),
        ({"dtype": "int8"}, "no dtype is named 'int8'"),
        ({"rank": 0}, "at least 1"),
        ({"rank": 2.5}, "whole number"),
        ({"energy": "most"}, "must be a number"),
        ({"error": 2}, "a fraction from 0 to 1"),
        ({"method": "pad_truncate"}, "no merge method is named 'pad_truncate'"),
        ({"truncation": 3}, "no option of a merge is named 'truncation'"),
        ({"min_rank": 2}, "nothing says which ranks"),
    ],
)
def test_options_that_make_no_sense_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        merge_options(**asked)


def test_a_sum_is_truncated_by_its_singular_values_alone() -> None:
    with pytest.raises(OptionError, match="singular values"):
        MergeOptions(truncation=options_of(rank=2, method="pad_truncate"))


# -- adapters ----------------------------------------------------------------------------------------


def opened(*parts: adapters.Arrays) -> list[Any]:
    return [adapter_of(part) for part in parts]


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (opened(adapters.lora(1), {"x": np.ones(3)}), UnknownDialectError, "no adapter layer"),
        (opened(adapters.lora(1), adapters.lora(2, out=14)), ShapeError, rf"{MODULE}.*\[12, 10\] and \[14, 10\]"),
        (opened(adapters.lora(1), adapters.lora(2) | DORA), OpaqueUpdateError, "1 layers are DoRA.*base weights"),
        (opened(adapters.lora(1), adapters.lora(2) | OFT), OpaqueUpdateError, "no delta to add.*--drop-unsupported"),
        (opened(adapters.lora(1), adapters.conv_lora(2)), OptionError, "shares no layer.*--allow-disjoint"),
        (
            opened(adapters.lora(1), adapters.lora(2), adapters.conv_lora(3)),
            OptionError,
            f"shares no layer with the others: it has {CONV}",
        ),
        (
            opened(adapters.lora(1, SDXL_TE, out=1280, width=1280), adapters.lora(2, FLUX, out=9216, width=3072)),
            OptionError,
            "was made for Stable Diffusion XL.*FLUX.1",
        ),
    ],
    ids=["no layers", "shapes", "dora", "opaque", "disjoint", "one disjoint", "families"],
)
def test_adapters_that_do_not_fit_are_refused(
    inputs: Sequence[Any], error: type[LoraAnalysisError], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan_merge(inputs)


def test_a_difference_in_the_bases_orientation_is_refused() -> None:
    config = adapters.peft_config(2, 2)
    inputs = [
        adapter_of(adapters.peft_lora(1, 2), config=config),
        adapter_of(adapters.peft_lora(2, 2), config={**config, "fan_in_fan_out": True}),
    ]
    with pytest.raises(ShapeError, match="fan_in_fan_out differs"):
        plan_merge(inputs)


def test_an_unknown_base_model_is_a_remark() -> None:
    plan = plan_merge(opened(adapters.lora(1, "lora_unet_x"), adapters.lora(2, "lora_unet_x")))
    assert sum("base model is unknown" in note for note in plan.notes) == 2


def test_disjoint_adapters_are_joined_where_that_is_asked_for(tmp_path: Path) -> None:
    inputs = opened(adapters.lora(1), adapters.conv_lora(2))
    plan = plan_merge(inputs, [0.5, 0.25], MergeOptions(allow_disjoint=True, normalize=False))
    assert list(plan.layers) == [MODULE, CONV]


# -- what is left out ----------------------------------------------------------------------------------


def test_unsupported_layers_are_left_out_where_that_is_asked_for_and_reported() -> None:
    plan = plan_merge(opened(adapters.lora(1), adapters.lora(2) | OFT), None, MergeOptions(drop_unsupported=True))
    assert list(plan.layers) == [MODULE]
    (dropped,) = plan.dropped
    assert (dropped.input, plan.layers_dropped) == (1, 1)
    assert dropped.name.startswith("oft_unet_")
    assert plan.to_dict()["dropped"][0]["reason"]


def test_layers_that_add_nothing_cost_no_rank_and_are_reported() -> None:
    silent = adapters.lora(2, scale=0.0)
    plan = plan_merge(opened(adapters.lora(1), silent))
    assert plan.ranks == {3: 1}
    assert [drop.reason for drop in plan.dropped] == ["its scale is 0: loaders apply nothing of it"]


def test_an_input_of_weight_zero_adds_nothing() -> None:
    plan = plan_merge(opened(adapters.lora(1), adapters.lora(2)), [1.0, 0.0])
    assert plan.ranks == {3: 1}
    assert any("its weight is 0" in note for note in plan.notes)


def test_a_merge_of_nothing_is_an_error() -> None:
    with pytest.raises(UnknownDialectError, match=r"nothing is left to merge.*scale is 0"):
        plan_merge(opened(adapters.lora(1, scale=0.0)))


def with_head(seed: int) -> Any:
    config = adapters.peft_config(2, 2, modules_to_save=["score"])
    return adapter_of(adapters.peft_lora(seed, 2) | {HEAD: adapters.normal(seed, 2, 12)}, config=config)


def test_values_that_replace_the_bases_are_refused_where_they_differ() -> None:
    with pytest.raises(OptionError, match=r"score\.weight is no difference.*--drop-unsupported"):
        plan_merge([with_head(1), with_head(2)])
    plan = plan_merge([with_head(1), with_head(2)], None, MergeOptions(drop_unsupported=True))
    assert [drop.name for drop in plan.dropped] == [HEAD, HEAD]
    assert HEAD not in {tensor.name for tensor in plan.rewriting.tensors}


def test_tensors_that_no_loader_applies_are_left_out_and_reported() -> None:
    orphan = {"lora_unet_lost.lora_down.weight": adapters.normal(1, 2, 10)}
    plan = plan_merge([adapter_of(adapters.lora(1) | orphan)])
    assert [drop.name for drop in plan.dropped] == list(orphan)
    assert plan.layers_dropped == 0
    assert not orphan.keys() & {tensor.name for tensor in plan.rewriting.tensors}


def test_nothing_is_carried_from_an_input_of_weight_zero() -> None:
    plan = plan_merge([with_head(1), with_head(2)], [1.0, 0.0])
    assert (HEAD, 1) in {(drop.name, drop.input) for drop in plan.dropped}
    assert HEAD in {tensor.name for tensor in plan.rewriting.tensors}


def test_a_grouped_convolution_is_refused() -> None:
    grouped = {
        f"{CONV}.lora_down.weight": adapters.normal(1, 4, 5, 3, 3),
        f"{CONV}.lora_up.weight": adapters.normal(2, 12, 2, 1, 1),
    }
    with pytest.raises(OpaqueUpdateError, match="block-diagonal"):
        plan_merge(opened(grouped))


# -- writing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [adapters.lora, adapters.full], ids=["factors", "elements"])
def test_values_that_are_no_numbers_are_refused_and_leave_nothing_behind(make: Any, tmp_path: Path) -> None:
    broken = {name: np.full_like(array, nan) if array.ndim else array for name, array in make(1).items()}
    plan = plan_merge(opened(make(2), broken), predict=False)
    with pytest.raises(NonFiniteError, match=MODULE):
        write_merge(plan, tmp_path / "sum.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_values_too_large_for_the_type_are_refused(tmp_path: Path) -> None:
    arrays = {name: array.astype(np.float16) if array.ndim else array for name, array in adapters.full(1).items()}
    plan = plan_merge(opened(arrays), [1e6], MergeOptions(normalize=False))
    with pytest.raises(NonFiniteError, match="F16"):
        write_merge(plan, tmp_path / "sum.safetensors")


def test_the_output_is_no_input_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    first, second = (save(tmp_path / f"{i}.safetensors", adapters.lora(i)) for i in range(2))
    result = merge_loras([first, second], None, first, overwrite=True)
    assert (result["success"], result["error"]["code"]) == (False, "option")
    other = save(tmp_path / "other.safetensors", adapters.lora(3))
    before = other.read_bytes()
    result = merge_loras([first, second], None, other)
    assert result["error"]["type"] == OutputError.__name__
    assert other.read_bytes() == before
    assert merge_loras([first, second], None, other, overwrite=True)["success"]


# -- the application's dict ----------------------------------------------------------------------------


def test_the_dict_of_a_merge_holds_what_was_measured(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.safetensors", adapters.lora(i) | adapters.conv_lora(i)) for i in range(2)]
    result = merge_loras(paths, [3, 1], tmp_path / "sum.safetensors", 2)
    assert {
        key: result[key] for key in ("success", "layers_total", "layers_changed", "layers_skipped", "new_rank")
    } == {
        "success": True,
        "layers_total": 2,
        "layers_changed": 2,
        "layers_skipped": 0,
        "new_rank": 2,
    }
    assert result["size_after"] == (tmp_path / "sum.safetensors").stat().st_size
    assert 0 < result["relative_error"] < 1
    assert [item["weight"] for item in result["report"]["inputs"]] == [0.75, 0.25]
    assert "error" not in result


@pytest.mark.parametrize(
    ("new_rank", "options", "message"),
    [
        (0, {}, "at least 1"),
        (-1, {}, "at least 1"),
        (2.5, {}, "whole number"),
        (True, {}, "must be a number"),
        (2, {"energy": 0.5}, "rank and energy choose ranks"),
        (None, {"normalise": True}, "no option of a merge is named 'normalise'; there are method, normalize"),
    ],
)
def test_bad_requests_are_errors_in_the_dict(
    new_rank: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.safetensors", adapters.lora(1))
    result = merge_loras([path], None, tmp_path / "sum.safetensors", new_rank, **options)
    assert not result["success"]
    assert result["error"]["code"] == "option"
    assert message in result["error"]["message"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_missing_file_is_an_error_in_the_dict(tmp_path: Path) -> None:
    result = merge_loras([tmp_path / "none.safetensors"], None, tmp_path / "sum.safetensors")
    assert (result["success"], result["error"]["code"]) == (False, "file-access")


def test_the_sum_can_be_read_without_being_written() -> None:
    plan = plan_merge(opened(adapters.lora(1), adapters.full(2)))
    total = sum(0.5 * materialise(one.layers[MODULE]) for one in opened(adapters.lora(1), adapters.full(2)))
    np.testing.assert_allclose(materialise(plan.rewriting.adapter.layers[MODULE]), total, atol=1e-12)


def test_the_application_merges_from_a_coroutine(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.safetensors", adapters.lora(i)) for i in range(2)]
    resizer = LoraResizer()
    done = asyncio.run(resizer.merge_loras(paths, [0.7, 0.3], tmp_path / "sum.safetensors", 2))
    assert (done["success"], done["new_rank"]) == (True, 2)
    again = asyncio.run(resizer.merge_loras(paths, [1, -1], tmp_path / "other.safetensors"))
    assert (again["success"], again["error"]["code"]) == (False, "option")
    as_stated = asyncio.run(resizer.merge_loras(paths, [1, -1], tmp_path / "other.safetensors", normalize=False))
    assert [item["weight"] for item in as_stated["report"]["inputs"]] == [1.0, -1.0]
