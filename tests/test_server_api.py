"""What the server answers, on the demo library, with workers that run: each answer is held to the use case's own."""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import lora_analysis as la
from lora_analysis.server.app import create_app
from serving import BASE, BEARER, finished, id_of, ok, running, scanned, serving, settings_for

LORA, LOHA, PEFT = "sdxl-character-kohya", "sdxl-style-loha", "llama-chat-peft"


@pytest.fixture(scope="module")
def client(demo_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("state"), demo_library) as client:
        yield client


# -- the library ---------------------------------------------------------------------------------------


def test_the_library_lists_every_adapter_the_damaged_one_too(client: TestClient) -> None:
    page = ok(client.get("/api/v1/adapters"))
    names = {item["name"]: item for item in page["items"] if item["folder"] in ("", "trouble")}
    assert len(names) >= 16
    assert names["damaged-download.safetensors"]["error"]["code"] == "header"
    assert names["llama-chat-peft"]["kind"] == "folder"
    row = names[f"{LORA}.safetensors"]
    assert row["base_model"] == "sdxl"
    assert row["rank"] == {"min": 1, "max": 8, "mode": 3} or row["rank"]["max"] == 8
    assert row["error"] is None


def test_a_page_is_what_the_document_says(client: TestClient) -> None:
    from lora_analysis.server.schemas.adapters import AdapterPage

    text = client.get("/api/v1/adapters", params={"limit": 500}).text
    found = AdapterPage.model_validate_json(text, strict=True, extra="forbid")
    assert found.model_dump(mode="json") == json.loads(text)


def search(client: TestClient, **params: Any) -> list[str]:
    return [item["name"] for item in ok(client.get("/api/v1/adapters", params={"limit": 500, **params}))["items"]]


def test_words_are_found_in_names_titles_trainers_and_tags(client: TestClient) -> None:
    assert search(client, q="PEPPER")[0].startswith("sdxl-character"), "a title"
    assert search(client, q="witch hat"), "tags"
    assert search(client, q="ai-toolkit"), "a trainer"
    assert search(client, q="xl")  # shorter than a trigram
    assert set(search(client, q="sdxl loha")) == {"sdxl-style-loha.safetensors"}, "all words"
    for text in ('"', "'", "%", "_", "\\", "*", "AND", "NEAR(", "a OR b", "-x", "^", 'x"y', "(", "::", "{}", "é" * 90):
        search(client, q=text)
    assert search(client, q="%%%") == []


def test_facets_filter_and_count(client: TestClient) -> None:
    whole = ok(client.get("/api/v1/adapters"))
    for name, values in whole["facets"].items():
        if name in ("tags", "problems"):
            continue
        assert sum(value["count"] for value in values) == whole["total"], name
        for value in values:
            found = ok(client.get("/api/v1/adapters", params={name: value["value"] or ""}))
            assert found["total"] == value["count"], (name, value)
            assert found["facets"][name] == values, "its own filter does not narrow a facet"
    for value in whole["facets"]["problems"]:
        assert ok(client.get("/api/v1/adapters", params={"problems": value["value"]}))["total"] == value["count"]
    for value in whole["facets"]["tags"][:3]:
        assert ok(client.get("/api/v1/adapters", params={"tag": value["value"]}))["total"] == value["count"]


def test_tags_any_or_all(client: TestClient) -> None:
    some = set(search(client, tag=["slow_orbit", "witch hat"]))
    every = set(search(client, tag=["slow_orbit", "witch hat"], all_tags=True))
    assert some > every == set()
    assert set(search(client, tag=["hat", "witch hat"], all_tags=True))


def test_ranks_filter_by_range(client: TestClient) -> None:
    every = ok(client.get("/api/v1/adapters", params={"limit": 500}))["items"]
    expected = {i["name"] for i in every if i["rank"] and i["rank"]["max"] >= 5 and i["rank"]["min"] <= 6}
    assert set(search(client, rank_min=5, rank_max=6)) == expected


