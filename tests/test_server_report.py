"""The page about an adapter as a job: that of ``lora report``, downloaded and never shown by the server itself."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from starlette.testclient import TestClient

pytest.importorskip("matplotlib")

from lora_analysis.reporting.report import report
from serving import finished, id_of, serving

LORA = "sdxl-character-kohya.safetensors"
ODD = "ünï <b>&'\" \u202egnp.safetensors"


@pytest.fixture(scope="module")
def library(demo_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "models"
    folder.mkdir()
    for name, made in ((LORA, LORA), ("sdxl-style-lokr.safetensors", ODD)):
        (folder / made).write_bytes((demo_library / name).read_bytes())
    (folder / "damaged.safetensors").write_bytes((demo_library / LORA).read_bytes()[:5_000])
    return folder


@pytest.fixture(scope="module")
def client(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("state"), library) as client:
        yield client


def reported(client: TestClient, name: str) -> dict[str, object]:
    found = client.post("/api/v1/jobs", json={"kind": "report", "adapter": id_of(client, name)})
    assert found.status_code == 202, found.text
    return finished(client, found.json()["id"])


def test_the_page_is_the_command_s_to_the_byte(client: TestClient, library: Path, tmp_path: Path) -> None:
    job = reported(client, LORA)
    assert (job["state"], job["family"], job["outputs"]) == ("succeeded", "write", []), job
    assert job["progress"]["unit"] == "layers"  # type: ignore[index]
    page = client.get(f"/api/v1/jobs/{job['id']}/result")
    assert page.text == report(library / LORA)
    assert job["summary"] == {"size": len(page.content)}
    (tmp_path / "models").symlink_to(library)
    (tmp_path / "outputs").mkdir()
    words = shlex.split(str(job["command"]))
    subprocess.run([sys.executable, "-m", "lora_analysis", *words[1:]], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "outputs" / "sdxl-character-kohya.report.html").read_bytes() == page.content


def test_the_page_is_an_attachment_whatever_the_adapter_is_called(client: TestClient) -> None:
    job = reported(client, "ünï")
    page = client.get(f"/api/v1/jobs/{job['id']}/result")
    assert page.headers["content-type"] == "application/octet-stream", "no browser shows it as a page of this server"
    assert page.headers["x-content-type-options"] == "nosniff"
    kind, _, name = page.headers["content-disposition"].partition("filename*=utf-8''")
    assert (kind, unquote(name)) == ("attachment; ", ODD.replace(".safetensors", ".report.html"))
    assert "<b>&" not in page.text, "the name is text on the page"


def test_a_damaged_adapter_has_no_report(client: TestClient) -> None:
    job = reported(client, "damaged")
    assert (job["state"], job["error"]["code"]) == ("failed", "header")  # type: ignore[index]
    assert client.get(f"/api/v1/jobs/{job['id']}/result").status_code == 404


def test_only_adapters_of_the_library_have_one(client: TestClient, library: Path) -> None:
    for wanted, status in (("0" * 20, 404), (str(library / LORA), 422), (f"models/{LORA}", 422), ("", 422)):
        assert client.post("/api/v1/jobs", json={"kind": "report", "adapter": wanted}).status_code == status
    extra = {"kind": "report", "adapter": id_of(client, LORA), "output": "x.html"}
    assert client.post("/api/v1/jobs", json=extra).status_code == 422, "it is not written into the outputs"
