"""No request that the OpenAPI document allows, or forbids, ends in a 5xx."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from starlette.testclient import TestClient

from lora_analysis.server.openapi import document_text
from serving import id_of, serving

schemathesis = pytest.importorskip("schemathesis")
EXAMPLES = int(os.environ.get("LORA_FUZZ_EXAMPLES", "30"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, demo_library: Path) -> Path:
    folder = tmp_path_factory.mktemp("place") / "models"
    folder.mkdir()
    for name in ("sdxl-style-lokr.safetensors", "sd15-style-kohya.safetensors"):
        (folder / name).write_bytes((demo_library / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def client(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(tmp_path_factory.mktemp("state"), library) as client:
        yield client


# -- every operation -----------------------------------------------------------------------------------


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(path, method) for path, methods in document["paths"].items() for method in methods if "events" not in path]


DOCUMENT: dict[str, Any] = json.loads(document_text())
SENT: Counter[int] = Counter()  # by status, for the test of this test


@pytest.mark.parametrize(("path", "method"), operations(DOCUMENT), ids=lambda value: str(value))
def test_no_request_ends_in_a_server_error(client: TestClient, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    operation = schema[path][method]
    real = [id_of(client, "sdxl-style-lokr"), id_of(client, "sd15-style-kohya")]
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    for mode in modes:

        @settings(
            max_examples=EXAMPLES // 2, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode), chosen=st.integers(0, 2))
        def check(case: Any, chosen: int) -> None:
            _point_at(case, real[chosen % 2] if chosen < 2 else None)
            found = _send(client, case)
            SENT[found.status_code] += 1
            assert found.status_code < 500 or found.status_code == 501, (found.status_code, found.text, case)
            if found.status_code >= 400:
                assert set(found.json()["error"]) == {"type", "code", "message", "fields", "install"}

        try:
            check()
        except Unsatisfiable:
            assert mode != schemathesis.GenerationMode.POSITIVE, "a valid request can be made of everything"


def test_the_requests_were_many_and_of_both_kinds() -> None:
    """Runs after the others of this module."""
    if sum(SENT.values()) < 100:
        pytest.skip("most operations are tried by another process")
    assert any(status < 300 for status in SENT)
    assert SENT[422]


def _point_at(case: Any, adapter: str | None) -> None:
    """Let part of the requests mean something that exists."""
    if adapter is None:
        return
    if isinstance(case.path_parameters, dict) and "id" in case.path_parameters and "jobs" not in case.path:
        case.path_parameters["id"] = adapter
    body = case.body
    if isinstance(body, dict):
        if "adapter" in body:
            body["adapter"] = adapter
        for one in body["inputs"] if isinstance(body.get("inputs"), list) else ():
            if isinstance(one, dict):
                one["adapter"] = adapter


def _send(client: TestClient, case: Any) -> Any:
    query = {k: v for k, v in case.query.items() if k != "wait"} if isinstance(case.query, dict) else {}
    headers = {k: v for k, v in dict(case.headers or {}).items() if k.lower() not in ("authorization", "host")}
    arguments: dict[str, Any] = {"params": query, "headers": {k: str(v) for k, v in headers.items() if _sendable(k, v)}}
    if case.body is not schemathesis.core.NOT_SET:
        if isinstance(case.body, bytes):
            arguments["content"] = case.body
        else:
            arguments["content"] = json.dumps(case.body, default=str).encode("utf-8", "surrogatepass")
            arguments["headers"]["content-type"] = "application/json"
    return client.request(case.method, case.formatted_path, **arguments)


def _sendable(name: str, value: Any) -> bool:
    return str(name).isascii() and str(value).isascii() and str(value).isprintable()
