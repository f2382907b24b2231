"""Digests, against plain hashlib over the definitions in ``formats.hashes`` and against other writers' files."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from lora_analysis.adapter import TensorInfo
from lora_analysis.errors import CancelledError, FileAccessError
from lora_analysis.formats.hashes import EMPTY_SHA256, FileHashes, check_claims, embedded_autov3, hash_file

SS_ONLY = {"ss_network_dim": "8", "ss_tag_frequency": '{"img": {"naïve \\"tag\\"": 3}}', "ss_steps": "10"}
EDITED = {**SS_ONLY, "modelspec.title": "later", "sshs_model_hash": "0" * 64, "user_note": "added afterwards"}


def arrays(values: int = 300_000) -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    return {  # float32 is written first: the file's order is not that of the names
        "a.lora_up.weight": random.standard_normal((4, values)).astype(np.float16),
        "b.lora_down.weight": random.standard_normal((values, 2)).astype(np.float32),
        "a.alpha": np.array(4.0, np.float32),
    }


def parts(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str], bytes]:
    """Tensors, metadata and data of a safetensors file, read the slow, obvious way."""
    blob = path.read_bytes()
    (length,) = struct.unpack("<Q", blob[:8])
    header = json.loads(blob[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {
        name: TensorInfo(
            entry["dtype"],
            tuple(entry["shape"]),
            8 + length + entry["data_offsets"][0],
            entry["data_offsets"][1] - entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }
    return tensors, metadata, blob[8 + length :]


def hashed(path: Path, **overrides: str) -> FileHashes:
    tensors, metadata, _ = parts(path)
    return hash_file(path, tensors, {**metadata, **overrides})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    safetensors.numpy.save_file(arrays(), path, EDITED)
    return path


def test_every_digest_is_that_of_its_definition(file: Path) -> None:
    blob = file.read_bytes()
    found = hashed(file)
    _, _, data = parts(file)
    assert found.sha256 == hashlib.sha256(blob).hexdigest()
    assert found.autov2 == found.sha256[:10]
    assert found.autov1 == hashlib.sha256(blob[0x100000:0x110000]).hexdigest()[:8]
    assert found.data_sha256 == hashlib.sha256(data).hexdigest()
    assert found.autov3 == hashlib.sha256(data).hexdigest()[:12]


def test_the_legacy_hash_is_that_of_the_file_with_ss_keys_alone(file: Path, tmp_path: Path) -> None:
    during_training = tmp_path / "training.safetensors"
    safetensors.numpy.save_file(arrays(), during_training, SS_ONLY)
    window = during_training.read_bytes()[0x100000:0x110000]
    assert hashed(file).sshs_legacy == hashlib.sha256(window).hexdigest()[:8]


def test_a_file_that_ends_before_the_window_has_the_digest_of_nothing_as_legacy_hash(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    safetensors.numpy.save_file(arrays(10), path, SS_ONLY)
    found = hashed(path)
    assert found.sshs_legacy == found.autov1 == EMPTY_SHA256[:8]
    assert check_claims({"sshs_legacy_hash": EMPTY_SHA256[:8]}, found) == []


def test_a_header_that_reaches_into_the_window_leaves_the_legacy_hash_open(tmp_path: Path) -> None:
    path = tmp_path / "long-header.safetensors"
    safetensors.numpy.save_file(arrays(10), path, {"ss_tag_frequency": "x" * 0x120000})
    assert hashed(path).sshs_legacy is None


def test_editing_metadata_changes_the_file_digest_and_not_that_of_the_data(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(arrays(), other, {**EDITED, "ssmd_author": "somebody"})
    first, second = hashed(file), hashed(other)
    assert first.sha256 != second.sha256
    assert first.data_sha256 == second.data_sha256


def test_the_digest_by_name_is_computed_where_a_header_claims_another_than_that_of_the_data(file: Path) -> None:
    tensors, _, _ = parts(file)
    blob = file.read_bytes()
    by_name = hashlib.sha256()
    for name in sorted(tensors):
        by_name.update(blob[tensors[name].offset : tensors[name].offset + tensors[name].nbytes])
    claim = "0x" + by_name.hexdigest().upper()
    found = hashed(file, **{"modelspec.hash_sha256": claim})
    assert found.named_sha256 == by_name.hexdigest()
    assert found.named_sha256 != found.data_sha256
    assert check_claims({"modelspec.hash_sha256": claim}, found) == []
    assert hashed(file).named_sha256 is None


def test_another_container_has_digests_of_the_whole_file_only(tmp_path: Path) -> None:
    path = tmp_path / "adapter.bin"
    path.write_bytes(b"PK\x03\x04" + b"x" * 100)
    found = hash_file(path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.data_sha256, found.autov3, found.sshs_legacy) == (None, None, None)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("sshs_model_hash", "0" * 64, "hash-placeholder"),
        ("sshs_model_hash", EMPTY_SHA256, "hash-placeholder"),
        ("modelspec.hash_sha256", "0x" + EMPTY_SHA256, "hash-placeholder"),
        ("modelspec.hash_sha256", "0x" + "0" * 64, "hash-placeholder"),
        ("sshs_legacy_hash", "00000000", "hash-placeholder"),
        ("sshs_model_hash", "not a digest", "hash-format"),
        ("sshs_model_hash", 17, "hash-format"),
        ("sshs_model_hash", "d" * 64, "hash-stale"),
        ("sshs_model_hash", "d" * 32, "hash-stale"),
        ("modelspec.hash_sha256", "0x" + "d" * 64, "hash-unverified"),
        ("sshs_legacy_hash", "dddddddd", "hash-unverified"),
    ],
)
def test_a_false_claim_is_called_by_its_name(file: Path, key: str, value: object, code: str) -> None:
    found = check_claims({key: value}, hashed(file))
    assert [finding.code for finding in found] == [code]
    assert key in found[0].message


def test_true_claims_and_absent_ones_are_no_finding(file: Path) -> None:
    computed = hashed(file)
    claims = {
        "sshs_model_hash": computed.data_sha256,
        "sshs_legacy_hash": computed.sshs_legacy,
        "modelspec.hash_sha256": f"0x{computed.data_sha256}",
    }
    assert check_claims(claims, computed) == []
    assert check_claims({**claims, "sshs_model_hash": str(computed.data_sha256)[:32]}, computed) == []
    assert check_claims({"sshs_model_hash": "None", "modelspec.hash_sha256": ""}, computed) == []


def test_without_computed_digests_nothing_is_called_stale() -> None:
    assert check_claims({"sshs_model_hash": "d" * 64}) == []


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"sshs_model_hash": "AB" * 32}, "ab" * 6),
        ({"sshs_model_hash": EMPTY_SHA256, "modelspec.hash_sha256": "0x" + "cd" * 32}, "cd" * 6),
        ({"modelspec.hash_sha256": "0x" + "0" * 64}, None),
        ({}, None),
    ],
)
def test_the_embedded_autov3_skips_placeholders(metadata: dict[str, str], expected: str | None) -> None:
    assert embedded_autov3(metadata) == expected


def test_progress_ends_at_the_size_and_cancel_stops(file: Path) -> None:
    calls: list[tuple[int, int]] = []
    hash_file(file, progress=lambda done, total: calls.append((done, total)))
    size = file.stat().st_size
    assert calls[-1] == (size, size)
    assert calls == sorted(calls)
    with pytest.raises(CancelledError):
        hash_file(file, cancel=lambda: True)


def test_what_is_no_regular_file_is_refused_by_name(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, tmp_path / "absent"):
        with pytest.raises(FileAccessError, match=path.name):
            hash_file(path)


def test_an_empty_file_has_the_digest_of_nothing(tmp_path: Path) -> None:
    path = tmp_path / "empty.safetensors"
    path.touch()
    assert hash_file(path).sha256 == EMPTY_SHA256
