"""The application's interface to resizing: dicts of a fixed shape, and no exceptions for bad input."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from command import strict_json
from resizable import CASES, KOHYA, Case, Work, alpha, lora, values

VALIDATION = {
    "is_valid", "current_rank", "ranks", "new_rank", "file_size_mb", "estimated_size_mb", "estimated_error",
    "warnings", "errors",
}  # fmt: skip
RESULT = {
    "success", "output_path", "layers_total", "layers_changed", "layers_skipped", "old_rank", "new_rank",
    "relative_error", "size_before", "size_after", "report",
}  # fmt: skip


def validate(path: Any, rank: Any, **options: Any) -> dict[str, Any]:
    found = asyncio.run(la.LoraResizer().validate_resize_operation(path, rank, **options))
    assert found.keys() == VALIDATION
    return strict_json(json.dumps(found, allow_nan=False))


def resize(path: Any, rank: Any, output: Any, **options: Any) -> dict[str, Any]:
    found = asyncio.run(la.LoraResizer().resize_lora_rank(path, rank, output, **options))
    assert found.keys() - {"error"} == RESULT
    assert ("error" in found) == (not found["success"])
    return strict_json(json.dumps(found, allow_nan=False))


@pytest.fixture
def path(work: Work) -> Path:
    arrays = lora("lora_unet_a", 20, 24, 8) | lora("lora_unet_b", 20, 24, 8) | lora("lora_unet_c", 20, 24, 4)
    return work.save(Case(arrays | alpha("lora_unet_a", 4) | {"lora_unet_n.w_norm": values(7)}))


def test_validation_predicts_what_resizing_then_does(path: Path, work: Work) -> None:
    found = validate(path, 4)
    assert found["is_valid"] is True
    assert (found["current_rank"], found["ranks"], found["new_rank"]) == (8, {"4": 1, "8": 2}, 4)
    assert found["file_size_mb"] == path.stat().st_size / 1e6
    assert any("norm difference" in warning for warning in found["warnings"])
    target = work.folder / "out.safetensors"
    done = resize(path, 4, target)
    assert done["success"] is True
    assert done["output_path"] == str(target)
    assert (done["layers_total"], done["layers_changed"], done["layers_skipped"]) == (4, 2, 2)
    assert (done["old_rank"], done["new_rank"]) == (None, 4)
    assert (done["size_before"], done["size_after"]) == (path.stat().st_size, target.stat().st_size)
    assert found["estimated_size_mb"] == done["size_after"] / 1e6
    assert done["relative_error"] == pytest.approx(found["estimated_error"], abs=1e-6)
    assert done["report"]["output"]["path"] == str(target)
    adapter = work.open(target)
    assert (adapter.metadata["ss_network_rank"], adapter.metadata["ss_network_dim"]) == ("4", "4")
    assert adapter.metadata["lora_analysis.operation"] == "resize"


def test_rules_and_budgets_are_options(path: Path, work: Work) -> None:
    done = resize(path, None, work.folder / "out.safetensors", size=3500, dtype="fp16", overwrite=True)
    assert done["success"] is True
    assert done["size_after"] <= 3500
    assert validate(path, None, energy=0.9)["is_valid"] is True


@pytest.mark.parametrize(
    ("rank", "code"),
    [(0, "option"), (-3, "option"), (2.5, "option"), ("x", "option"), (float("nan"), "option"), (None, "option"),
     (True, "option"), (21, "option")],
)  # fmt: skip
def test_impossible_ranks_are_answers_not_exceptions(rank: Any, code: str, path: Path, work: Work) -> None:
    found = validate(path, rank)
    assert found["is_valid"] is False
    assert len(found["errors"]) == 1
    assert found["current_rank"] == 8  # what could be found out is said
    done = resize(path, rank, work.folder / "out.safetensors")
    assert done["success"] is False
    assert done["error"]["code"] == code
    assert work.names == [path.name]


def test_bad_files_are_answers_not_exceptions(work: Work) -> None:
    (work.folder / "empty.safetensors").write_bytes(b"")
    arrays = dict(CASES["linear"].arrays)
    arrays[f"{KOHYA}.lora_up.weight"] = np.full((20, 8), np.nan, np.float32)
    bad = work.save(Case(arrays))
    table = [
        (work.folder / "absent.safetensors", "file-access"),
        (work.folder / "empty.safetensors", "header"),
        (work.folder, "file-access"),
        (bad, "non-finite"),
        (None, "internal"),
    ]
    for path, code in table:
        assert validate(path, 3)["is_valid"] is False
        done = resize(path, 3, work.folder / "out.safetensors")
        assert done["error"]["code"] == code, path
    assert (
        KOHYA in done["error"]["message"] or KOHYA in resize(bad, 3, work.folder / "o.safetensors")["error"]["message"]
    )
    assert work.names == ["adapter.safetensors", "empty.safetensors"]


def test_files_without_layers_and_impossible_targets(path: Path, work: Work) -> None:
    other = Work(work.folder / "other", work._stack)
    other.folder.mkdir()
    model = other.save(Case({"model.weight": values(4, 4)}))
    assert resize(model, 3, work.folder / "out.safetensors")["error"]["code"] == "unknown-dialect"
    table = [(path, "option"), (work.folder / "absent/out.safetensors", "output"), (work.folder / "out.zip", "option")]
    for target, code in table:
        assert resize(path, 3, target)["error"]["code"] == code
    assert resize(path, 3, model)["error"]["code"] == "output"  # exists
    assert resize(path, 8, work.folder / "out.safetensors", keep="x")["error"]["code"] == "option"


def test_errors_are_logged(path: Path, work: Work, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "lora_analysis.resizer"):
        done = resize(path, 0, work.folder / "out.safetensors")
    assert [record.getMessage() for record in caplog.records] == [done["error"]["message"]]


def test_cancelling_the_task_stops_the_work(path: Path, work: Work) -> None:
    async def run() -> None:
        task = asyncio.create_task(la.LoraResizer().resize_lora_rank(path, 3, work.folder / "out.safetensors"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())  # waits for the thread
    assert set(work.names) <= {path.name, "out.safetensors"}


def test_a_plan_of_an_open_adapter_reads_only_headers_without_prediction(path: Path, work: Work) -> None:
    adapter = work.open(path)
    plan = la.plan_resize(adapter, rank=4, predict=False)
    assert plan.relative_error is None
    assert plan.size_after == la.plan_resize(adapter, rank=4).size_after
    document = plan.to_dict()
    assert document["rank_distribution"] == {"4": 3}
    assert strict_json(json.dumps(document))["layers"][0]["new_rank"] == 4