@pytest.mark.parametrize("sort", ["name", "size", "modified", "rank", "parameters", "layers", "problems", "added"])
def test_pages_are_whole_and_in_order(client: TestClient, sort: str) -> None:
    whole = search(client, sort=sort)
    paged = [name for offset in range(0, 30, 5) for name in search(client, sort=sort, offset=offset, limit=5)]
    assert paged == whole
    assert len(set(whole)) == len(whole)
    if sort == "size":
        sizes = [i["size_bytes"] for i in ok(client.get("/api/v1/adapters?sort=size&descending=true"))["items"]]
        assert sizes == sorted(sizes, reverse=True)


def test_one_adapter_and_none(client: TestClient) -> None:
    adapter = id_of(client, LORA)
    assert ok(client.get(f"/api/v1/adapters/{adapter}"))["id"] == adapter
    for route in ("", "/metadata", "/layers", "/spectra", "/file", "/files", "/size-model"):
        found = client.get(f"/api/v1/adapters/{'0' * 20}{route}")
        assert found.status_code == 404
        assert found.json()["error"]["code"] == "not-found"


def test_roots_name_no_path(client: TestClient, demo_library: Path) -> None:
    found = client.get("/api/v1/roots")
    assert {root["kind"] for root in ok(found)} == {"library", "uploads", "outputs"}
    assert str(demo_library.parent) not in found.text


# -- questions -----------------------------------------------------------------------------------------


def test_metadata_is_the_inspection(client: TestClient, demo_library: Path) -> None:
    found = ok(client.get(f"/api/v1/adapters/{id_of(client, LORA)}/metadata"))
    expected = la.inspect(demo_library / f"{LORA}.safetensors").to_dict()
    found["extraction_time"] = expected["extraction_time"]
    assert found == json.loads(json.dumps(expected))


def test_a_damaged_file_answers_with_its_error(client: TestClient, demo_library: Path) -> None:
    adapter = id_of(client, "damaged-download")
    for route in ("metadata", "layers", "spectra?wait=20", "size-model"):
        found = client.get(f"/api/v1/adapters/{adapter}/{route}")
        assert found.status_code == 422, route
        assert found.json()["error"]["code"] == "header"
        assert str(demo_library) not in found.text


def test_layers_are_those_of_the_file(client: TestClient, demo_library: Path) -> None:
    found = ok(client.get(f"/api/v1/adapters/{id_of(client, LORA)}/layers"))["layers"]
    with la.open(demo_library / f"{LORA}.safetensors") as adapter:
        expected = [(layer.name, layer.rank, layer.scale) for layer in adapter.layers.values()]
    assert [(layer["name"], layer["rank"], layer["scale"]) for layer in found] == expected


def read_spectra(data: bytes) -> tuple[dict[str, Any], list[list[float]]]:
    """The binary form, read as its documentation says and by nothing of the server."""
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    values = array("f", data[8 + length :])
    if sys.byteorder == "big":
        values.byteswap()
    assert len(values) == header["values"]
    return header, [values[one["offset"] : one["offset"] + one["count"]].tolist() for one in header["layers"]]


@pytest.mark.parametrize("name", [LORA, PEFT, "llama-ia3-peft", "sd15-clothing-locon"])
def test_spectra_are_those_of_the_library_rounded_to_float32(client: TestClient, demo_library: Path, name: str) -> None:
    url = f"/api/v1/adapters/{id_of(client, name)}/spectra"
    header, values = read_spectra(client.get(url, params={"wait": 30}).content)
    place = demo_library / name
    expected = la.spectrum(place if place.is_dir() else place.with_name(name + ".safetensors"))
    assert [one["name"] for one in header["layers"]] == [layer.name for layer in expected.layers]
    assert [one["effective_rank"] for one in header["layers"]] == [s.summary.effective_rank for s in expected.layers]
    for found, layer in zip(values, expected.layers, strict=True):
        assert found == array("f", layer.singular_values.tolist()).tolist()
    as_json = ok(client.get(url, params={"wait": 30}, headers={"accept": "application/json"}))
    assert as_json["singular_values"] == values
    assert as_json["skipped"] == header["skipped"]


def test_a_question_is_answered_later_or_at_once(client: TestClient) -> None:
    url = f"/api/v1/adapters/{id_of(client, 'wan-motion')}/spectra"
    job = ok(client.get(url), 202)
    assert job["state"] in ("queued", "running")
    again = client.get(url)  # by now the answer may be there
    assert again.status_code == 200 or ok(again, 202)["id"] == job["id"], "the same question is one job"
    assert finished(client, job["id"])["state"] == "succeeded"
    assert client.get(url).status_code == 200


