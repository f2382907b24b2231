"""The bytes of a written safetensors file: exact, deterministic, and what the reference library reads."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from math import prod
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import load_file, save

from lora_analysis.errors import CancelledError, OptionError, ShapeError
from lora_analysis.formats.digests import PLACEHOLDERS, request_hashes
from lora_analysis.formats.writer import TensorPlan, header_bytes, predicted_size, write_safetensors

BITS = {  # per value, from the specification
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


def read_back(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], bytes]], dict[str, str] | None]:
    """Every tensor and the metadata, by the reference library."""
    tensors = {
        name: (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
        for name, entry in deserialize(path.read_bytes())
    }
    with safe_open(path, "np") as file:
        return tensors, file.metadata()


def test_a_tiny_file_has_exactly_these_bytes(tmp_path):
    plan = [TensorPlan("b", "F16", (2, 1)), TensorPlan("a.alpha", "F32", ())]
    report = write_safetensors(
        tmp_path / "t.safetensors", plan, [b"\x01\x02\x03\x04", b"\x00\x00\x80\x3f"], {"k": "é\n"}
    )
    document = (
        b'{"__metadata__":{"k":"\xc3\xa9\\n"},'
        b'"b":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},'
        b'"a.alpha":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}  '
    )
    expected = b"\x90\x00\x00\x00\x00\x00\x00\x00" + document + b"\x01\x02\x03\x04\x00\x00\x80\x3f"
    assert (tmp_path / "t.safetensors").read_bytes() == expected
    assert report.to_dict() == {
        "path": str(tmp_path / "t.safetensors"),
        "size": len(expected),
        "sha256": hashlib.sha256(expected).hexdigest(),
        "data_sha256": hashlib.sha256(expected[-8:]).hexdigest(),
        "dropped_metadata": [],
    }


def test_in_the_order_of_the_reference_library_the_bytes_are_its_own(tmp_path):
    arrays = {
        "lora_unet_down.weight": np.arange(12, dtype="f4").reshape(3, 4),
        "z": np.ones((2, 2), "f4"),
        "a.half": np.full((1, 3), 0.5, "f2"),
        'é"\\\x01\x7f\u2028😀': np.zeros((0, 3), "f2"),
        "flag": np.array(True),
    }
    plan = [
        TensorPlan(k, {"f4": "F32", "f2": "F16", "b1": "BOOL"}[a.dtype.str[1:]], a.shape) for k, a in arrays.items()
    ]
    metadata = {"ss_tag": '{"a b": 1}\t\x0c\x08\x1f'}
    write_safetensors(tmp_path / "t.safetensors", plan, arrays.values(), metadata)
    assert (tmp_path / "t.safetensors").read_bytes() == save(arrays, metadata)


# Bit patterns that a detour through numbers would lose.
HARD = bytes.fromhex(
    "0000000000000080"  # -0.0 as float64
    "010000000000f07f"  # a signalling NaN with a payload, float64
    "efbeaddec0fff8ff"  # a negative quiet NaN with a payload
    "0100000000000000"  # the smallest subnormal
    "010080ff0100c0ff"  # NaN payloads as float32
    "017c01fe0080ffff"  # NaN payloads and -0.0 as float16
    "81ff80ff7f010080"  # and as bfloat16
    "00ff7f80fc7d01fe"  # every oddity of the 8-bit floats
)


@pytest.mark.parametrize("dtype", BITS)
def test_every_type_keeps_every_bit(dtype, tmp_path):
    count = len(HARD) * 8 // BITS[dtype] if len(HARD) * 8 % BITS[dtype] == 0 else 8
    data = HARD[: count * BITS[dtype] // 8]
    if dtype == "BOOL":
        data = b"\0\1" * (count // 2)
    plan = [TensorPlan("odd", "U8", (3,)), TensorPlan("t", dtype, (2, count // 2)), TensorPlan("none", dtype, (0, 5))]
    if BITS[dtype] >= 8:
        plan.append(TensorPlan("scalar", dtype, ()))
    chunks = [b"abc", data, b"", data[: BITS[dtype] // 8]][: len(plan)]
    path = tmp_path / "t.safetensors"
    write_safetensors(path, plan, chunks, {})
    found = {name: (e["dtype"], tuple(e["shape"]), bytes(e["data"])) for name, e in deserialize(path.read_bytes())}
    assert found == {p.name: (p.dtype, p.shape, c) for p, c in zip(plan, chunks, strict=True)}


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def contents(draw):
    """(plan, one buffer per tensor, metadata): any names, types and shapes that a file may hold."""
    plan, data = [], []
    for name in draw(st.lists(text.filter("__metadata__".__ne__), unique=True, max_size=6)):
        dtype = draw(st.sampled_from(sorted(BITS)))
        shape = draw(st.lists(st.integers(0, 5), max_size=4).map(tuple))
        if prod(shape) * BITS[dtype] % 8:
            shape = (*shape, 4)
        plan.append(TensorPlan(name, dtype, shape))
        size = prod(shape) * BITS[dtype] // 8
        data.append(draw(st.binary(min_size=size, max_size=size)))
    metadata = draw(st.dictionaries(text, text, max_size=4))
    return plan, data, metadata


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents())
def test_what_is_written_is_read_back_by_the_reference_library(tmp_path, content):
    plan, data, metadata = content
    path = tmp_path / "t.safetensors"
    report = write_safetensors(path, plan, iter(data), metadata, overwrite=True)
    tensors, found_metadata = read_back(path)
    assert tensors == {p.name: (p.dtype, p.shape, d) for p, d in zip(plan, data, strict=True)}
    assert (found_metadata or {}) == metadata
    assert report.size == path.stat().st_size == predicted_size(plan, metadata)
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.data_sha256 == hashlib.sha256(b"".join(data)).hexdigest()


@settings(max_examples=100, deadline=None)
@given(contents())
def test_a_header_is_compact_aligned_and_in_the_callers_order(content):
    plan, _, metadata = content
    header = header_bytes(plan, metadata)
    (length,) = struct.unpack("<Q", header[:8])
    document = header[8:]
    assert length == len(document)
    assert len(header) % 8 == 0
    assert document[:1] == b"{"
    assert len(document) - len(document.rstrip(b" ")) < 8
    entries = json.loads(document)
    assert list(entries) == ["__metadata__"] * bool(metadata) + [p.name for p in plan]
    offsets = [entries[p.name]["data_offsets"] for p in plan]
    assert [start for start, _ in offsets] == [0, *(stop for _, stop in offsets)][:-1]


SCRIPT = """
import sys
from lora_analysis.formats.digests import request_hashes
from lora_analysis.formats.torch_writer import write_torch
from lora_analysis.formats.writer import TensorPlan, write_safetensors
keys = {"z": "1", "a": "2", "sshs_model_hash": "", "ss_x": "3", "sshs_legacy_hash": "", "modelspec.hash_sha256": ""}
plan = [TensorPlan(f"layer.{i * 7 % 5}", "F16", (4, i)) for i in range(5)]
for write in (write_safetensors, write_torch):
    print(write(sys.argv[1], plan, (bytes(8 * i) for i in range(5)), request_hashes(keys), overwrite=True).sha256)
