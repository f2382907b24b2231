"""The real command over a corpus of broken and hostile files: allowed outcomes only, in bounded time and memory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command import lora, strict_json

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT.parent / "shared" / "make_hostile.py"
CLASSES = (
    "control", "framing", "wrong-type", "pickle", "bomb", "adapter", "injection", "peft", "filesystem", "gguf",
)  # fmt: skip
SECONDS = 5.0
MEBIBYTES = 512  # above an idle start
LOW_MEMORY_MEBIBYTES = 256  # where the manifest marks the case so
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

pytestmark = pytest.mark.skipif(not GENERATOR.exists(), reason=f"there is no corpus generator at {GENERATOR}")


class Ran(NamedTuple):
    code: int
    out: str
    err: str
    seconds: float
    mebibytes: float  # peak resident set


class Corpus(NamedTuple):
    folder: Path
    cases: list[dict[str, Any]]
    idle_mebibytes: float


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("hostile") / "corpus"
    subprocess.run([sys.executable, str(GENERATOR), str(folder)], check=True, capture_output=True, timeout=60)
    cases = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Corpus(folder, cases, run("version").mebibytes)


def run(*arguments: str) -> Ran:
    """``lora`` in a process of its own, killed when it takes far too long."""
    argv = [sys.executable, "-m", "lora_analysis", *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdout=out, stderr=err)
        alarm = threading.Timer(4 * SECONDS, process.kill)
        alarm.start()
        _, status, usage = os.wait4(process.pid, 0)  # usage of this child alone
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8"))  # raises where the output is no UTF-8
    return Ran(process.returncode, texts[0], texts[1], seconds, usage.ru_maxrss / 1024)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_case_ends_in_an_allowed_outcome(corpus: Corpus, kind: str) -> None:
    cases = [case for case in corpus.cases if case["class"] == kind]
    assert cases, f"the corpus has no class {kind}"
    before = digests(corpus.folder)
    problems = [f"{case['file']}: {problem}" for case in cases for problem in problems_of(case, corpus)]
    assert problems == []
    assert digests(corpus.folder) == before, "an input changed"
    assert not list(corpus.folder.glob("PWNED*")), "code from a file was run"


def test_every_class_of_the_corpus_is_tested(corpus: Corpus) -> None:
    assert {case["class"] for case in corpus.cases} == set(CLASSES)


def problems_of(case: dict[str, Any], corpus: Corpus) -> list[str]:
    """What is wrong with the way one case ends; empty where all is well."""
    path = str(corpus.folder / case["file"])
    ran = run("inspect", path, "--scan")
    limit = LOW_MEMORY_MEBIBYTES if "low_memory" in case["must"] else MEBIBYTES
    problems = []
    if ran.seconds > SECONDS:
        problems.append(f"took {ran.seconds:.1f} s")
    if ran.mebibytes > corpus.idle_mebibytes + limit:
        problems.append(f"used {ran.mebibytes:.0f} MiB")
    if ran.code < 0 or "Traceback" in ran.err:
        problems.append(f"crashed with {ran.code}: {ran.err[-300:]}")
        return problems
    if CONTROL.search(ran.out + ran.err):
        problems.append("control characters in the output")
    return problems + problems_of_outcome(case, path, ran)


def problems_of_outcome(case: dict[str, Any], path: str, ran: Ran) -> list[str]:
    """Exit code, message and JSON against what the manifest allows."""
    again = lora("inspect", path, "--scan", "--json")  # in this process: the first run showed that it ends well
    problems = []
    if again.code != ran.code:
        problems.append(f"exit code {ran.code} for reading, {again.code} as JSON")
    document = strict_json(again.out) if again.out else {}
    findings = document.get("validation_info", {}).get("findings", [])
    warned = any(finding["severity"] != "info" for finding in findings)
    outcome = "error" if ran.code else "warning" if warned else "ok"
    if outcome not in {case["expect"], *case["also_ok"]}:
        problems.append(f"ended as {outcome}, expected {case['expect']}: {ran.err or findings}")
    if outcome == "error":
        name = os.path.basename(path)
        messages = [line.removeprefix("error: ") for line in ran.err.splitlines()]
        if not messages or name not in messages[0]:
            problems.append(f"the message does not name the file: {ran.err!r}")
        if any(len(message) > 300 for message in messages):
            problems.append(f"a message is longer than 300 characters: {ran.err!r}")
    return problems


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every regular file."""
    files = [path for path in folder.rglob("*") if not path.is_symlink() and path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_search_over_the_whole_corpus_ends_and_reports_every_file(corpus: Corpus) -> None:
    ran = run("inspect", str(corpus.folder), "--jsonl")
    assert ran.code == 4
    documents = [strict_json(line) for line in ran.out.splitlines()]
    found = {Path(document["path"]).relative_to(corpus.folder).as_posix() for document in documents}
    regular = {case["file"] for case in corpus.cases if case["class"] != "filesystem"}
    assert regular <= found
    assert "fifo.safetensors: not a regular file; skipped" in ran.err
    assert not CONTROL.search(ran.out + ran.err)
    assert not list(corpus.folder.glob("PWNED*"))
