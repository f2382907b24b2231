"""Every file of the reference corpus ends in an allowed outcome: no crash, no hang, no code run."""

from __future__ import annotations

import os
import statistics
import struct
import unicodedata
from pathlib import Path

import pytest

from hostile import MEGABYTES, SECONDS, Case, Outcome, corpus, markers, outcomes, safetensors_bytes

# What the container alone cannot see: the file is fine, what its tensors mean is not.
_MEANING = {"odd_nan_inf", "odd_rank_mismatch", "odd_missing_up", "odd_rank_zero", "odd_rank_over_dims"}
_MEANING |= {"odd_no_lora", "odd_header_only"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Case, Outcome]]]:
    folder = tmp_path_factory.mktemp("corpus")
    cases = [case for case in corpus(folder) if case.kind == "filesystem" or not case.path.is_dir()]
    return folder, list(zip(cases, outcomes(case.path for case in cases), strict=True))


def test_every_case_ends_in_an_allowed_outcome(ran: tuple[Path, list[tuple[Case, Outcome]]]) -> None:
    wrong = []
    for case, outcome in ran[1]:
        allowed = case.allowed | ({"ok"} if case.path.stem in _MEANING else set())
        if outcome.status not in allowed:
            wrong.append(f"{case.path.name} ({case.why}): {outcome.status} {outcome.error} {outcome.message}")
    assert not wrong, "\n".join(wrong)


def test_the_corpus_is_not_refused_as_a_whole(ran: tuple[Path, list[tuple[Case, Outcome]]]) -> None:
    accepted = [case for case, outcome in ran[1] if outcome.status != "error"]
    assert len(accepted) >= 15


def test_nothing_in_the_corpus_was_run_imported_or_written(ran: tuple[Path, list[tuple[Case, Outcome]]]) -> None:
    folder, results = ran
    assert markers(folder) == []
    assert {outcome.path: outcome.events for _, outcome in results if outcome.events} == {}


def test_every_case_stays_within_its_time_and_memory(ran: tuple[Path, list[tuple[Case, Outcome]]]) -> None:
    results = [outcome for _, outcome in ran[1]]
    assert max(outcome.seconds for outcome in results) < SECONDS
    assert max(outcome.megabytes for outcome in results) < MEGABYTES
    assert statistics.median(outcome.seconds for outcome in results) < 1


def test_every_refusal_names_the_file_on_one_short_printable_line(
    ran: tuple[Path, list[tuple[Case, Outcome]]],
) -> None:
    for case, outcome in ran[1]:
        if outcome.status == "error":
            assert case.path.name in outcome.message
            assert len(outcome.message) <= 300
            assert not [letter for letter in outcome.message if unicodedata.category(letter) in ("Cc", "Cf", "Cs")]


def test_the_runner_reports_what_a_naive_reader_does(tmp_path: Path) -> None:
    """The harness has to see what it is there for."""
    marker = tmp_path / "PWNED"
    evil = tmp_path / "evil.pt"
    evil.write_bytes(b"cbuiltins\nopen\n(" + _text(os.fspath(marker)) + _text("w") + b"tR.")
    slow = tmp_path / "slow"
    slow.write_bytes(b"")
    assert f"write {marker}" in outcomes([evil], "test_hostile_files:naive")[0].events
    assert markers(tmp_path) == [marker]
    assert outcomes([tmp_path / "missing"], "test_hostile_files:naive")[0].status == "crash"
    assert outcomes([slow], "test_hostile_files:hungry")[0].megabytes > 90


def naive(path: str) -> list[object]:
    import pickle

    with open(path, "rb") as file:
        pickle.load(file)
    return []


def hungry(path: str) -> list[object]:
    return list(bytearray(b"x" * 100_000_000)[:0])


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def _headers_that_amplify() -> dict[str, bytes]:
    """JSON that is small on disk and large in memory, or slow to look at."""
    megabytes = 24_000_000
    return {
        "lists": b'{"a":[' + b"[]," * (megabytes // 3) + b"[]]}",
        "objects": b'{"a":[' + b"{}," * (megabytes // 3) + b"{}]}",
        "keys": b"{" + b",".join(b'"%x":0' % index for index in range(megabytes // 11)) + b"}",
        "strings": b'{"__metadata__":{"a":[' + b'"ab",' * (megabytes // 5) + b'""]}}',
        "dimensions": b'{"a":{"dtype":"U8","shape":[' + b"2," * (megabytes // 2) + b'2],"data_offsets":[0,1]}}',
        "digits": b'{"a":{"dtype":"U8","shape":[' + b"9" * megabytes + b'],"data_offsets":[0,1]}}',
        "many digits": b'{"a":[' + b",".join([b"9" * 4000] * (megabytes // 4001)) + b"]}",
        "escapes": b'{"__metadata__":{"a":"' + b'\\"' * (megabytes // 2) + b'"}}',
        "surrogates": b'{"__metadata__":{"a":"' + b"\\ud83d\\ude00" * (megabytes // 12) + b'"}}',
        "brackets in a string": b'{"__metadata__":{"a":"' + b"[{" * (megabytes // 2) + b'"}}',
        "deep": b'{"a":' + b"[" * megabytes,
    }


def test_headers_that_amplify_stay_within_time_and_memory(tmp_path: Path) -> None:
    for name, header in _headers_that_amplify().items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(safetensors_bytes(header))
        outcome = outcomes([path])[0]
        path.unlink()
        expected = "ok" if name in ("escapes", "surrogates", "brackets in a string") else "error"
        assert outcome.status == expected, (name, outcome)
        assert outcome.seconds < SECONDS, (name, outcome)
        assert outcome.megabytes < MEGABYTES, (name, outcome)
