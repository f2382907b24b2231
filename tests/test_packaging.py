"""The rules by which a package is built with the web UI, or without it."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("hatchling", reason="hatchling builds packages; it is not needed to run")


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NPM = """#!/bin/sh
echo "$@" >> {log}
if [ "$1" = run ]; then
  mkdir -p dist/assets
  echo "<html>" > dist/index.html
  echo x > dist/assets/a.js
  echo m > dist/assets/a.js.map
fi
exit {code}
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources of a UI, and no npm."""
    folder = tmp_path / "checkout"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.tsx").write_text("one")
    (folder / "package.json").write_text(json.dumps({"name": "x"}))
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + "/nowhere")
    monkeypatch.delenv("LORA_NO_NPM", raising=False)
    monkeypatch.delenv("LORA_REQUIRE_UI", raising=False)
    return folder


def install_npm(checkout: Path, code: int = 0) -> Path:
    log, program = checkout.parent / "npm.log", checkout.parent / "bin" / "npm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(NPM.format(log=log, code=code).replace("mkdir", "/bin/mkdir"))
    program.chmod(0o755)
    return log


def build(hook: ModuleType, checkout: Path, target: str, version: str = "standard") -> tuple[dict[str, str], list[str]]:
    """What the hook adds, and what it warns of."""
    warnings: list[str] = []

    class App:
        def display_warning(self, text: str) -> None:
            warnings.append(text)

    made = object.__new__(hook.CustomBuildHook)
    made.__dict__.update({f"_BuildHookInterface__{name}": value for name, value in
                          {"root": str(checkout), "target_name": target, "app": App()}.items()})  # fmt: skip
    data: dict[str, Any] = {"force_include": {}}
    made.initialize(version, data)
    found = {Path(source).relative_to(checkout).as_posix(): place for source, place in data["force_include"].items()}
    return found, warnings


def test_npm_builds_what_is_not_there_and_only_then(hook: ModuleType, checkout: Path) -> None:
    log = install_npm(checkout)
    files, warnings = build(hook, checkout, "wheel")
    assert files == {
        "dist/assets/a.js": "lora_analysis/_web/assets/a.js",
        "dist/index.html": "lora_analysis/_web/index.html",
    }
    assert warnings == []
    assert log.read_text().splitlines() == ["ci --no-audit --no-fund", "run build"]
    build(hook, checkout, "wheel")
    assert len(log.read_text().splitlines()) == 2, "built once"
    (checkout / "src" / "main.tsx").write_text("two")
    build(hook, checkout, "wheel")
    assert len(log.read_text().splitlines()) == 4, "the sources have changed"
    (checkout / "src" / "main.test.tsx").write_text("a test")
    build(hook, checkout, "wheel")
    assert len(log.read_text().splitlines()) == 4


def test_an_sdist_carries_the_build_so_that_its_wheel_needs_no_npm(hook: ModuleType, checkout: Path) -> None:
    install_npm(checkout)
    files, _ = build(hook, checkout, "sdist")
    assert files["dist/.stamp"] == "dist/.stamp"
    (checkout.parent / "bin" / "npm").unlink()
    files, warnings = build(hook, checkout, "wheel")
    assert "dist/index.html" in files
    assert warnings == []


@pytest.mark.parametrize("case", ["missing", "failing", "forbidden", "no-sources"])
def test_without_the_ui_it_warns_or_fails_where_that_is_asked(
    hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case == "failing":
        install_npm(checkout, code=1)
    if case == "forbidden":
        install_npm(checkout)
        monkeypatch.setenv("LORA_NO_NPM", "1")
    if case == "no-sources":
        (checkout / "package.json").unlink()
    files, warnings = build(hook, checkout, "wheel")
    assert files == {}
    assert len(warnings) == 1
    monkeypatch.setenv("LORA_REQUIRE_UI", "1")
    with pytest.raises(RuntimeError, match="web UI is required"):
        build(hook, checkout, "wheel")


def test_an_editable_install_builds_nothing(hook: ModuleType, checkout: Path) -> None:
    log = install_npm(checkout)
    assert build(hook, checkout, "wheel", "editable") == ({}, [])
    assert not log.exists()
