"""Base checkpoints over HTTP: found in the roots, named by id, read where an adapter needs its base."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import adapters
import lora_analysis as la
from adapters import save
from lora_analysis.server.catalog import store
from lora_analysis.server.catalog.store import Catalog, item_id
from lora_analysis.server.database import Database
from lora_analysis.server.roots import Root
from lora_analysis.server.schemas.jobs import BaseSpectrum
from serving import BEARER, finished, id_of, ok, scanned, serving
from test_merge_dora import BASE, dora

RECIPE = {"recipe": "spn_ckpt=0.5,fro_lora=0.5,thr=0.1"}


def in_shards(folder: Path, weights: dict[str, Any]) -> None:
    """One tensor per file, named as the tools that split checkpoints name them."""
    folder.mkdir()
    files = {key: f"model-{at:05}-of-{len(weights):05}.safetensors" for at, key in enumerate(weights, start=1)}
    for key, file in files.items():
        save(folder / file, {key: weights[key]})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "models"
    folder.mkdir()
    save(folder / "dora.safetensors", dora("out"))
    save(folder / "plain.safetensors", adapters.lora(7) | adapters.conv_lora(3))
    base = save(folder / "base.safetensors", BASE)
    in_shards(folder / "sharded", BASE)
    (folder / "damaged.safetensors").write_bytes(base.read_bytes()[:-40])
    shutil.copy(base, folder.parent / "outside.safetensors")
    (folder / "link.safetensors").symlink_to(folder.parent / "outside.safetensors")
    return folder


@pytest.fixture(scope="module")
def client(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("state"), library) as client:
        yield client


def written(client: TestClient, job: dict[str, Any]) -> bytes:
    assert job["state"] == "succeeded", job["error"]
    return bytes(client.get(f"/api/v1/adapters/{job['outputs'][0]}/file").content)


def run_command(line: str, library: Path, folder: Path) -> bytes:
    """What the equivalent command writes, in the folder above the roots."""
    (folder / "models").symlink_to(library)
    (folder / "outputs").mkdir()
    words = shlex.split(line)
    done = subprocess.run(
        [sys.executable, "-m", "lora_analysis", *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (line, done.stderr)
    [made] = (folder / "outputs").iterdir()
    return made.read_bytes()


# -- which there are -----------------------------------------------------------------------------------


def test_checkpoints_are_files_without_adapter_layers_and_folders_of_shards(client: TestClient) -> None:
    found = {row["name"]: row for row in ok(client.get("/api/v1/checkpoints"))}
    assert set(found) == {"base.safetensors", "sharded"}
    assert (found["base.safetensors"]["kind"], found["sharded"]["kind"]) == ("file", "folder")
    assert all(row["checkpoint"] and row["error"] is None for row in found.values())
    assert (
        found["sharded"]["parameters"] == found["base.safetensors"]["parameters"] == sum(a.size for a in BASE.values())
    )
    items = {row["name"]: row for row in ok(client.get("/api/v1/adapters"))["items"]}
    assert set(items) == {*found, "dora.safetensors", "plain.safetensors", "damaged.safetensors"}, "no shard by itself"
    assert [name for name, row in items.items() if row["checkpoint"]] == ["base.safetensors", "sharded"]


def test_a_catalog_of_before_learns_of_checkpoints(library: Path, tmp_path: Path) -> None:
    root = Root("r" * 12, "models", str(library), "library")
    old = Database(tmp_path / store.FILE_NAME, store._SCHEMA[:2])
    with old.write() as connection:
        connection.execute(
            "INSERT INTO items (id, root, path, name, folder, kind, size_bytes, mtime_ns, stamp, added, seen, dora,"
            " errors, warnings, top_tags) VALUES ('x', ?, ?, 'n', '', 'file', 1, 1, 'known', 0, 1, 0, 0, 0, '[]')",
            (root.id, b"base.safetensors"),
        )
    old.close()
    catalog = Catalog(tmp_path)
    found = catalog.location("x")
    assert found is not None
    assert (found.stamp, found.is_checkpoint) == ("", False), "the next scan reads it again"
    catalog.database.close()


# -- merges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["base.safetensors", "sharded"])
def test_a_merge_beside_a_base_is_the_command_s_to_the_byte(
    client: TestClient, library: Path, tmp_path: Path, base: str
) -> None:
    inputs = [{"adapter": id_of(client, "dora"), "weight": 0.7}, {"adapter": id_of(client, "plain"), "weight": 0.4}]
    asked = {"inputs": inputs, "options": {"normalize": False}, "base": id_of(client, base)}
    plan = ok(client.post("/api/v1/plans/merge?wait=30", json=asked))
    assert f"--base models/{base}" in plan["command"]
    job = finished(client, ok(client.post("/api/v1/jobs", json={"kind": "merge", **asked}), 202)["id"])
    data = written(client, job)
    assert job["checkpoints"] == [asked["base"]]
    assert plan["size_after"] == len(data)
    expected = tmp_path / "expected.safetensors"
    paths = [library / "dora.safetensors", library / "plain.safetensors"]
    la.merge(paths, [0.7, 0.4], expected, base=library / base, normalize=False)
    assert data == expected.read_bytes()
    assert data == run_command(job["command"], library, tmp_path)


def test_without_its_base_a_dora_is_refused(client: TestClient) -> None:
    asked = {"inputs": [{"adapter": id_of(client, "dora")}, {"adapter": id_of(client, "plain")}]}
    found = client.post("/api/v1/plans/merge?wait=30", json=asked)
    assert (found.status_code, found.json()["error"]["code"]) == (422, "opaque"), found.text
    assert "base" in found.json()["error"]["message"]


# -- spectra -------------------------------------------------------------------------------------------


def test_figures_beside_the_base_are_the_library_s(client: TestClient, library: Path) -> None:
    url = f"/api/v1/adapters/{id_of(client, 'plain')}/base-spectrum"
    found = ok(client.get(url, params={"base": id_of(client, "base"), "wait": 30}))
    expected = la.spectrum(library / "plain.safetensors", base=library / "base.safetensors")
    BaseSpectrum.model_validate(found, extra="forbid")
    figures = [layer.base.to_dict() for layer in expected.layers if layer.base is not None]
    assert len(found["layers"]) == len(figures) == 2
    for one, wanted in zip(found["layers"], figures, strict=True):
        assert {name: one[name] for name in wanted} == json.loads(json.dumps(wanted))
    assert found["command"] == "lora spectrum models/plain.safetensors --base models/base.safetensors"


# -- resizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["base.safetensors", "sharded"])
def test_a_recipe_beside_a_base_writes_nothing_into_the_library(
    client: TestClient, library: Path, tmp_path: Path, base: str
) -> None:
    before = sorted(library.rglob("*"))
    asked = {"adapter": id_of(client, "plain"), "options": RECIPE, "base": id_of(client, base)}
    plan = ok(client.post("/api/v1/plans/resize?wait=30", json=asked))
    job = finished(client, ok(client.post("/api/v1/jobs", json={"kind": "resize", **asked}), 202)["id"])
    data = written(client, job)
    assert plan["size_after"] == len(data)
    assert sorted(library.rglob("*")) == before
    application: Any = client.app
    kept = list(application.state.server.settings.names_folder.glob(f".bases/{asked['base']}/**/*.norms.json"))
    assert len(kept) == 1, "the norms are kept by the server"
    own = tmp_path / "own"
    shutil.copytree(library, own, symlinks=True)  # the command keeps norms beside the checkpoint
    assert data == run_command(job["command"], own, tmp_path)


def test_a_recipe_that_needs_a_base_says_so(client: TestClient) -> None:
    asked = {"adapter": id_of(client, "plain"), "options": RECIPE}
    found = client.post("/api/v1/plans/resize?wait=30", json=asked)
    assert (found.status_code, found.json()["error"]["code"]) == (400, "option")


# -- what is no checkpoint, or not of these roots --------------------------------------------------------


def requests_beside(client: TestClient, base: str) -> list[Any]:
    """One request of every kind that takes a base."""
    plain, inputs = id_of(client, "plain"), [{"adapter": id_of(client, "dora")}]
    return [
        client.post("/api/v1/plans/merge?wait=30", json={"inputs": inputs, "base": base}),
        client.post("/api/v1/jobs", json={"kind": "merge", "inputs": inputs, "base": base}),
        client.post("/api/v1/plans/resize?wait=30", json={"adapter": plain, "options": RECIPE, "base": base}),
        client.post("/api/v1/jobs", json={"kind": "resize", "adapter": plain, "options": RECIPE, "base": base}),
        client.get(f"/api/v1/adapters/{plain}/base-spectrum", params={"base": base, "wait": 30}),
    ]


@pytest.mark.parametrize("name", ["plain", "damaged"])
def test_what_is_no_checkpoint_is_no_base(client: TestClient, name: str) -> None:
    for found in requests_beside(client, id_of(client, name)):
        assert (found.status_code, found.json()["error"]["code"]) == (400, "option"), found.text


def test_ids_of_other_roots_and_paths_are_no_base(client: TestClient, library: Path) -> None:
    elsewhere = Root("e" * 12, "elsewhere", str(library.parent), "library")
    for found in requests_beside(client, item_id(elsewhere, "outside.safetensors")):
        assert found.status_code == 404, found.text
    for name in ("models/base.safetensors", str(library / "base.safetensors"), "../outside.safetensors", "", "A" * 20):
        for found in requests_beside(client, name):
            assert found.status_code == 422, found.text
            assert str(library.parent) not in found.text.replace(name, "") or not name


def test_a_checkpoint_that_changes_after_the_scan_fails_its_jobs_only(client: TestClient, library: Path) -> None:
    turncoat = library / "turncoat.safetensors"
    save(turncoat, BASE)
    scanned(client)
    base = id_of(client, "turncoat")
    asked = {"kind": "merge", "inputs": [{"adapter": id_of(client, "dora")}], "base": base}
    try:
        data = turncoat.read_bytes()
        for content, code in ((data[:-40], "header"), (b"PK\x03\x04" + data, "unsafe-pickle"), (b"", "header")):
            turncoat.write_bytes(content)
            job = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])
            assert (job["state"], job["error"]["code"]) == ("failed", code), job
        turncoat.unlink()
        turncoat.symlink_to(library.parent / "outside.safetensors")
        for kind in (asked, {"kind": "resize", "adapter": id_of(client, "plain"), "options": RECIPE, "base": base}):
            job = finished(client, ok(client.post("/api/v1/jobs", json=kind), 202)["id"])
            assert (job["state"], job["error"]["code"]) == ("failed", "file-access"), job
            assert str(library.parent) not in json.dumps(job)
    finally:
        turncoat.unlink()
        scanned(client)
    assert client.post("/api/v1/jobs", json=asked).status_code == 404, "gone"


def test_a_folder_of_shards_that_leads_out_is_not_followed(client: TestClient, library: Path) -> None:
    folder = library / "leading-out"
    shutil.copytree(library / "sharded", folder)
    scanned(client)
    base = id_of(client, "leading-out")
    shard = sorted(folder.glob("*-of-*.safetensors"))[0]
    outside = library.parent / "shard.safetensors"
    shard.rename(outside)
    shard.symlink_to(outside)
    try:
        asked = {"kind": "merge", "inputs": [{"adapter": id_of(client, "dora")}], "base": base}
        job = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])
        assert (job["state"], job["error"]["code"]) == ("failed", "file-access"), job
    finally:
        shutil.rmtree(folder)
        scanned(client)


def test_a_header_that_promises_too_much_is_a_damaged_row(client: TestClient, library: Path) -> None:
    """A sparse file of 12 GB whose header is 90 MB of promise: looked at in no time, and no checkpoint."""
    huge = library / "huge.safetensors"
    with open(huge, "wb") as file:
        file.write((90_000_000).to_bytes(8, "little") + b"{")
        file.truncate(12_000_000_000)
    try:
        scanned(client)
        row = client.get(f"/api/v1/adapters/{id_of(client, 'huge')}", headers=BEARER).json()
        assert (row["checkpoint"], row["error"]["code"]) == (False, "header")
    finally:
        huge.unlink()
        scanned(client)