def test_comparing(client: TestClient, demo_library: Path) -> None:
    ids = [id_of(client, LORA), id_of(client, LOHA)]
    found = ok(client.post("/api/v1/comparisons?wait=30", json={"adapters": ids}))
    expected = la.compare([demo_library / f"{LORA}.safetensors", demo_library / f"{LOHA}.safetensors"]).to_dict()
    assert found["cosines"] == expected["cosines"]
    assert [one["id"] for one in found["adapters"]] == ids
    assert str(demo_library.parent) not in json.dumps(found)


def test_principal_components(client: TestClient, demo_library: Path) -> None:
    pytest.importorskip("sklearn")
    from lora_analysis.pca import analyze_pca

    asked = {"adapter": id_of(client, LORA), "components": 3}
    found = ok(client.post("/api/v1/pca?wait=30", json=asked))
    expected = analyze_pca(demo_library / f"{LORA}.safetensors", 3, include_arrays=False)["pca_results"]
    assert list(found["pca_results"]) == list(expected)
    name = next(iter(expected))
    assert found["pca_results"][name]["explained_variance_ratio"] == expected[name]["explained_variance_ratio"]
    assert found["pca_results"][name]["components"] is None
    layer = name.rpartition(".")[0]
    few = ok(client.post("/api/v1/pca?wait=30", json={**asked, "layers": [layer], "arrays": True}))
    assert len(few["pca_results"][name]["components"]) == few["pca_results"][name]["n_components"]
    assert len(found["map"]["points"]) > 50


def test_a_plan_is_the_use_case_s(client: TestClient, demo_library: Path) -> None:
    asked = {"adapter": id_of(client, LORA), "options": {"energy": 0.9, "max_rank": 3}}
    found = ok(client.post("/api/v1/plans/resize?wait=30", json=asked))
    with la.open(demo_library / f"{LORA}.safetensors") as adapter:
        expected = la.plan_resize(adapter, energy=0.9, max_rank=3).to_dict()
    for name in ("layers", "size_after", "relative_error", "rank_distribution", "notes"):
        assert found[name] == json.loads(json.dumps(expected[name])), name


def test_a_size_model(client: TestClient) -> None:
    found = ok(client.get(f"/api/v1/adapters/{id_of(client, LORA)}/size-model"))
    assert found["layers"]
    assert len(found["metadata_bytes"]) == 8


@pytest.mark.parametrize(
    ("options", "status", "code"),
    [
        ({}, 400, "option"),
        ({"rank": 4, "energy": 0.5}, 400, "option"),
        ({"rank": 0}, 422, "invalid"),
        ({"rank": 4, "unknown": 1}, 422, "invalid"),
        ({"recipe": "no such recipe"}, 400, "option"),
    ],
)
def test_a_request_that_cannot_be_met(client: TestClient, options: dict[str, Any], status: int, code: str) -> None:
    found = client.post("/api/v1/plans/resize?wait=30", json={"adapter": id_of(client, LORA), "options": options})
    assert (found.status_code, found.json()["error"]["code"]) == (status, code)
    assert found.json()["error"]["message"]


def test_merge_methods_are_listed(client: TestClient) -> None:
    from lora_analysis.merging.methods import METHODS

    assert [method["name"] for method in ok(client.get("/api/v1/merge-methods"))] == list(METHODS)


# -- writes --------------------------------------------------------------------------------------------


def test_a_resize_is_the_command_s_to_the_byte(client: TestClient, demo_library: Path, tmp_path: Path) -> None:
    asked = {"kind": "resize", "adapter": id_of(client, LORA), "options": {"rank": 2}, "output": "two.safetensors"}
    job = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])
    assert job["state"] == "succeeded", job
    assert job["progress"]["fraction"] == 1
    [output] = job["outputs"]
    row = ok(client.get(f"/api/v1/adapters/{output}"))
    assert (row["name"], row["rank"]["max"], row["removable"]) == ("two.safetensors", 2, True)
    written = client.get(f"/api/v1/adapters/{output}/file")
    assert written.headers["content-type"] == "application/octet-stream"
    assert written.headers["content-disposition"] == 'attachment; filename="two.safetensors"'
    expected = tmp_path / "expected.safetensors"
    la.resize(demo_library / f"{LORA}.safetensors", expected, rank=2)
    assert written.content == expected.read_bytes()
    report = ok(client.get(f"/api/v1/jobs/{job['id']}/result"))
    assert report["relative_error"] == job["summary"]["relative_error"]
    assert report["size_after"] == len(written.content)
    plan = ok(client.post("/api/v1/plans/resize?wait=30", json={"adapter": asked["adapter"], "options": {"rank": 2}}))
    assert plan["size_after"] == len(written.content)


