"""A killed writer leaves the old file or the new one. The harness is shown to catch a writer that does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOAK = bool(os.environ.get("LORA_SOAK"))  # `make soak`: every writer is killed as often as the promise says
SECONDS = 600  # ends a harness that hangs: how many seconds a hundred kills take is the machine's affair

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
    pytest.mark.timeout(SECONDS),
]


def kill(writer: str, folder: Path, kills: int) -> dict[str, int]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent / "app")}
    command = [sys.executable, str(TESTS / "kills.py"), writer, str(folder), str(kills), "20240229"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS - 20)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("writer", "kills"), [("safetensors", 100), ("torch", 40), ("resize", 80), ("resize folder", 40)]
)
def test_a_kill_at_any_moment_leaves_all_or_nothing_and_at_most_one_hidden_thing(writer, kills, tmp_path):
    kills = 250 if SOAK else kills
    found = kill(writer, tmp_path, kills)
    assert found["torn"] == 0
    assert found["most_debris"] <= 1
    assert found["debris"] >= kills // 20, "hardly any kill fell into a write: the test shows nothing"


@pytest.mark.parametrize("writer", ["naive", "naive resize"])
def test_the_same_harness_catches_a_writer_that_truncates_in_place(writer, tmp_path):
    found = kill(writer, tmp_path, 60)
    assert found["torn"] >= 54, found
