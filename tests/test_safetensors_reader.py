"""The safetensors reader: one test per rule of the specification, and agreement with the reference library."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from hostile import floats, good_gguf, good_safetensors, good_torch_zip, lora_tensors, safetensors_bytes
from lora_analysis.errors import (
    FileAccessError,
    FormatError,
    HeaderError,
    NonFiniteError,
    OptionError,
    UnsafePickleError,
)
from lora_analysis.formats import strict_json
from lora_analysis.formats.container import open_source
from lora_analysis.formats.dtypes import BITS, array_type, single_value
from lora_analysis.formats.files import InputFile, read_small_file
from lora_analysis.formats.safetensors import parse_header

ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.safetensors"


def refusal(path: Path, content: bytes, **options: Any) -> str:
    path.write_bytes(content)
    with pytest.raises(HeaderError) as caught:
        open_source(path, **options)
    assert path.name in caught.value.message
    return caught.value.message


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), **more: Any) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


# -- what is read ------------------------------------------------------------------------------------


def test_names_shapes_metadata_and_values_come_back(path: Path) -> None:
    tensors = lora_tensors()
    path.write_bytes(good_safetensors(tensors, {"ss_network_dim": "2", "a": "b"}))
    with open_source(os.fspath(path)) as source:
        assert (source.container, source.path, source.size) == ("safetensors", os.fspath(path), path.stat().st_size)
        assert list(source.tensors) == list(tensors)
        assert list(source.metadata.items()) == [("ss_network_dim", "2"), ("a", "b")]
        assert source.findings == ()
        for name, (dtype, shape, raw) in tensors.items():
            info = source.tensors[name]
            assert (info.dtype, info.shape, info.nbytes) == (dtype, tuple(shape), len(raw))
            assert path.read_bytes()[info.offset : info.offset + info.nbytes] == raw == source.raw(name)
            np.testing.assert_array_equal(source.array(name), np.frombuffer(raw, "<f4").reshape(shape))
        assert source.scalar("lora_unet_mid_to_q.alpha") == 1.0


def test_a_tensor_of_two_values_is_no_scalar(path: Path) -> None:
    path.write_bytes(safetensors_bytes(entry(), floats(2)))
    with open_source(path) as source, pytest.raises(FormatError, match=r"a has the shape \[2\]"):
        source.scalar("a")


def single_values_file(gap: int) -> bytes:
    """One element of every type, ``gap`` bytes between two, and tensors that are no single number."""
    parts: dict[str, tuple[str, list[int], bytes]] = {}
    for position, (dtype, bits) in enumerate(sorted(BITS.items(), key=lambda item: -item[1])):
        if bits >= 8:
            parts[f"{position}.alpha"] = (dtype, [[], [1], [1, 1]][position % 3], bytes([0x41, 0x3C] * 8)[: bits // 8])
        if gap:
            parts[f"{position}.weight"] = ("U8", [gap], bytes(gap))
    return good_safetensors({**parts, "two.alpha": ("F16", [2], b"abcd"), "none.alpha": ("F16", [0], b"")}, {})


@pytest.mark.parametrize("gap", [0, 1, 1000])
def test_many_single_values_are_those_read_one_by_one(path: Path, gap: int) -> None:
    path.write_bytes(single_values_file(gap))
    with open_source(path) as source:
        expected = {}
        for name in source.tensors:
            with suppress(FormatError):
                expected[name] = source.scalar(name)
        assert source.scalars(list(source.tensors)) == expected
        assert source.scalars(list(reversed(source.tensors))) == expected
    assert len(expected) == sum(bits >= 8 for bits in BITS.values()) - 1 + (gap == 1) * len(BITS)  # complex is none


def test_single_values_that_were_cut_off_are_left_out(path: Path) -> None:
    path.write_bytes(
        safetensors_bytes({**entry(), "b": {"dtype": "F32", "shape": [], "data_offsets": [8, 12]}}, floats(3))
    )
    with open_source(path) as source:
        os.truncate(path, path.stat().st_size - 2)
        assert source.scalars(["a", "b"]) == {}


def test_arrays_are_the_callers_own(path: Path) -> None:
    path.write_bytes(safetensors_bytes(entry(), floats(2)))
    with open_source(path) as source:
        source.array("a")[:] = 7
        np.testing.assert_array_equal(source.array("a"), [0.5, 0.625])


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_every_type_of_the_specification_is_sized_as_the_reference_library_does(path: Path, dtype: str) -> None:
    data = bytes(range(48)) if dtype != "BOOL" else bytes([0, 1]) * 24
    shape = [len(data) * 8 // BITS[dtype] // 2, 2]
    path.write_bytes(safetensors_bytes(entry(dtype, shape, (0, len(data))), data))
    ((name, reference),) = safetensors.deserialize(path.read_bytes())
    assert (name, reference["dtype"], reference["shape"]) == ("a", dtype, shape)
    with open_source(path) as source:
        assert source.raw("a") == data == bytes(reference["data"])
        if BITS[dtype] % 8:
            with pytest.raises(FormatError, match=rf"a: {dtype}: values of {BITS[dtype]} bits"):
                source.array("a")
        else:
            assert source.array("a").tobytes() == data
            assert source.array("a").shape == tuple(shape)


def test_every_array_type_is_the_one_torch_reads(path: Path) -> None:
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("safetensors.torch")
    for dtype, kind in reference._TYPES.items():
        values = torch.tensor([0, 1, 1, 0]).to(kind)
        reference.save_file({"a": values}, path)
        with open_source(path) as source:
            assert source.tensors["a"].dtype == dtype
            np.testing.assert_array_equal(source.array("a").astype("c8"), values.to(torch.complex64).numpy())


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "U8", "I8", "BOOL"])
def test_single_values_of_one_byte_equal_those_of_the_array_types(dtype: str) -> None:
    codes = bytes([0, 1]) if dtype == "BOOL" else bytes(range(256))
    expected = np.frombuffer(codes, array_type(dtype)).astype(np.float64)
    np.testing.assert_array_equal([single_value(dtype, codes[i : i + 1]) for i in range(len(codes))], expected)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32", "F64", "I16", "U16", "I32", "U32", "I64", "U64"])
def test_single_values_of_more_bytes_equal_those_of_the_array_types(dtype: str) -> None:
    codes = np.random.default_rng(1).bytes(200 * BITS[dtype] // 8)
    with np.errstate(invalid="ignore"):  # signalling NaN
        expected = np.frombuffer(codes, array_type(dtype)).astype(np.float64)
    size = BITS[dtype] // 8
    found = [single_value(dtype, codes[i : i + size]) for i in range(0, len(codes), size)]
    np.testing.assert_array_equal(found, expected)


def test_complex_numbers_and_short_bytes_are_no_single_value() -> None:
    with pytest.raises(FormatError, match="8 bytes of C64"):
        single_value("C64", bytes(8))
    with pytest.raises(FormatError, match="3 bytes of F32"):
        single_value("F32", bytes(3))


@given(st.data())
def test_what_the_reference_library_writes_is_read_back_bit_for_bit(data: st.DataObject) -> None:
    names = st.text(max_size=8).filter(lambda name: name != "__metadata__")
    kinds = st.sampled_from([np.dtype(kind) for kind in ("f2", "f4", "f8", "i8", "u1", "?", "u2")])
    shapes = st.lists(st.integers(0, 3), max_size=4).map(tuple)
    tensors = {
        name: np.frombuffer(b"\1" * (int(np.prod(shape)) * kind.itemsize), kind).reshape(shape)
        for name, kind, shape in data.draw(st.lists(st.tuples(names, kinds, shapes), max_size=4))
    }
    metadata = data.draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
    document = safetensors.numpy.save(tensors, metadata or None)
    size = int.from_bytes(document[:8], "little")
    header = parse_header(document[8 : 8 + size], start=8 + size, size=len(document) - 8 - size)
    assert header.metadata == metadata
    assert header.findings == []
    assert {name: info.shape for name, info in header.tensors.items()} == {n: a.shape for n, a in tensors.items()}
    for name, info in header.tensors.items():
        assert document[info.offset : info.offset + info.nbytes] == tensors[name].tobytes()


# -- the framing -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"{}", "a stub of 2 bytes"),
        (b"\xff" * 8 + b"{}", "18,446,744,073,709,551,615 bytes"),
        (safetensors_bytes("{}", length=100_000_001), "100,000,001 bytes"),
        (safetensors_bytes("{}", length=1000), "1,000 bytes is declared, 2 bytes follow"),
        (safetensors_bytes("{}", length=0), "not JSON"),
        (safetensors_bytes("[]" + " " * 8), "JSON list"),
        (safetensors_bytes('{"a":'), "not JSON: Expecting value at line 1, column 6"),
        (safetensors_bytes(b'{"\xff":0}'), "not UTF-8"),
        (safetensors_bytes("{}".encode("utf-16")), "not UTF-8"),
        (safetensors_bytes("\ufeff{}"), "not JSON"),
        (safetensors_bytes('{"a":' + "[" * 400_000 + "]" * 400_000 + "}"), "nested too deeply"),
        (safetensors_bytes('{"a":' + "9" * 5000 + "}"), "too many digits"),
        (safetensors_bytes('{"a":NaN}'), "NaN is no JSON number"),
        (safetensors_bytes('{"a":1e999}'), "the number 1e999 is too large"),
        (safetensors_bytes('{"\\ud800":' + ENTRY + "}", bytes(8)), "lone surrogate"),
        (safetensors_bytes('{"__metadata__":{"a":"\\udfff"}}'), "lone surrogate"),
    ],
)
def test_broken_framing_is_refused(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, content)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": 1}, "a: the entry is a JSON number"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "has no data_offsets"),
        (entry(more=1), 'unknown field "more"'),
        (entry("F128"), "unknown dtype 'F128'"),
        (entry(["F32"]), "unknown dtype ['F32']"),
        (entry(shape="22"), "the shape '22'"),
        (entry(shape=[-2]), "the shape [-2]"),
        (entry(shape=[2.0]), "the shape [2.0]"),
        (entry(shape=[True, 2]), "the shape [True, 2]"),
        (entry(shape=[1] * 65), "at most 64 sizes"),
        (entry(shape=[["ab"]]), "the shape [['ab']]"),
        (entry(shape=[3]), "F32 of the shape [3] does not fit into its 8 bytes"),
        (entry(shape=[2**40, 2**40]), "does not fit"),
        (entry(shape=[2**62, 4, 0], offsets=[0, 0]), "does not fit"),
        (entry("F4", [3], [0, 1]), "F4 of the shape [3] does not fit"),
        (entry(offsets=[0]), "the data_offsets [0]"),
        (entry(offsets=[0, 4, 8]), "the data_offsets [0, 4, 8]"),
        (entry(offsets=[0, 8.0]), "the data_offsets [0, 8.0]"),
        (entry(offsets=[-8, 0]), "the data_offsets [-8, 0]"),
        (entry(offsets=[8, 0]), "the data_offsets [8, 0]"),
        (entry(offsets=[2**64, 2**64 + 8]), "the data_offsets"),
        (entry(offsets="08"), "the data_offsets '08'"),
        (entry(offsets=[4, 12]), "leaves a hole before it"),
        (entry(shape=[1], offsets=[0, 4]), "4 bytes after the last tensor"),
        (entry(shape=[4], offsets=[0, 16]), "the file is cut off"),
        ({**entry(), "b": entry(offsets=[4, 12])["a"]}, "overlaps another tensor"),
    ],
)
def test_broken_entries_are_refused(path: Path, header: dict[str, Any], reason: str) -> None:
    assert reason in refusal(path, safetensors_bytes(header, bytes(8)))


def test_an_empty_tensor_too_wide_for_an_array_still_has_its_no_bytes(path: Path) -> None:
    path.write_bytes(safetensors_bytes(entry(shape=[0, 2**62, 2**62], offsets=[0, 0])))
    with open_source(path) as source:
        assert source.raw("a") == b""
        with pytest.raises(FormatError, match="a: no array can have the shape"):
            source.array("a")


def test_tensors_may_be_listed_in_another_order_than_stored(path: Path) -> None:
    header = {"b": entry(offsets=[8, 16])["a"], "empty": entry(shape=[0], offsets=[8, 8])["a"], **entry()}
    path.write_bytes(safetensors_bytes(header, floats(4)))
    with open_source(path) as source:
        assert list(source.tensors) == ["b", "empty", "a"]
        np.testing.assert_array_equal(source.array("b"), [0.75, 0.875])
        assert source.array("empty").shape == (0,)


@pytest.mark.parametrize(
    "header",
    [
        f'{{"a":{ENTRY},"a":{ENTRY}}}',
        f'{{"a":{ENTRY},"\\u0061":{ENTRY}}}',
        f'{{"a":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}},"a":{ENTRY}}}',
        '{"a":{"dtype":"F16","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_\\u006fffsets":[0,8],"data_offsets":[0,8]}}',
        f'{{"__metadata__":{{"a":"1","a":"2"}},"a":{ENTRY}}}',
        f'{{"__metadata__":{{}},"__metadata__":{{}},"a":{ENTRY}}}',
        f'{{"__metadata__":{{"\\\\":"\\\\\\"","\\\\":""}},"a":{ENTRY}}}',
    ],
)
def test_names_that_are_there_twice_are_refused(path: Path, header: str) -> None:
    assert "is there twice" in refusal(path, safetensors_bytes(header, bytes(8)))


def test_a_name_there_twice_is_found_in_lenient_metadata_too(path: Path) -> None:
    # The number costs one string and the repeated name adds one: counting alone would be even.
    header = f'{{"__metadata__":{{"n":1,"a":2,"a":"x"}},"a":{ENTRY}}}'
    assert '"a" is there twice' in refusal(path, safetensors_bytes(header, bytes(8)), lenient_metadata=True)


# -- where the reference library differs: the whole list, as far as 400,000 damaged files have shown ---


@pytest.mark.parametrize(
    "header",
    [
        f'{{"a":{ENTRY},"a":{ENTRY}}}',
        f'{{"__metadata__":{{"a":"1","a":"2"}},"a":{ENTRY}}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}',
        json.dumps(entry(shape=[1] * 64 + [2])),
    ],
    ids=["a tensor twice", "metadata twice", "unknown field", "65 dimensions"],
)
def test_what_only_we_refuse(path: Path, header: str) -> None:
    content = safetensors_bytes(header, bytes(8))
    assert len(safetensors.deserialize(content)) == 1
    refusal(path, content)


def test_what_only_we_accept_is_a_zero_with_a_sign(path: Path) -> None:
    content = safetensors_bytes('{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}', bytes(8))
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(content)
    path.write_bytes(content)
    with open_source(path) as source:
        assert source.raw("a") == bytes(8)


json_values = st.recursive(
    st.text(alphabet='"\\a\n', max_size=4) | st.integers() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='"\\a', max_size=3), inner, max_size=3)
    ),
)


@given(json_values, st.booleans())
def test_strings_are_counted_whatever_they_hold(value: Any, ascii_only: bool) -> None:
    def count(item: Any) -> int:
        if isinstance(item, dict):
            return len(item) + sum(map(count, item.values()))
        return sum(map(count, item)) if isinstance(item, list) else isinstance(item, str)

    assert strict_json.count_strings(json.dumps(value, ensure_ascii=ascii_only)) == count(value)


# -- padding and metadata ----------------------------------------------------------------------------


def test_padding_with_spaces_is_ordinary(path: Path) -> None:
    path.write_bytes(safetensors_bytes(json.dumps(entry()) + "     ", bytes(8)))
    with open_source(path) as source:
        assert source.findings == ()


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [("  ", "", "header-leading-space"), ("\n", "", "header-leading-space"), ("", "\t", "header-padding")],
)
def test_other_white_space_is_read_with_a_warning(path: Path, before: str, after: str, code: str) -> None:
    path.write_bytes(safetensors_bytes(before + json.dumps(entry()) + after, bytes(8)))
    with open_source(path) as source:
        assert [(finding.severity, finding.code) for finding in source.findings] == [("warning", code)]


def test_metadata_that_is_no_text_is_refused_with_the_way_to_read_it(path: Path) -> None:
    header = {"__metadata__": {"fine": "1", "ss_network_dim": 4, "b": None}, **entry()}
    message = refusal(path, safetensors_bytes(header, bytes(8)))
    assert '"ss_network_dim" is of type number (and 1 more)' in message
    assert "lenient_metadata=True" in message


def test_lenient_metadata_is_kept_as_parsed_with_an_error_finding(path: Path) -> None:
    metadata = {"fine": "1", "ss_network_dim": 4, "list": [1, {"a": None}]}
    path.write_bytes(safetensors_bytes({"__metadata__": metadata, **entry()}, bytes(8)))
    with open_source(path, lenient_metadata=True) as source:
        assert source.metadata == metadata
        assert [(finding.severity, finding.code) for finding in source.findings] == [("error", "metadata-not-strings")]


def test_metadata_that_is_null_is_none_at_all(path: Path) -> None:
    """MLX writes it so."""
    path.write_bytes(safetensors_bytes({"__metadata__": None, **entry()}, bytes(8)))
    with open_source(path) as source:
        assert (source.metadata, source.findings) == ({}, ())


@pytest.mark.parametrize("value", [False, [], "text", 3])
def test_metadata_that_is_no_object_is_refused_even_leniently(path: Path, value: Any) -> None:
    content = safetensors_bytes({"__metadata__": value, **entry()}, bytes(8))
    assert "expected an object of strings" in refusal(path, content, lenient_metadata=True)


# -- limits ------------------------------------------------------------------------------------------


def test_a_header_above_the_limit_is_refused_before_it_is_read(path: Path) -> None:
    content = safetensors_bytes(json.dumps(entry()).ljust(200), bytes(8))
    assert "header_limit=199" in refusal(path, content, header_limit=199)
    with open_source(path, header_limit=200) as source:
        assert list(source.tensors) == ["a"]


@pytest.mark.parametrize("limit", [0, -1, 100_000_001])
def test_an_impossible_header_limit_is_an_option_error(path: Path, limit: int) -> None:
    with pytest.raises(OptionError, match="header_limit"):
        open_source(path, header_limit=limit)


def test_a_header_of_26_mb_needs_the_option(path: Path) -> None:
    content = safetensors_bytes({"__metadata__": {"a": "x" * 26_000_000}, **entry()}, bytes(8))
    assert "header_limit=25,000,000" in refusal(path, content)
    with open_source(path, header_limit=100_000_000) as source:
        assert len(source.metadata["a"]) == 26_000_000


def test_opening_a_gigabyte_reads_the_header_only(path: Path) -> None:
    size = 1 << 30
    with path.open("wb") as file:
        file.write(safetensors_bytes(entry("F16", [size // 2], [0, size])))
        file.truncate(file.tell() + size)  # sparse: takes no room
    tracemalloc.start()
    open_source(path).close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = min(_timed(path) for _ in range(5))
    assert peak < 3_000_000
    assert seconds < 0.05


def _timed(path: Path) -> float:
    started = time.perf_counter()
    open_source(path).close()
    return time.perf_counter() - started


def test_reading_names_and_scalars_does_not_load_numpy(path: Path) -> None:
    path.write_bytes(good_safetensors(lora_tensors()))
    program = (
        "import sys; from lora_analysis.formats.container import open_source\n"
        "with open_source(sys.argv[1]) as source: print(source.scalar('lora_unet_mid_to_q.alpha'))\n"
        "assert not {'numpy', 'ml_dtypes', 'torch', 'pickle', 'zipfile'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1.0\n", "")


# -- files -------------------------------------------------------------------------------------------


@pytest.fixture
def odd_paths(tmp_path: Path) -> Iterator[dict[str, Path]]:
    paths = {name: tmp_path / f"{name}.safetensors" for name in ("missing", "folder", "fifo", "loop", "socket")}
    paths["folder"].mkdir()
    os.mkfifo(paths["fifo"])
    paths["loop"].symlink_to(paths["loop"])
    paths |= {"below a file": tmp_path / "file" / "x", "device": Path("/dev/zero"), "NUL": Path("a\0b")}
    paths["long"] = tmp_path / ("n" * 300)
    (tmp_path / "file").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the address of a socket holds about 100 bytes
        server.bind("socket.safetensors")
        os.chdir(here)
        yield paths


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "there is no such file"),
        ("folder", "this is a folder"),
        ("fifo", "this is a named pipe"),
        ("socket", "this is a socket"),
        ("device", "this is a device"),
        ("loop", "a circle of symbolic links"),
        ("below a file", "a part of the path is a file"),
        ("NUL", "not a possible file name"),
        ("long", "the name is too long"),
    ],
)
def test_what_is_no_regular_file_is_refused_without_waiting(odd_paths: dict[str, Path], kind: str, reason: str) -> None:
    with pytest.raises(FileAccessError, match=reason):
        open_source(odd_paths[kind])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(path: Path) -> None:
    path.write_bytes(good_safetensors(lora_tensors()))
    path.chmod(0)
    with pytest.raises(FileAccessError, match="no permission"):
        open_source(path)


def test_links_to_files_are_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(good_safetensors(lora_tensors()))
    path.symlink_to("blob")
    with open_source(path) as source:
        assert len(source.tensors) == 3


def test_a_file_cut_after_opening_is_an_error_and_no_crash(path: Path) -> None:
    path.write_bytes(safetensors_bytes(entry(), floats(2)))
    with open_source(path) as source:
        os.truncate(path, path.stat().st_size - 4)
        for read in (source.array, source.raw):
            with pytest.raises(FileAccessError, match="somebody has cut it short"):
                read("a")


def test_a_replaced_file_keeps_its_bytes_for_those_who_have_it_open(path: Path, tmp_path: Path) -> None:
    path.write_bytes(safetensors_bytes(entry(), floats(2)))
    with open_source(path) as source:
        (tmp_path / "new").write_bytes(b"nothing")
        (tmp_path / "new").replace(path)
        assert source.raw("a") == floats(2)


def test_a_closed_source_says_so(path: Path) -> None:
    path.write_bytes(safetensors_bytes(entry(), floats(2)))
    source = open_source(path)
    source.close()
    source.close()
    with pytest.raises(FileAccessError, match="the file was closed"):
        source.raw("a")


def test_a_refused_file_is_closed(path: Path) -> None:
    path.write_bytes(b"no adapter at all")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(HeaderError):
            open_source(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("missing", [["preadv"], ["preadv", "pread"]])
def test_systems_without_positioned_reads_read_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    path.write_bytes(good_safetensors(lora_tensors()))
    for name in missing:
        monkeypatch.delattr(os, name)
    with open_source(path) as source:
        for name, (_, _, raw) in lora_tensors().items():
            assert source.raw(name) == raw == source.array(name).tobytes()


def test_a_small_file_is_read_whole_and_a_large_one_refused(path: Path) -> None:
    path.write_bytes(b"abc")
    assert read_small_file(path, limit=3) == b"abc"
    with pytest.raises(FormatError, match="3 bytes; at most 2"):
        read_small_file(path, limit=2)


def test_a_failing_disk_is_a_typed_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(safetensors_bytes(entry(), floats(2)))

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    with InputFile(path) as file:
        monkeypatch.setattr(os, "pread", fail)
        with pytest.raises(FileAccessError, match="reading failed at byte 4: Input/output error"):
            file.read(4, 2)


# -- content against name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><title>Sign in</title>", "a web page"),
        (b'\n <html lang="en">', "a web page"),
        (b'{"error":"Access to this model is restricted"}', "JSON text"),
        (b"algg\1\0\0\0" + bytes(20), "ggla"),
        (b"\x1f\x8b\x08" + bytes(20), "gzip"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(20), "7z"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG"),
        (bytes(257) + b"ustar\0" + bytes(300), "tar archive"),
        (bytes(100), "zero bytes"),
        (b"just a text file, nothing else", "not a safetensors file"),
    ],
)
def test_what_is_no_adapter_is_called_by_its_name(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, content)


@pytest.mark.parametrize("content", [good_torch_zip(), b"\x80\x02}.", b"\x80\x04N." + bytes(30)])
def test_a_safetensors_name_never_leads_to_a_pickle(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UnsafePickleError, match="the name says safetensors") as caught:
        open_source(path)
    assert path.name in caught.value.message


@pytest.mark.parametrize(
    ("name", "content", "container"),
    [
        ("a.pt", good_safetensors(lora_tensors()), "safetensors"),
        ("a.bin", good_gguf(), "gguf"),
        ("a.safetensors", good_gguf(), "gguf"),
        ("a.gguf", good_torch_zip(), "pytorch"),
    ],
)
def test_content_decides_and_a_misleading_name_is_a_warning(
    tmp_path: Path, name: str, content: bytes, container: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with open_source(tmp_path / name) as source:
        assert source.container == container
        assert [finding.code for finding in source.findings if finding.severity == "warning"] == ["misleading-suffix"]


@pytest.mark.parametrize("length", [0x280, 0x4B50])
def test_a_header_length_that_spells_a_signature_is_still_a_length(path: Path, length: int) -> None:
    """``80 02`` starts a pickle, ``PK`` a zip archive."""
    path.write_bytes(safetensors_bytes(json.dumps(entry()).ljust(length), bytes(8)))
    with open_source(path) as source:
        assert (source.container, source.findings) == ("safetensors", ())


def test_a_path_longer_than_a_message_leaves_room_for_the_reason(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["folder" * 20] * 5)
    deep.mkdir(parents=True)
    message = refusal(deep / "adapter.safetensors", b"")
    assert "the file is empty" in message


# -- JSON --------------------------------------------------------------------------------------------


def test_json_is_written_strictly() -> None:
    assert strict_json.dumps({"a": "é\udc80", "b": [1, None]}) == '{"a": "é\ufffd", "b": [1, null]}'
    with pytest.raises(NonFiniteError):
        strict_json.dumps([float("nan")])


def test_json_may_be_read_less_strictly_on_request() -> None:
    assert strict_json.loads('{"a":1,"a":2}', what="x", unique_keys=False) == {"a": 2}
    assert strict_json.loads("[Infinity]", what="x", finite=False) == [float("inf")]
    with pytest.raises(FormatError, match=r'^x: the name "a" is there twice'):
        strict_json.loads('{"a":1,"a":2}', what="x")


def test_brain_floats_are_the_array_type_that_others_know(path: Path) -> None:
    values = np.array([1.5, -2], ml_dtypes.bfloat16)
    path.write_bytes(safetensors_bytes(entry("BF16", [2], [0, 4]), values.tobytes()))
    with open_source(path) as source:
        assert source.array("a").dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(source.array("a"), values)


def test_the_header_prefix_is_little_endian(path: Path) -> None:
    header = json.dumps(entry()).encode()
    assert "header" in refusal(path, struct.pack(">Q", len(header)) + header + bytes(8))