def run_command(client: Any, line: str, folder: Path) -> None:
    """The equivalent command of a job, where the roots are."""
    words = shlex.split(line)
    assert words[0] == "lora"
    (folder / "outputs").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "lora_analysis", *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (line, done.stderr)


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "resize", "options": {"energy": 0.8, "dtype": "bf16", "rank_for": {"*attn2*": 2}, "max_rank": 3}},
        {"kind": "merge", "options": {"rank": 3, "normalize": False}},
        {"kind": "merge", "options": {"method": "ties", "density": 0.5, "rank": 2}},
        {"kind": "merge", "options": {"size": 1_500_000, "min_rank": 2, "metadata": "full"}},
        {"kind": "merge", "options": {"energy": 0.8, "rank_for": {"*attn2*": 2}, "max_rank": 5}},
        {"kind": "convert", "options": {"to": "comfyui", "dtype": "fp32", "bake_scale": True}},
    ],
    ids=["resize", "merge", "ties", "merge to a size", "merge by rules", "convert"],
)
def test_the_equivalent_command_writes_the_same_bytes(
    client: TestClient, demo_library: Path, tmp_path: Path, request_: dict[str, Any]
) -> None:
    inputs = {"adapter": id_of(client, LORA)}
    if request_["kind"] == "merge":
        inputs = {"inputs": [{"adapter": id_of(client, LORA), "weight": 0.7}, {"adapter": id_of(client, LOHA)}]}  # type: ignore[dict-item]
    job = finished(client, ok(client.post("/api/v1/jobs", json={**request_, **inputs}), 202)["id"])
    assert job["state"] == "succeeded", job
    label = next(r["label"] for r in ok(client.get("/api/v1/roots")) if r["kind"] == "library")
    (tmp_path / label).symlink_to(demo_library)
    run_command(client, job["command"], tmp_path)
    [written] = (tmp_path / "outputs").iterdir()
    assert client.get(f"/api/v1/adapters/{job['outputs'][0]}/file").content == written.read_bytes()


def test_a_folder_becomes_a_folder(client: TestClient) -> None:
    asked = {"kind": "resize", "adapter": id_of(client, PEFT), "options": {"rank": 1}}
    job = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])
    assert job["state"] == "succeeded", job
    [output] = job["outputs"]
    files = {file["name"] for file in ok(client.get(f"/api/v1/adapters/{output}/files"))}
    assert files == {"adapter_config.json", "adapter_model.safetensors"}
    config = client.get(f"/api/v1/adapters/{output}/file", params={"name": "adapter_config.json"})
    assert config.headers["content-type"] == "application/octet-stream"
    assert json.loads(config.content)["r"] == 1
    assert client.get(f"/api/v1/adapters/{output}/file").status_code == 404
    assert client.get(f"/api/v1/adapters/{output}/file", params={"name": "../two.safetensors"}).status_code == 404


def test_an_output_is_never_replaced(client: TestClient) -> None:
    asked = {"kind": "resize", "adapter": id_of(client, LORA), "options": {"rank": 1}, "output": "once.safetensors"}
    assert finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])["state"] == "succeeded"
    again = client.post("/api/v1/jobs", json=asked)
    assert again.status_code == 409
    assert "exists" in again.json()["error"]["message"]
    unnamed = {name: value for name, value in asked.items() if name != "output"}
    names = [ok(client.post("/api/v1/jobs", json=unnamed), 202)["params"]["output"]]
    finished(client, client.get("/api/v1/jobs").json()["items"][0]["id"])
    names.append(ok(client.post("/api/v1/jobs", json=unnamed), 202)["params"]["output"])
    assert names == [f"{LORA}_r1.safetensors", f"{LORA}_r1_2.safetensors"]
    finished(client, client.get("/api/v1/jobs").json()["items"][0]["id"])