"""


def test_ten_runs_with_other_hash_seeds_give_the_same_bytes(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / "app")}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "t.bin")]
    runs = set()
    for seed in range(10):
        environment["PYTHONHASHSEED"] = str(seed)
        runs.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(runs) == 1


# -- hashes in the header ----------------------------------------------------------------------------


def big_plan() -> tuple[dict[str, np.ndarray], list[TensorPlan]]:
    """More than 0x110000 bytes, so that the window of the legacy hash lies within."""
    rng = np.random.default_rng(5)
    arrays = {f"t{i}": rng.random((400, 300), "f4") for i in range(3)}
    return arrays, [TensorPlan(name, "F32", array.shape) for name, array in arrays.items()]


@pytest.mark.parametrize("with_hashes", [True, False])
def test_requested_hashes_follow_their_definitions(with_hashes, tmp_path):
    arrays, plan = big_plan()
    metadata = {"modelspec.title": "x", "ss_b": "1" * 300, "sshs_model_hash": "stale", "ss_c": "2"}
    metadata |= {"sshs_legacy_hash": "stale", "modelspec.hash_sha256": "stale", "note": "kept"}
    path = tmp_path / "t.safetensors"
    report = write_safetensors(path, plan, arrays.values(), request_hashes(metadata), with_hashes=with_hashes)

    training = save(arrays, {"ss_b": "1" * 300, "ss_c": "2"})  # what a training script hashes
    (length,) = struct.unpack("<Q", training[:8])
    data_hash = hashlib.sha256(training[8 + length :]).hexdigest()
    _, found = read_back(path)
    assert found == metadata | {
        "sshs_model_hash": data_hash,
        "sshs_legacy_hash": hashlib.sha256(training[0x100000:0x110000]).hexdigest()[:8],
        "modelspec.hash_sha256": "0x" + data_hash,
    }
    assert report.data_sha256 == data_hash
    assert report.sha256 == (hashlib.sha256(path.read_bytes()).hexdigest() if with_hashes else None)
    assert report.size == path.stat().st_size == predicted_size(plan, request_hashes(metadata))


@pytest.mark.parametrize("padding", [0, 0xFF000, 0x100000 - 300, 0x108000, 0x120000])
def test_the_legacy_hash_sees_the_header_where_that_reaches_its_window(padding, tmp_path):
    arrays, plan = big_plan()
    long = {"ss_long": "x" * padding}
    path = tmp_path / "t.safetensors"
    write_safetensors(path, plan, arrays.values(), request_hashes({**long, "sshs_legacy_hash": ""}))
    _, found = read_back(path)
    assert found["sshs_legacy_hash"] == hashlib.sha256(save(arrays, long)[0x100000:0x110000]).hexdigest()[:8]


def test_a_small_file_has_the_legacy_hash_of_nothing(tmp_path):
    write_safetensors(tmp_path / "t", [], [], {"sshs_legacy_hash": PLACEHOLDERS["sshs_legacy_hash"]})
    _, found = read_back(tmp_path / "t")
    assert found == {"sshs_legacy_hash": hashlib.sha256(b"").hexdigest()[:8]}


def test_hashes_that_are_not_requested_are_written_as_they_are(tmp_path):
    metadata = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "deadbeef", "other": "?" * 64}
    write_safetensors(tmp_path / "t", [TensorPlan("a", "U8", (1,))], [b"x"], metadata)
    assert read_back(tmp_path / "t")[1] == metadata
    assert request_hashes({"other": "?", "a": "b"}) == {"other": "?", "a": "b"}


def test_without_hashes_nothing_is_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr(hashlib, "sha256", None)
    report = write_safetensors(tmp_path / "t", [TensorPlan("a", "U8", (1,))], [b"x"], {}, with_hashes=False)
    assert (report.sha256, report.data_sha256) == (None, None)


def test_late_metadata_is_written_without_hashes_too(tmp_path):
    plan, target = [TensorPlan("a", "U8", (1,))], tmp_path / "t"
    early, late = request_hashes({"k": "early", "sshs_model_hash": ""}), request_hashes({"k": "later"})
    write_safetensors(target, plan, [b"x"], {"k": "early"}, with_hashes=False, late_metadata=lambda: late)
    assert read_back(target)[1] == {"k": "later"}
    write_safetensors(
        tmp_path / "u", plan, [b"x"], early, with_hashes=False, late_metadata=lambda: early | {"k": "later"}
    )
    assert read_back(tmp_path / "u")[1] == {"k": "later", "sshs_model_hash": hashlib.sha256(b"x").hexdigest()}


def test_late_metadata_cannot_ask_for_hashes_that_nobody_counted(tmp_path):
    plan, key = [TensorPlan("a", "U8", (1,))], "sshs_model_hash"
    early, late = {key: "0" * 64}, request_hashes({key: ""})
    assert len(header_bytes(plan, early)) == len(header_bytes(plan, late))
    with pytest.raises(OptionError, match="asks for hashes"):
        write_safetensors(tmp_path / "t", plan, [b"x"], early, with_hashes=False, late_metadata=lambda: late)
    assert not list(tmp_path.iterdir())


# -- sending ahead -----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice on files")
@pytest.mark.parametrize("is_refused", [False, True])
def test_the_disk_is_told_of_every_byte_once_while_more_is_written(is_refused, tmp_path, monkeypatch):
    advised = []

    def advise(descriptor, offset, length, advice):
        advised.append((offset, length, advice))
        if is_refused:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr("lora_analysis.formats.atomic._SENT_AT_ONCE", 1000)
    arrays, plan = big_plan()
    report = write_safetensors(tmp_path / "t", plan, arrays.values(), {})
    assert report.size == (tmp_path / "t").stat().st_size
    np.testing.assert_equal(load_file(tmp_path / "t"), arrays)
    offsets = [offset for offset, _, _ in advised]
    assert offsets == [0, *np.cumsum([length for _, length, _ in advised])[:-1]]
    assert sum(length for _, length, _ in advised) == report.size
    assert {advice for *_, advice in advised} == {os.POSIX_FADV_DONTNEED}


# -- refusals ----------------------------------------------------------------------------------------

A = TensorPlan("a", "F16", (2,))


@pytest.mark.parametrize(
    ("plan", "metadata", "message"),
    [
        ([A, A], {}, "a: two tensors of this name"),
        ([TensorPlan("__metadata__", "F16", (2,))], {}, "the name is reserved"),
        ([TensorPlan("a", "F3", (2,))], {}, "a: cannot write the type F3"),
        ([TensorPlan("a", "F16", (-2, -1))], {}, "a: .* negative"),
        ([TensorPlan("a", "F4", (3,))], {}, "do not fill whole bytes"),
        ([TensorPlan("a", "F6_E2M3", (2, 1))], {}, "do not fill whole bytes"),
        ([TensorPlan("a\ud800", "F16", (2,))], {}, r"a\\ud800: not Unicode"),
        ([A], {"k": "\udfff"}, "not Unicode"),
        ([A], {"k\udfff": ""}, "not Unicode"),
        ([A], {"k": 1}, "metadata 'k' is int"),
        ([A], {"k": None}, "metadata 'k' is NoneType"),
        ([A], {1: "v"}, "metadata 1"),
        ([A], {"k": "x" * 100_000_000}, "the header would be"),
    ],
)
def test_what_no_file_can_hold_is_refused_before_anything_is_written(plan, metadata, message, tmp_path):
    with pytest.raises(OptionError, match=message):
        write_safetensors(tmp_path / "t.safetensors", plan, [b"abcd"] * len(plan), metadata)
    assert os.listdir(tmp_path) == []


def test_the_largest_header_is_exactly_the_limit_of_the_format(tmp_path):
    fixed = len(header_bytes([], {"k": ""}).rstrip(b" ")) - 8
    header = header_bytes([], {"k": "x" * (100_000_000 - fixed)})
    assert len(header) == 8 + 100_000_000
    deserialize(header)
    with pytest.raises(SafetensorError):
        deserialize((100_000_001).to_bytes(8, "little") + header[8:] + b" ")
    with pytest.raises(OptionError, match="100,000,008"):
        header_bytes([], {"k": "x" * (100_000_001 - fixed)})


@pytest.mark.parametrize(
    ("chunks", "message"),
    [
        ([b"abcd", b"abc"], "b: 4 bytes planned .* 3 came"),
        ([b"abcd", b"abcde"], "b: 4 bytes planned .* 5 came"),
        ([b"abcd", b""], "b: 4 bytes planned .* 0 came"),
        ([b"abcd"], "b: planned, but no bytes came"),
        ([], "a: planned, but no bytes came"),
        ([b"abcd", b"abcd", b"abcd"], "more buffers came than the 2"),
        ([b"abcd", np.zeros((2, 2), "u1").T], "b: the buffer is not in C order"),
        ([b"abcd", np.zeros(8, "u1")[::2]], "b: the buffer is not in C order"),
    ],
)
def test_buffers_that_differ_from_the_plan_are_refused_and_nothing_stays(chunks, message, tmp_path):
    with pytest.raises(ShapeError, match=message):
        write_safetensors(tmp_path / "t", [A, TensorPlan("b", "U8", (2, 2))], chunks, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("buffer", [np.arange(6, dtype="f4").reshape(2, 3), bytearray(24), memoryview(bytes(24))])
def test_any_contiguous_buffer_is_taken(buffer, tmp_path):
    write_safetensors(tmp_path / "t", [TensorPlan("a", "F32", (2, 3))], [buffer], {})
    assert read_back(tmp_path / "t")[0]["a"][2] == bytes(buffer)


# -- streaming ---------------------------------------------------------------------------------------


def test_one_buffer_may_be_reused_for_every_tensor(tmp_path):
    plan = [TensorPlan(f"t{i}", "U8", (300_000,)) for i in range(8)]
    buffer = bytearray(300_000)

    def chunks():
        for i in range(8):
            buffer[:] = bytes([i]) * 300_000
            yield buffer

    report = write_safetensors(tmp_path / "t", plan, chunks(), {})
    expected = b"".join(bytes([i]) * 300_000 for i in range(8))
    assert (tmp_path / "t").read_bytes().endswith(expected)
    assert report.data_sha256 == hashlib.sha256(expected).hexdigest()


def test_memory_is_that_of_one_tensor(tmp_path):
    size = 4 << 20
    plan = [TensorPlan(f"t{i}", "U8", (size,)) for i in range(8)]
    tracemalloc.start()
    try:
        write_safetensors(tmp_path / "t", plan, (bytes(size) for _ in plan), {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * size, f"{peak / size:.1f} tensors in memory"


def test_progress_counts_the_bytes_of_data(tmp_path):
    seen = []
    plan = [TensorPlan("a", "F32", (2, 2)), TensorPlan("none", "F32", (0,)), TensorPlan("b", "U8", (3,))]
    write_safetensors(tmp_path / "t", plan, [bytes(16), b"", bytes(3)], {}, progress=lambda *at: seen.append(at))
    assert seen == [(16, 19), (16, 19), (19, 19)]


def test_cancelling_stops_before_the_next_tensor_is_made(tmp_path):
    (tmp_path / "t").write_bytes(b"old")
    made = []

    def chunks():
        for i in range(5):
            made.append(i)
            yield bytes(4)

    plan = [TensorPlan(f"t{i}", "F32", ()) for i in range(5)]
    with pytest.raises(CancelledError, match="after 8 of 20 bytes"):
        write_safetensors(tmp_path / "t", plan, chunks(), {}, overwrite=True, cancel=lambda: len(made) == 2)
    assert made == [0, 1]
    assert (tmp_path / "t").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["t"]
