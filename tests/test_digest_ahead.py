"""The digest that is begun before the file is understood: the same as the one taken from the tensors, or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lora_analysis.formats import open_adapter
from lora_analysis.formats.digest_ahead import DigestAhead
from lora_analysis.resizing.provenance import data_sha256


def never() -> bool:
    return False


@pytest.fixture
def file(demo_library: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes((demo_library / "sdxl-character-kohya.safetensors").read_bytes())
    return path


def test_it_is_the_digest_of_the_tensors(file: Path) -> None:
    with DigestAhead(file) as ahead, open_adapter(file) as adapter:
        assert ahead.of(adapter.source) == data_sha256(adapter.source, never)


def test_a_folder_is_known_by_its_weights(demo_library: Path) -> None:
    folder = next(path.parent for path in sorted(demo_library.rglob("adapter_model.safetensors")))
    with DigestAhead(folder) as ahead, open_adapter(folder) as adapter:
        assert ahead.of(adapter.source) == data_sha256(adapter.source, never)


def test_another_file_under_the_name_is_told_apart(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(file.read_bytes())
    with DigestAhead(file) as ahead:
        ahead._thread.join()
        os.replace(copy, file)  # the same bytes, but nothing says so
        with open_adapter(file) as adapter:
            assert ahead.of(adapter.source) is None


def test_a_file_that_was_written_to_meanwhile_is_told_apart(file: Path) -> None:
    with DigestAhead(file) as ahead:
        ahead._thread.join()
        with open_adapter(file) as adapter:
            stats = os.stat(file)
            os.utime(file, ns=(stats.st_atime_ns, stats.st_mtime_ns + 1))
            assert ahead.of(adapter.source) is None


@pytest.mark.parametrize("content", [b"", b"\x01", b"\xff" * 8, b"\x10\0\0\0\0\0\0\0{}", None])
def test_what_is_no_file_of_tensors_has_none_and_raises_nothing(content: bytes | None, file: Path) -> None:
    other = file.with_name("other")
    if content is not None:
        other.write_bytes(content)
    with DigestAhead(other) as ahead, open_adapter(file) as adapter:
        assert ahead.of(adapter.source) is None


def test_it_stops_in_the_middle(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_analysis.formats.digest_ahead._PIECE", 16)
    ahead = DigestAhead(file)
    ahead.stop()
    assert not ahead._thread.is_alive()