def test_a_job_that_cannot_be_done_says_why(client: TestClient) -> None:
    damaged = id_of(client, "damaged-download")
    asked = {"kind": "resize", "adapter": damaged, "options": {"rank": 1}, "output": "never.safetensors"}
    job = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])
    assert (job["state"], job["error"]["code"], job["outputs"]) == ("failed", "header", [])
    again = finished(client, ok(client.post(f"/api/v1/jobs/{job['id']}/retry"), 202)["id"])
    assert (again["state"], again["retry_of"]) == ("failed", job["id"])
    assert client.get(f"/api/v1/jobs/{job['id']}/result").status_code == 404
    assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
    assert client.get(f"/api/v1/jobs/{job['id']}").status_code == 404


def test_an_output_can_be_taken_back_and_the_library_cannot(client: TestClient) -> None:
    asked = {"kind": "resize", "adapter": id_of(client, LORA), "options": {"rank": 1}, "output": "gone.safetensors"}
    [output] = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])["outputs"]
    assert client.delete(f"/api/v1/adapters/{output}").status_code == 204
    assert client.get(f"/api/v1/adapters/{output}").status_code == 404
    asked["output"] = "gone.safetensors"
    assert finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])["state"] == "succeeded"
    assert client.delete(f"/api/v1/adapters/{id_of(client, LORA)}").status_code == 403


