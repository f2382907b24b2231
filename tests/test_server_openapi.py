"""The committed OpenAPI document is that of the routes."""

from __future__ import annotations

import json

import fastapi
import pytest

from lora_analysis.server.openapi import TARGET, document_text


def test_the_committed_document_is_fresh() -> None:
    if not TARGET.parent.is_dir():
        pytest.skip("no src/api here: this is not a checkout")
    committed = json.loads(TARGET.read_text(encoding="utf-8"))
    hint = f"run: python -m lora_analysis.server.openapi (FastAPI {fastapi.__version__})"
    assert committed == json.loads(document_text()), hint


def test_every_operation_is_described_and_has_an_error_reply() -> None:
    for path, methods in json.loads(document_text())["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (path, method)
            assert "4XX" in operation["responses"], (path, method)


def test_operation_ids_are_unique() -> None:
    found = [
        operation["operationId"]
        for methods in json.loads(document_text())["paths"].values()
        for operation in methods.values()
    ]
    assert len(found) == len(set(found))
