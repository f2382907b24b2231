"""The documentation is true: examples run, links lead somewhere, every command has its entry."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
# Examples that show a failure on purpose: part of the command line -> exit code.
EXPECTED_CODES = {"lora check demo-library/trouble": 3, "lora inspect demo-library\n": 4, "damaged-download": 1}


class Example(NamedTuple):
    page: str
    language: str
    text: str


EXAMPLES = [
    Example(page.relative_to(ROOT).as_posix(), language, text)
    for page in PAGES
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
]


@pytest.fixture
def workplace(demo_library: Path, tmp_path: Path) -> Path:
    (tmp_path / "demo-library").symlink_to(demo_library, target_is_directory=True)
    return tmp_path


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{e.page}-{i}" for i, e in enumerate(EXAMPLES)])
def test_the_example_runs(example: Example, workplace: Path) -> None:
    if example.language == "python":
        run([sys.executable, "-W", "error", "-c", example.text], workplace)
        return
    for line in example.text.splitlines():
        if line.startswith("$ "):
            command = line.removeprefix("$ ")
            code = next((code for part, code in EXPECTED_CODES.items() if part in command + "\n"), 0)
            arguments = shlex.split(command)
            assert arguments[0] == "lora", "an example of the command starts with it"
            expanded = [found for argument in arguments[1:] for found in expand(argument, workplace)]
            run([sys.executable, "-m", "lora_analysis", *expanded], workplace, code)


def expand(argument: str, folder: Path) -> list[str]:
    """What a shell does to an unquoted pattern."""
    found = sorted(str(path.relative_to(folder)) for path in folder.glob(argument)) if "*" in argument else []
    return found or [argument]


def run(command: list[str], folder: Path, code: int = 0) -> None:
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda script: script.name)
def test_the_script_runs_on_the_demo_library(script: Path, workplace: Path) -> None:
    run([sys.executable, "-W", "error", str(script)], workplace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_documentation_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_there_are_examples_to_run() -> None:
    assert {example.language for example in EXAMPLES} == {"console", "python"}
    assert {example.page for example in EXAMPLES} >= {"README.md", "docs/cli.md"}
