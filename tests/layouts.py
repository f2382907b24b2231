"""The reference layouts beside the project, where they are: real key and shape lists, and a file generator."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
REASON = "the reference material (../shared) is not beside this checkout"
needs_shared = pytest.mark.skipif(not (SHARED / "layouts").is_dir(), reason=REASON)


def index() -> list[dict[str, Any]]:
    """One entry per layout, with the expected labels; empty where the material is absent."""
    path = SHARED / "layouts" / "index.json"
    return json.loads(path.read_text()) if path.exists() else []


def load(file: str) -> dict[str, Any]:
    path = SHARED / "layouts" / file
    raw = gzip.decompress(path.read_bytes()) if file.endswith(".gz") else path.read_bytes()
    return json.loads(raw)


def generator() -> ModuleType:
    """``make_adapter.py`` as a module."""
    spec = importlib.util.spec_from_file_location("make_adapter", SHARED / "make_adapter.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