def test_of_two_who_remove_one_file_one_is_told_that_it_is_gone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ok(client.post("/api/v1/uploads", params={"name": "twice.safetensors"}, content=b"x"), 201)
    rename = os.rename

    def after_another(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        assert client.delete(f"/api/v1/adapters/{row['id']}").status_code == 204
        rename(source, target)

    monkeypatch.setattr(os, "rename", after_another)
    assert client.delete(f"/api/v1/adapters/{row['id']}").status_code == 404
    assert client.get(f"/api/v1/adapters/{row['id']}").status_code == 404


def test_outputs_on_another_disk_can_be_taken_back(
    tmp_path: Path, demo_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, rename = tmp_path / "outputs", os.rename

    def within_a_disk(source: Any, target: Any) -> None:
        if (outputs in Path(source).parents) != (outputs in Path(target).parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", within_a_disk)
    with running(settings_for(tmp_path / "state", demo_library, outputs=outputs)) as client:
        scanned(client)
        asked = {"kind": "convert", "adapter": id_of(client, PEFT), "options": {"to": "peft"}, "output": "folder"}
        [output] = finished(client, ok(client.post("/api/v1/jobs", json=asked), 202)["id"])["outputs"]
        assert (outputs / "folder").is_dir()
        assert client.delete(f"/api/v1/adapters/{output}").status_code == 204
        assert not (outputs / "folder").exists()
        scanned(client)
        assert client.get(f"/api/v1/adapters/{output}").status_code == 404, "out of sight of scans"
        (outputs / ".lora-removed-by-me").mkdir()
    assert [path.name for path in outputs.iterdir()] == [".lora-removed-by-me"], "deleted, and nothing else"


def test_verifying_reads_the_whole_file(client: TestClient) -> None:
    job = finished(
        client, ok(client.post("/api/v1/jobs", json={"kind": "verify", "adapter": id_of(client, LORA)}), 202)["id"]
    )
    assert job["summary"] == {"is_valid": True, "findings": job["summary"]["findings"]}
    result = ok(client.get(f"/api/v1/jobs/{job['id']}/result"))
    assert len(result["file_info"]["sha256"]) == 64


# -- uploads -------------------------------------------------------------------------------------------


def test_an_upload_becomes_an_adapter(client: TestClient, demo_library: Path) -> None:
    data = (demo_library / f"{LORA}.safetensors").read_bytes()
    row = ok(client.post("/api/v1/uploads", params={"name": "mine ü.safetensors"}, content=data), 201)
    assert (row["name"], row["base_model"], row["removable"]) == ("mine ü.safetensors", "sdxl", True)
    again = ok(client.post("/api/v1/uploads", params={"name": "mine ü.safetensors"}, content=data), 201)
    assert again["name"] == "mine ü (2).safetensors"
    assert client.get(f"/api/v1/adapters/{row['id']}/file").content == data
    broken = ok(client.post("/api/v1/uploads", params={"name": "x.safetensors"}, content=b"no adapter"), 201)
    assert broken["error"]["code"] == "header"
    for one in (row, again, broken):
        assert client.delete(f"/api/v1/adapters/{one['id']}").status_code == 204


# -- events --------------------------------------------------------------------------------------------


def test_the_stream_tells_a_job_s_life(demo_library: Path, tmp_path: Path) -> None:
    from serving import command

    with command(tmp_path / "state", demo_library) as server, server.client() as client:
        scanned(client)
        asked = {"kind": "resize", "adapter": id_of(client, LORA), "options": {"rank": 2}}
        with client.stream("GET", "/api/v1/events") as stream:
            lines = stream.iter_lines()
            assert next(lines) == "event: snapshot"
            snapshot = json.loads(next(lines).removeprefix("data: "))
            assert snapshot["jobs"][0]["kind"] == "scan"
            job = client.post("/api/v1/jobs", json=asked).json()["id"]
            states, ids = [], []
            for line in lines:
                if line.startswith("id: "):
                    ids.append(line.removeprefix("id: "))
                if line.startswith("data: ") and '"job"' in line:
                    data = json.loads(line.removeprefix("data: "))
                    states.append(data["job"]["state"])
                    if data["job"]["id"] == job and states[-1] == "succeeded":
                        break
        # Who queues it may tell of it only when it runs already.
        assert [state for state, _ in groupby(states)] in (
            ["queued", "running", "succeeded"],
            ["running", "succeeded"],
        )
        with client.stream("GET", "/api/v1/events", headers={"last-event-id": ids[1]}) as stream:
            lines = stream.iter_lines()
            missed = [next(lines) for _ in range(3)]
        assert missed[0] == "event: job", "what was missed, not everything again"
        with client.stream("GET", "/api/v1/events", headers={"last-event-id": "unknown-7"}) as stream:
            assert next(stream.iter_lines()) == "event: snapshot"


def test_an_application_is_built_without_being_run(tmp_path: Path, demo_library: Path) -> None:
    app = create_app(settings_for(tmp_path, demo_library))
    client = TestClient(app, base_url=BASE, headers=BEARER)
    assert client.get("/api/v1/adapters").json()["total"] == 0, "nothing was scanned"
    assert not [name for name in os.listdir(tmp_path) if name == "results"]
    app.state.server.stop()


# -- conversions and figures -------------------------------------------------------------------------------


def test_a_conversion_is_planned_and_written(client: TestClient, demo_library: Path) -> None:
    from lora_analysis.converting.api import plan_convert

    asked = {"adapter": id_of(client, "flux-product-diffusers"), "options": {"to": "kohya"}}
    plan = ok(client.post("/api/v1/plans/convert?wait=30", json=asked))
    with la.open(demo_library / "flux-product-diffusers.safetensors") as adapter:
        expected = plan_convert(adapter, "kohya").to_dict()
    assert plan["layers"] == json.loads(json.dumps(expected["layers"]))
    assert plan["command"].startswith("lora convert ")
    job = finished(client, ok(client.post("/api/v1/jobs", json={"kind": "convert", **asked}), 202)["id"])
    assert job["state"] == "succeeded", job
    assert job["summary"]["relative_error"] < 1e-6  # measured on the written file; joined exactly
    row = ok(client.get(f"/api/v1/adapters/{job['outputs'][0]}"))
    assert (row["name"], row["dialect"], row["size_bytes"]) == (plan["output"], "kohya", plan["size_after"])


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures(client: TestClient, kind: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    found = client.get(f"/api/v1/figures/ranks?wait=30&adapter={id_of(client, LORA)}&format={kind}")
    assert found.status_code == 200, found.text
    assert found.content.startswith(magic)
    assert found.headers["content-disposition"] == f'attachment; filename="ranks.{kind}"'
    assert "sandbox" in found.headers["content-security-policy"], "a picture in SVG runs nothing"
    wrong = client.get(f"/api/v1/figures/comparison?wait=30&adapter={id_of(client, LORA)}")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "option")
