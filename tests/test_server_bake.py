"""Baking and extracting over HTTP: planned, written as the command writes, refused where the ids lead elsewhere."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import lora_analysis as la
from lora_analysis.server.catalog.store import item_id
from lora_analysis.server.roots import Root
from lora_analysis.server.schemas import jobs as schemas
from serving import finished, id_of, ok, scanned, serving
from test_bake import PREFIX, SDXL
from test_convert import H, pair, write
from test_extract import checkpoints
from test_server_checkpoints import in_shards, run_command, written

NAME = "lora_unet_input_blocks_4_1_proj_in"
FAMILY = {"family": "sdxl"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "models"
    folder.mkdir()
    write(folder / "whole.safetensors", SDXL)
    in_shards(folder / "sharded", SDXL)
    (folder / "sharded" / "config.json").write_text('{"model_type": "x"}')
    write(folder / "adapter.safetensors", pair(NAME, H, H, 2, alpha=1.0))
    stray = pair("lora_unet_input_blocks_9_1_proj_in", H, H, 2)
    write(folder / "stray.safetensors", pair(NAME, H, H, 2, seed=5) | stray)
    checkpoints(folder)
    large = {f"{PREFIX}input_blocks.{at}.1.proj_in.weight": np.zeros((1200, 1200), np.float32) for at in (4, 5, 7, 8)}
    write(folder / "large-base.safetensors", large)
    chance = np.random.default_rng(1)
    write(
        folder / "large-tuned.safetensors",
        {key: chance.standard_normal(one.shape).astype(np.float32) for key, one in large.items()},
    )
    return folder


@pytest.fixture(scope="module")
def client(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("state"), library) as client:
        yield client


def bake_of(client: TestClient, base: str = "whole", name: str = "adapter", **more: Any) -> dict[str, Any]:
    inputs = [{"adapter": id_of(client, name), "weight": 0.5}]
    return {"base": id_of(client, base), "inputs": inputs, "options": FAMILY, **more}


def extract_of(client: TestClient, **options: Any) -> dict[str, Any]:
    ids = {"tuned": id_of(client, "tuned"), "base": id_of(client, "base")}
    return {**ids, "options": {**FAMILY, **options}}


def done(client: TestClient, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
    return finished(client, ok(client.post("/api/v1/jobs", json={"kind": kind, **asked}), 202)["id"])


# -- bake ----------------------------------------------------------------------------------------------


def test_a_bake_is_the_command_s_to_the_byte_and_a_checkpoint(
    client: TestClient, library: Path, tmp_path: Path
) -> None:
    asked = bake_of(client)
    plan = ok(client.post("/api/v1/plans/bake?wait=30", json=asked))
    schemas.BakePlan.model_validate(plan, extra="forbid")
    assert [one["layer"] for one in plan["layers"]] == [f"{PREFIX}input_blocks.4.1.proj_in.weight"]
    assert (plan["tensors_changed"], plan["adapters"][0]["id"]) == (1, asked["inputs"][0]["adapter"])
    assert plan["free"] > 0
    job = done(client, "bake", asked)
    data = written(client, job)
    assert job["params"]["output"] == plan["output"] == "whole_baked.safetensors"
    assert (job["checkpoints"], job["adapters"]) == ([asked["base"]], [asked["inputs"][0]["adapter"]])
    expected = tmp_path / "expected.safetensors"
    la.bake(library / "whole.safetensors", [library / "adapter.safetensors"], [0.5], expected, family="sdxl")
    assert data == expected.read_bytes() == run_command(job["command"], library, tmp_path)
    assert "whole_baked.safetensors" in [row["name"] for row in ok(client.get("/api/v1/checkpoints"))]
    report = ok(client.get(f"/api/v1/jobs/{job['id']}/result"))
    assert report["rounding"] == job["summary"]["rounding"]
    assert str(library.parent) not in json.dumps([job, report, plan])


def test_shards_become_a_folder_that_can_be_taken_back(client: TestClient, library: Path, tmp_path: Path) -> None:
    job = done(client, "bake", bake_of(client, "sharded"))
    assert job["state"] == "succeeded", job["error"]
    [output] = job["outputs"]
    files = {one["name"]: one["size_bytes"] for one in ok(client.get(f"/api/v1/adapters/{output}/files"))}
    assert set(files) == {path.name for path in (library / "sharded").iterdir()}
    expected = tmp_path / "expected"
    la.bake(library / "sharded", [library / "adapter.safetensors"], [0.5], expected, family="sdxl")
    for name in files:
        found = client.get(f"/api/v1/adapters/{output}/file", params={"name": name}).content
        assert found == (expected / name).read_bytes(), name
    scanned(client)
    assert "sharded_baked" in [row["name"] for row in ok(client.get("/api/v1/checkpoints"))], "also after a scan"
    assert client.delete(f"/api/v1/adapters/{output}").status_code == 204
    assert client.get(f"/api/v1/adapters/{output}").status_code == 404


def test_what_has_no_place_is_left_out_on_request_only(client: TestClient) -> None:
    asked = bake_of(client, name="stray")
    found = client.post("/api/v1/plans/bake?wait=30", json=asked)
    assert (found.status_code, found.json()["error"]["code"]) == (400, "option")
    asked["options"] = {**FAMILY, "drop": True}
    plan = ok(client.post("/api/v1/plans/bake?wait=30", json=asked))
    assert [one["name"] for one in plan["skipped"]] == ["lora_unet_input_blocks_9_1_proj_in"]
    assert "--drop" in plan["command"]


# -- extract -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"rank": 4}, {"energy": 0.9, "max_rank": 8, "dtype": "bf16", "seed": 3}, {"error": 0.2, "to": "comfyui"},
     {"size": 40_000, "full_norms": True}],
    ids=["rank", "energy", "error", "size"],
)  # fmt: skip
def test_an_extraction_is_the_command_s_to_the_byte(
    client: TestClient, library: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    asked = extract_of(client, **options)
    plan = ok(client.post("/api/v1/plans/extract?wait=30", json=asked))
    schemas.ExtractPlan.model_validate(plan, extra="forbid")
    job = done(client, "extract", asked)
    data = written(client, job)
    assert plan["output"] == "tuned_extracted.safetensors"
    assert len(data) <= plan["size_after"], "one weight is equal in both, which only its values tell"
    assert job["checkpoints"] == [asked["tuned"], asked["base"]]
    expected = tmp_path / "expected.safetensors"
    la.extract(library / "tuned.safetensors", library / "base.safetensors", expected, family="sdxl", **options)
    assert data == expected.read_bytes() == run_command(job["command"], library, tmp_path)
    row = ok(client.get(f"/api/v1/adapters/{job['outputs'][0]}"))
    assert (row["checkpoint"], row["layers"] > 0, row["error"]) == (False, True, None)


def test_peft_becomes_a_folder(client: TestClient) -> None:
    job = done(client, "extract", extract_of(client, rank=2, to="peft"))
    files = {one["name"] for one in ok(client.get(f"/api/v1/adapters/{job['outputs'][0]}/files"))}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(("options", "status"), [({}, 400), ({"rank": 4, "energy": 0.5}, 400), ({"rank": 0}, 422)])
def test_ways_to_choose_ranks_are_one(client: TestClient, options: dict[str, Any], status: int) -> None:
    assert client.post("/api/v1/plans/extract?wait=30", json=extract_of(client, **options)).status_code == status


def test_an_extraction_is_cancelled_and_leaves_nothing(client: TestClient) -> None:
    ids = {"tuned": id_of(client, "large-tuned"), "base": id_of(client, "large-base")}
    asked = {"kind": "extract", **ids, "options": {**FAMILY, "energy": 0.99, "max_rank": 1000}}
    application: Any = client.app
    outputs = application.state.server.settings.outputs_folder
    before = sorted(outputs.iterdir())
    job = ok(client.post("/api/v1/jobs", json=asked), 202)["id"]
    while ok(client.get(f"/api/v1/jobs/{job}"))["state"] == "queued":
        time.sleep(0.02)
    client.post(f"/api/v1/jobs/{job}/cancel")
    assert finished(client, job)["state"] == "cancelled"
    assert sorted(outputs.iterdir()) == before


# -- ids that are of another kind, or of other roots ------------------------------------------------------


def requests_with(client: TestClient, checkpoint: str) -> list[Any]:
    """One request per field that holds a checkpoint."""
    whole, inputs = id_of(client, "whole"), [{"adapter": id_of(client, "adapter")}]
    pairs = ({"tuned": checkpoint, "base": whole}, {"tuned": whole, "base": checkpoint})
    extracts = [{**ids, "options": {"rank": 1}} for ids in pairs]
    bake = {"base": checkpoint, "inputs": inputs}
    return [
        client.post(url, json={**more, **body})
        for bodies, kind in (([bake], "bake"), (extracts, "extract"))
        for body in bodies
        for url, more in ((f"/api/v1/plans/{kind}?wait=30", {}), ("/api/v1/jobs", {"kind": kind}))
    ]


def test_only_checkpoints_of_the_roots_are_read(client: TestClient, library: Path) -> None:
    elsewhere = Root("e" * 12, "elsewhere", str(library.parent), "library")
    for checkpoint, status in (
        (id_of(client, "adapter"), 400), ("0" * 20, 404), (item_id(elsewhere, "whole.safetensors"), 404),
        ("models/whole.safetensors", 422), (str(library / "whole.safetensors"), 422), ("", 422),
    ):  # fmt: skip
        for found in requests_with(client, checkpoint):
            assert found.status_code == status, (checkpoint, found.text)


def test_a_checkpoint_is_no_adapter_to_bake(client: TestClient) -> None:
    found = client.post("/api/v1/plans/bake?wait=30", json=bake_of(client, name="tuned"))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "option"), found.text


def test_a_checkpoint_that_was_damaged_meanwhile_fails_its_job_only(client: TestClient, library: Path) -> None:
    victim = library / "victim.safetensors"
    shutil.copy(library / "whole.safetensors", victim)
    scanned(client)
    asked = bake_of(client, "victim")
    data = victim.read_bytes()
    try:
        for content in (data[:-20], data[:4], b"\x80\x04]." + data):
            victim.write_bytes(content)
            job = done(client, "bake", asked)
            assert (job["state"], job["outputs"]) == ("failed", []), job
            assert job["error"]["code"] in ("header", "unsafe-pickle"), job["error"]
    finally:
        victim.unlink()
        scanned(client)


@pytest.mark.parametrize("output", ["../x.safetensors", "a/b.safetensors", ".x.safetensors", "/etc/x.safetensors"])
def test_outputs_have_plain_names(client: TestClient, output: str) -> None:
    for kind, asked in (("bake", bake_of(client)), ("extract", extract_of(client, rank=1))):
        assert client.post("/api/v1/jobs", json={"kind": kind, **asked, "output": output}).status_code == 422
