"""A checkpoint written without torch is what torch, and Python's zip reader, expect."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from contextlib import closing
from math import prod

import numpy as np
import pytest

from lora_analysis.errors import OptionError, ShapeError
from lora_analysis.formats import stored_zip
from lora_analysis.formats.container import open_source
from lora_analysis.formats.stored_zip import StoredZip
from lora_analysis.formats.torch_writer import write_torch
from lora_analysis.formats.writer import TensorPlan, write_safetensors

TYPES = {  # safetensors name -> (torch name, bytes per value)
    "BOOL": ("bool", 1),
    "U8": ("uint8", 1),
    "I8": ("int8", 1),
    "I16": ("int16", 2),
    "U16": ("uint16", 2),
    "I32": ("int32", 4),
    "U32": ("uint32", 4),
    "I64": ("int64", 8),
    "U64": ("uint64", 8),
    "C64": ("complex64", 8),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E8M0": ("float8_e8m0fnu", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
}
SHAPES = [(3, 5), (), (7,), (0,), (2, 0, 3), (1, 1), (2, 3, 1, 1), (300, 2)]


@pytest.mark.parametrize("dtype", TYPES)
def test_torch_reads_every_type_and_shape_bit_for_bit(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    name, size = TYPES[dtype]
    rng = np.random.default_rng(3)
    plan = [TensorPlan(f"layer.{i}.é", dtype, shape) for i, shape in enumerate(SHAPES)]
    values = [rng.integers(0, 2 if dtype == "BOOL" else 256, prod(s) * size, np.uint8) for s in SHAPES]
    path = tmp_path / "adapter.pt"
    write_torch(path, plan, values, {})
    found = torch.load(path, weights_only=True)
    assert list(found) == [p.name for p in plan]
    for tensor, shape, data in zip(found.values(), SHAPES, values, strict=True):
        assert tensor.dtype == getattr(torch, name)
        assert tuple(tensor.shape) == shape
        assert tensor.stride() == torch.empty(shape).stride()
        assert not tensor.requires_grad
        raw = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        assert bytes(raw.numpy()) == bytes(data)


def test_torch_maps_it_and_reads_an_empty_one(tmp_path):
    torch = pytest.importorskip("torch")
    write_torch(tmp_path / "a.pt", [TensorPlan("a", "F32", (2, 2))], [np.eye(2, dtype="f4")], {})
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True, mmap=True)["a"], torch.eye(2))
    write_torch(tmp_path / "none.pt", [], [], {})
    assert dict(torch.load(tmp_path / "none.pt", weights_only=True)) == {}


def test_the_archive_is_stored_aligned_and_checked(tmp_path):
    plan = [TensorPlan(f"t{i}", "U8", (i * 37,)) for i in range(40)]
    path = tmp_path / "adapter.bin"
    report = write_torch(path, plan, (bytes([i]) * (i * 37) for i in range(40)), {"ss_a": "1", "note": ""})
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
    names = [entry.filename for entry in entries]
    assert names == [
        *("archive/data.pkl", "archive/byteorder"),
        *(f"archive/data/{i}" for i in range(40)),
        "archive/version",
    ]
    for entry in entries:
        assert entry.compress_type == zipfile.ZIP_STORED
        name, extra = np.frombuffer(data, "<u2", 2, entry.header_offset + 26)
        assert (entry.header_offset + 30 + int(name) + int(extra)) % 64 == 0
    assert report.dropped_metadata == ("ss_a", "note")
    assert (report.size, report.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_the_data_hash_is_that_of_the_same_tensors_in_safetensors(tmp_path):
    plan = [TensorPlan("a", "U8", (5,)), TensorPlan("b", "F16", ())]
    first = write_torch(tmp_path / "a.pt", plan, [b"abcde", b"xy"], {})
    second = write_safetensors(tmp_path / "a.safetensors", plan, [b"abcde", b"xy"], {})
    assert first.data_sha256 == second.data_sha256 is not None
    assert write_torch(tmp_path / "b.pt", plan, [b"abcde", b"xy"], {}, with_hashes=False).data_sha256 is None


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F6_E3M2"])
def test_types_unknown_to_torch_are_refused(dtype, tmp_path):
    with pytest.raises(OptionError, match=f"a: PyTorch has no {dtype}; write safetensors instead"):
        write_torch(tmp_path / "a.pt", [TensorPlan("a", dtype, (8,))], [bytes(6)], {})
    assert list(tmp_path.iterdir()) == []


def test_plans_and_buffers_are_checked_as_for_safetensors(tmp_path):
    a = TensorPlan("a", "U8", (2,))
    with pytest.raises(OptionError, match="two tensors"):
        write_torch(tmp_path / "a.pt", [a, a], [b"ab", b"ab"], {})
    with pytest.raises(ShapeError, match="3 came"):
        write_torch(tmp_path / "a.pt", [a], [b"abc"], {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_the_projects_own_reader_gives_every_byte_back(write, tmp_path):
    rng = np.random.default_rng(4)
    plan = [TensorPlan(f"{dtype}.{i}", dtype, shape) for dtype in TYPES for i, shape in enumerate(SHAPES)]
    data = {p.name: rng.integers(0, 2 if p.dtype == "BOOL" else 256, p.nbytes, np.uint8).tobytes() for p in plan}
    path = tmp_path / ("a.pt" if write is write_torch else "a.safetensors")
    write(path, plan, data.values(), {})
    with closing(open_source(path)) as source:
        assert [(name, info.dtype, info.shape) for name, info in source.tensors.items()] == plan
        assert {name: source.raw(name) for name in source.tensors} == data
        assert not source.findings


# -- large archives ----------------------------------------------------------------------------------


def records(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("limit", [0, 1000, 5000, 20_000])
def test_records_beyond_4_gib_are_found_through_zip64(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_zip, "_LIMIT32", limit)  # pretends that 32 bits end here
    data = [np.full(500 * i, i, "u1") for i in range(12)]
    plan = [TensorPlan(f"t{i}", "U8", d.shape) for i, d in enumerate(data)]
    path = tmp_path / "adapter.pt"
    write_torch(path, plan, data, {})
    found = records(path)
    assert [found[f"archive/data/{i}"] for i in range(12)] == [bytes(d) for d in data]
    torch = pytest.importorskip("torch")
    loaded = torch.load(path, weights_only=True)
    assert [bytes(t.numpy()) for t in loaded.values()] == [bytes(d) for d in data]


def test_an_archive_may_hold_more_than_65535_records(tmp_path):
    path = tmp_path / "many.zip"
    with path.open("wb") as file:
        archive = StoredZip(file)
        for i in range(66_000):
            archive.add(str(i), b"x")
        archive.finish()
    with zipfile.ZipFile(path) as found:
        assert len(found.namelist()) == 66_000
        assert found.read("65999") == b"x"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system with holes in files")
def test_a_record_that_starts_beyond_4_gib_is_read_back(tmp_path):
    path = tmp_path / "far.zip"
    with path.open("wb") as file:
        file.seek(5 << 30)  # a hole: takes no space on the disk
        archive = StoredZip(file)
        archive.add("far", b"found")
        archive.finish()
    assert records(path) == {"far": b"found"}
