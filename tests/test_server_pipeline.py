"""A diffusers pipeline in a root of the server: its folder is one base, and its components are checkpoints too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import adapters
import lora_analysis as la
from adapters import save
from serving import finished, id_of, ok, scanned, serving
from test_merge_dora import BASE, dora
from test_pipeline_base import WEIGHTS, pipeline
from test_server_checkpoints import RECIPE, run_command, written

UNET = {"unet": {key.removeprefix("unet."): array for key, array in BASE.items()}}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    save(folder / "dora.safetensors", dora("out"))
    save(folder / "plain.safetensors", adapters.lora(7) | adapters.conv_lora(3))
    pipeline(folder / "whole", UNET | {"text_encoder": WEIGHTS["text_encoder"]})
    pipeline(folder / "two", {"transformer": UNET["unet"], "transformer_2": UNET["unet"]})
    return folder


@pytest.fixture
def client(library: Path, tmp_path: Path) -> Iterator[TestClient]:
    with serving(tmp_path / "state", library) as client:
        yield client


def checkpoints(client: TestClient) -> dict[str, dict[str, Any]]:
    return by_path(ok(client.get("/api/v1/checkpoints")))


def by_path(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{row['folder']}/{row['name']}".removeprefix("/"): row for row in rows}


def test_a_pipeline_is_listed_with_its_components(client: TestClient) -> None:
    found = checkpoints(client)
    whole = found["whole"]
    assert (whole["kind"], whole["checkpoint"], whole["error"]) == ("folder", True, None)
    text = WEIGHTS["text_encoder"].values()
    assert whole["parameters"] == sum(array.size for array in [*BASE.values(), *text]), "no variant, no VAE"
    assert {"whole/unet/diffusion_pytorch_model.safetensors", "whole/text_encoder/model.safetensors"} <= set(found)
    assert "two" not in found, "its transformers have weights of the same names"
    assert "two/transformer_2/diffusion_pytorch_model.safetensors" in found


def test_a_merge_beside_a_pipeline_is_the_command_s_to_the_byte(
    client: TestClient, library: Path, tmp_path: Path
) -> None:
    inputs = [{"adapter": id_of(client, "dora")}, {"adapter": id_of(client, "plain")}]
    asked = {"inputs": inputs, "base": checkpoints(client)["whole"]["id"]}
    job = finished(client, ok(client.post("/api/v1/jobs", json={"kind": "merge", **asked}), 202)["id"])
    expected = tmp_path / "expected.safetensors"
    la.merge([library / "dora.safetensors", library / "plain.safetensors"], None, expected, base=library / "whole")
    assert written(client, job) == expected.read_bytes()
    assert "--base models/whole" in job["command"]


def test_norms_of_a_pipeline_are_kept_by_the_server(client: TestClient, library: Path, tmp_path: Path) -> None:
    before = sorted(library.rglob("*"))
    asked = {"adapter": id_of(client, "plain"), "options": RECIPE, "base": checkpoints(client)["whole"]["id"]}
    job = finished(client, ok(client.post("/api/v1/jobs", json={"kind": "resize", **asked}), 202)["id"])
    data = written(client, job)
    assert sorted(library.rglob("*")) == before
    own = tmp_path / "own"
    shutil.copytree(library, own)
    (tmp_path / "beside").mkdir()
    assert data == run_command(job["command"], own, tmp_path / "beside")


def test_a_component_that_changes_changes_its_pipeline(client: TestClient, library: Path) -> None:
    before = checkpoints(client)["whole"]
    (library / "whole" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    save(
        library / "whole" / "unet" / "diffusion_pytorch_model.safetensors", {"conv_in.weight": adapters.normal(1, 8, 8)}
    )
    scanned(client)
    after = checkpoints(client)["whole"]
    assert (after["id"], after["parameters"]) == (before["id"], 64 + 768 * 768)


def test_a_pipeline_is_no_base_to_bake_into(client: TestClient) -> None:
    asked = {"base": checkpoints(client)["whole"]["id"], "inputs": [{"adapter": id_of(client, "plain")}]}
    found = client.post("/api/v1/plans/bake?wait=30", json=asked)
    assert (found.status_code, found.json()["error"]["code"]) == (400, "option"), found.text
    assert "one component" in found.json()["error"]["message"]


def test_a_damaged_index_is_a_row_with_its_error(client: TestClient, library: Path) -> None:
    (library / "whole" / "model_index.json").write_text("{")
    scanned(client)
    rows = by_path(ok(client.get("/api/v1/adapters?limit=100"))["items"])
    assert (rows["whole"]["checkpoint"], rows["whole"]["error"]["code"]) == (False, "config")


def test_a_component_elsewhere_is_not_followed(library: Path, tmp_path: Path) -> None:
    (library / "whole" / "unet").rename(tmp_path / "outside")
    (library / "whole" / "unet").symlink_to(tmp_path / "outside")
    with serving(tmp_path / "state", library) as client:
        assert "whole" not in checkpoints(client)
        rows = by_path(ok(client.get("/api/v1/adapters?limit=100"))["items"])
    assert rows["whole"]["error"]["code"] == "file-access"
    here = [*library.glob("whole/*.json"), *library.glob("whole/text_encoder/*")]
    assert rows["whole"]["size_bytes"] == sum(path.stat().st_size for path in here)


def test_a_component_that_cannot_be_listed_stops_no_scan(library: Path, tmp_path: Path) -> None:
    unet = library / "whole" / "unet"
    unet.chmod(0)
    try:
        if os.access(unet, os.R_OK):
            pytest.skip("this user may list every folder")
        with serving(tmp_path / "state", library) as client:
            rows = by_path(ok(client.get("/api/v1/adapters?limit=100"))["items"])
    finally:
        unet.chmod(0o755)
    assert rows["whole"]["error"] is not None
    assert rows["plain.safetensors"]["error"] is None
