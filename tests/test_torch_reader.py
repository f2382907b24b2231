"""The PyTorch reader: one test per rule, and agreement with ``torch.load`` on what torch writes."""

from __future__ import annotations

import struct
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile import (
    floats,
    good_legacy,
    good_torch_zip,
    legacy_bytes,
    markers,
    op_dict,
    op_global,
    op_int,
    op_tensor,
    op_text,
    op_tuple,
    outcomes,
    pickle_of,
    torch_zip_bytes,
)
from lora_analysis.errors import FormatError, HeaderError, LoraAnalysisError, MissingExtraError, UnsafePickleError
from lora_analysis.formats import torch_pickle
from lora_analysis.formats.container import open_source
from lora_analysis.formats.torch_payload import name_tensors
from lora_analysis.formats.torch_pickle import interpret

ONE = {"0": floats(8)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.pt"


def refusal(path: Path, content: bytes, kind: type[LoraAnalysisError] = HeaderError) -> str:
    path.write_bytes(content)
    with pytest.raises(LoraAnalysisError) as caught:
        open_source(path)
    assert type(caught.value) is kind, caught.value
    assert path.name in caught.value.message
    return caught.value.message


def with_value(value: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    return torch_zip_bytes(pickle_of(value), ONE if storages is None else storages)


# -- what torch writes -------------------------------------------------------------------------------


def state_dict(torch: Any) -> dict[str, Any]:
    """Every way in which a tensor can lie in its storage, and every type."""
    base = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    tagged = base.clone()
    tagged.note = "an attribute"
    kinds = "float64 float16 bfloat16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu "
    kinds += "int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool complex64"
    return {
        "plain": base,
        "transposed": base.t(),
        "strided": base[1:4, 2:7:2],
        "row": base[2],
        "expanded_one": base[:1, :1].expand(1, 1),
        "channels_last": torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(base),
        "with attributes": tagged,
        "scalar": torch.tensor(3.5),
        "one": torch.tensor([2.5]),
        "empty": torch.empty(0, 4),
        "empty strided": torch.empty(4, 0).t(),
        **{kind: base.abs().to(getattr(torch, kind)) for kind in kinds.split()},
    }


def assert_equal_to_torch(torch: Any, path: Path, expected: Mapping[str, Any]) -> None:
    with open_source(path) as source:
        assert source.container == "pytorch"
        assert list(source.tensors) == list(expected)
        for name, tensor in expected.items():
            raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            info, array = source.tensors[name], source.array(name)
            assert info.shape == tuple(tensor.shape) == array.shape
            assert source.raw(name) == array.tobytes() == raw, name
            assert (info.nbytes, array.nbytes) == (len(raw), len(raw))
            assert array.flags.c_contiguous
            assert array.flags.writeable
            if tensor.numel() == 1:
                assert source.scalar(name) == tensor.item()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_torch_saves_is_read_as_torch_reads_it(path: Path, protocol: int) -> None:
    torch = pytest.importorskip("torch")
    torch.save(state_dict(torch), path, pickle_protocol=protocol)
    assert_equal_to_torch(torch, path, torch.load(path, weights_only=False))


def test_old_layouts_are_read_as_torch_reads_them(path: Path) -> None:
    torch = pytest.importorskip("torch")
    untyped = ("float8", "uint16", "uint32", "uint64")  # torch cannot read back what it writes
    tensors = {name: tensor for name, tensor in state_dict(torch).items() if not name.startswith(untyped)}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert_equal_to_torch(torch, path, torch.load(path, weights_only=True))


def test_a_modules_own_state_dict_is_read(path: Path) -> None:
    """An OrderedDict with attributes: the versions of its modules."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(OrderedDict(up=torch.nn.Linear(2, 3), down=torch.nn.Linear(3, 2)))
    torch.save(module.state_dict(), path)
    assert_equal_to_torch(torch, path, module.state_dict())


def test_a_tensor_marked_as_conjugated_is_refused(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.tensor([1 + 2j]).conj()}, path)
    assert "conjugated" in refusal(path, path.read_bytes())


def test_reading_does_not_load_torch_or_run_a_pickle(path: Path) -> None:
    path.write_bytes(good_torch_zip())
    outcome = outcomes([path])[0]
    assert (outcome.status, outcome.events) == ("ok", ())


# -- what a payload may be ---------------------------------------------------------------------------


def opened(path: Path, value: bytes) -> tuple[list[str], list[tuple[str, str]]]:
    path.write_bytes(with_value(value))
    with open_source(path) as source:
        return list(source.tensors), [(finding.code, finding.message) for finding in source.findings]


TENSOR = op_tensor("0", 8, (2, 4))


def test_a_nested_state_dict_is_unwrapped_and_its_siblings_reported(path: Path) -> None:
    value = op_dict({"state_dict": op_dict({"a.w": TENSOR}), "epoch": op_int(3), "optimizer": b"](" + TENSOR + b"e"})
    names, findings = opened(path, value)
    assert names == ["a.w"]
    assert findings == [("beside-state-dict", "beside state_dict, and not read: epoch, optimizer (1 tensors)")]


def test_a_list_of_tensors_is_named_by_position(path: Path) -> None:
    names, findings = opened(path, b"](" + TENSOR + TENSOR + b"e")
    assert names == ["0", "1"]
    assert [code for code, _ in findings] == ["list-payload"]


def test_dictionaries_inside_dictionaries_are_named_by_their_path(path: Path) -> None:
    value = op_dict({"string_to_param": op_dict({"*": TENSOR}), "x": b"](" + TENSOR + b"e"})
    assert opened(path, value)[0] == ["string_to_param.*", "x.0"]


def test_alphas_that_are_python_numbers_are_kept(path: Path) -> None:
    path.write_bytes(
        with_value(op_dict({"a.w": TENSOR, "a.alpha": b"G" + struct.pack(">d", 0.5), "b.alpha": op_int(4)}))
    )
    with open_source(path) as source:
        assert source.findings == ()
        assert source.tensors["a.alpha"].dtype == "F32"
        assert (source.scalar("a.alpha"), source.scalar("b.alpha")) == (0.5, 4.0)
        assert source.raw("a.alpha") == struct.pack("<f", 0.5)
        assert source.array("a.alpha").shape == ()
        assert source.array("a.alpha") == np.float32(0.5)


def test_everything_that_is_no_tensor_is_reported(path: Path) -> None:
    value = op_dict(
        {
            "a.w": TENSOR,
            "epoch": op_int(3),
            "huge.alpha": op_int(10**200),
            "flag.alpha": b"\x88",
            "name": op_text("x"),
            "dtype": op_global("torch.float32"),
            "device": op_global("torch.device") + op_tuple(op_text("cuda")) + b"R",
            "set": op_global("__builtin__.set") + op_tuple(b"]") + b"R",
            "nothing": b"N",
        }
    )
    names, ((code, message),) = opened(path, value)
    assert names == ["a.w"]
    assert code == "not-tensors"
    assert message.startswith("8 entries are no tensors and are not read: epoch, huge.alpha, flag.alpha, name, dtype,")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (op_int(3), "a single value"),
        (TENSOR, "a single value"),
        (b"}(" + op_int(0) + TENSOR + op_text("0") + TENSOR + b"u", "two entries of the file have this name"),
        (b"]q\0h\0a", "nested more than 8 deep"),
        (b"]q\0(h\0h\0h\0h\0h\0h\0h\0e", "nested more than 8 deep"),
        (op_dict({"x" * 60_000: b"](" + op_int(0) * 1000 + b"e"}), "longer names"),
    ],
)
def test_payloads_without_names_or_without_end_are_refused(path: Path, value: bytes, reason: str) -> None:
    assert reason in refusal(path, with_value(value))


def test_lists_that_share_their_items_end_at_a_limit() -> None:
    shared: Any = [0] * 100
    for _ in range(4):
        shared = [shared] * 100
    with pytest.raises(HeaderError, match="more entries"):
        name_tensors(shared, lambda _: False)


# -- globals and operations --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        op_global("os.system") + op_tuple(op_text("true")) + b"R",
        op_global("builtins.eval") + b"0" + op_dict({"a": TENSOR}),
        op_global("torch._utils.__builtins__"),
        op_global("torch.load"),
        op_global("collections.OrderedDict.fromkeys"),
        op_global("numpy.core.multiarray.scalar"),
        b"\x8c\x02os\x8c\x06system\x93",
        op_int(1) + op_text("system") + b"\x93",
        op_text("print") + op_tuple() + b"R",
        op_global("torch.float32") + op_tuple() + b"R",
        op_tuple(op_text("torch"), op_text("Size")) + op_tuple() + b"R",
        op_global("torch._tensor._rebuild_from_type_v2")
        + op_tuple(op_global("torch.Size"), op_global("torch.float32"), op_tuple(), b"N")
        + b"R",
        b"i" + b"os\nsystem\n",
        b"(" + op_global("torch.Size") + b"o",
        op_global("torch.Size") + b")\x81",
        b"P0\n",
        b"\x82\1",
    ],
)
def test_what_saved_tensors_do_not_need_is_refused_and_not_run(path: Path, value: bytes) -> None:
    assert "nothing was run" in refusal(path, with_value(value), UnsafePickleError)


def test_a_refused_global_is_named(path: Path) -> None:
    assert "os.system" in refusal(path, with_value(op_global("os.system")), UnsafePickleError)


def test_payloads_that_would_run_leave_no_trace(tmp_path: Path) -> None:
    call = op_global("builtins.open") + op_tuple(op_text(str(tmp_path / "PWNED")), op_text("w")) + b"R"
    files = {
        "bare.pt": pickle_of(call),
        "zip.pt": with_value(call),
        "popped.pt": with_value(call + b"0" + op_dict({"a": TENSOR})),
        "key.pt": with_value(b"}" + call + b"Ns"),
        "argument.pt": with_value(op_global("torch.device") + op_tuple(call) + b"R"),
        "storage.pt": with_value(op_tuple(op_text("storage"), call, op_text("0"), op_text("cpu"), op_int(8)) + b"Q"),
        "legacy.pt": legacy_bytes(call, {}),
        "persistent.pt": with_value(call + b"Q"),
        "state.pt": with_value(b"}" + call + b"b"),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for outcome in outcomes([tmp_path / name for name in files]):
        assert (outcome.status, outcome.error, outcome.events) == ("error", "UnsafePickleError", ())
    assert markers(tmp_path) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"0", "it takes a value that is not there"),
        (b"(" + b"a", "it takes a value that is not there"),
        (b"q\0", "it stores a value that is not there"),
        (b"h\7", "value 7 is used before it is stored"),
        (b"t", "a mark is missing"),
        (b"]a", "it takes a value that is not there"),
        (b"N\x86", "it takes values that are not there"),
        (b"N(\x85", "it takes values that are not there"),
        (b"}NNa", "a list is expected, a NoneType is there"),
        (b"]NNs", "a dict is expected, a list is there"),
        (b"}(Nu", "a key without its value"),
        (b"}NNs", "key of the type NoneType"),
        (b"}" + op_tuple(op_int(1)) + b"Ns", "key of the type tuple"),
        (b"}" + op_int(1 << 61) + b"Ns", "key of the type int"),
        (b"}Nb", "attributes are expected to be a dictionary"),
        (b"ctorch", "a global's name does not end"),
        (b"X\xff\xff\0\0abc", "65,535 bytes are declared"),
        (b"\x8d" + struct.pack("<Q", 2**40) + b"abc", "1,099,511,627,776 bytes are declared"),
        (b"X\1\0\0\0\xff", "a string is not UTF-8"),
        (b"X\3\0\0\0\xed\xa0\x80", "a string is not UTF-8"),
        (b"\x8a\xff" + bytes(9), "255 bytes are declared"),
        (b"NQ", "something that is no short tuple"),
        (op_tuple(op_text("module"), b"N", op_text("a"), op_text("b")) + b"Q", "a storage in an unknown form"),
        (op_global("collections.OrderedDict") + op_tuple(b"N") + b"R", "gives collections.OrderedDict 1 arguments"),
        (op_global("torch.Size") + op_tuple(op_tuple(op_text("a"))) + b"R", "no tuple of whole numbers"),
        (op_global("torch.device") + op_tuple(*[b"N"] * 17) + b"R", "something other than a few arguments"),
        (op_global("torch._utils._rebuild_parameter") + op_tuple(b"N") + b"R", "no tensor"),
        (op_global("torch._utils._rebuild_tensor_v2") + op_tuple(*[b"N"] * 6) + b"R", "no typed storage"),
    ],
)
def test_broken_pickles_are_refused(path: Path, value: bytes, reason: str) -> None:
    content = torch_zip_bytes(b"\x80\x02" + value + (b"" if value[:1] in b"cX\x8d\x8a" else b"."), {})
    assert reason in refusal(path, content)


def test_a_pickle_that_does_not_stop_or_goes_on_is_refused(path: Path) -> None:
    assert "without its STOP" in refusal(path, torch_zip_bytes(b"\x80\x02N", {}))
    assert "after the end" in refusal(path, torch_zip_bytes(pickle_of(b"}") + b"N", {}))


def test_the_number_of_operations_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_pickle, "_MAX_OPERATIONS", 100)
    with pytest.raises(HeaderError, match="more than 100 operations"):
        interpret(pickle_of(b"N" * 200))


def amplifiers() -> dict[str, bytes]:
    """Small pickles that a careless interpreter would spend hours or gigabytes on."""
    million = b"](" + b"N" * 900_000 + b"eq\0"
    wide = b"(" + b"N" * 900_000 + b"tq\0"
    return {
        "containers": b"(" + b"]" * 5_000_000,
        "memo": b"N" + b"".join(b"r" + struct.pack("<I", index) for index in range(1_000_000)),
        "lists in lists": b"]q\0"
        + b"".join(b"](h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)),
        "tuples as keys": b")q\0" + b"h\0h\0\x86q\0" * 60 + b"}h\0Ns",
        "equal hashes": b"}(" + b"".join(op_int(index * (2**61 - 1)) + b"N" for index in range(1, 200_000)) + b"u",
        "long sizes": wide + (op_global("torch.Size") + b"h\0\x85R0") * 20_000,
        "long arguments": wide + (op_global("torch.device") + b"h\0R0") * 20_000,
        "long storage ids": wide + b"h\0Q0" * 100_000,
        "long dictionaries": million + (op_global("collections.OrderedDict") + b"h\0\x85R0") * 10_000,
        "long names": op_dict({"n" * 10_000_000: b"](" + b"N" * 900_000 + b"e"}),
        "deep tuples": b")" + b"\x85" * 1_900_000,
    }


@pytest.mark.parametrize("name", sorted(amplifiers()))
def test_pickles_that_amplify_stay_within_time_and_memory(path: Path, name: str) -> None:
    path.write_bytes(with_value(amplifiers()[name]))
    outcome = outcomes([path])[0]
    assert outcome.status == "error", outcome
    assert outcome.seconds < 5, outcome
    assert outcome.megabytes < 512, outcome


# -- tensors and storages ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (op_tensor("0", 8, (3, 4)), "reaches element 12 of a storage of 8"),
        (op_tensor("0", 8, (2, 4), offset=1), "reaches element 9 of a storage of 8"),
        (op_tensor("0", 8, (2, 4), (1, 4)), "reaches element 14"),
        (op_tensor("0", 8, (2**20, 2**20), (0, 0)), "repeats those of a storage of 8"),
        (op_tensor("0", 8, (4, 4), (1, 1)), "repeats those of a storage of 8"),
        (op_tensor("0", 8, (2, 4), (-4, 1)), "no whole numbers"),
        (op_tensor("0", 8, (2, 4), offset=-1), "no whole numbers"),
        (op_tensor("0", 8, (2, 4), (1,)), "2 sizes and 1 strides"),
        (op_tensor("0", 8, (1,) * 65), "more than 64"),
        (op_tensor("0", 16, (2, 4)), "should have 64 bytes and has 32"),
        (op_tensor("0", 4, (2, 2)), "should have 16 bytes and has 32"),
        (op_tensor("1", 8, (2, 4)), "storage 1 is not in the file"),
        (op_tensor("../data.pkl", 8, (2, 4)), "is not in the file"),
        (op_tensor("0", 8, (2, 4), kind="torch.QInt8Storage"), "QInt8Storage"),
        (op_tensor("0", 8, (2, 4), kind="torch.storage.UntypedStorage"), "no typed storage"),
        (op_tensor("0", -8, (2, 4)), "in an unknown form"),
    ],
)
def test_tensors_that_do_not_fit_their_storage_are_refused(path: Path, value: bytes, reason: str) -> None:
    kind = UnsafePickleError if "QInt8" in reason else HeaderError
    assert reason in refusal(path, with_value(op_dict({"a": value})), kind)


def test_many_names_for_one_storage_are_refused_before_a_copy_multiplies_it(path: Path) -> None:
    shared = {"0": bytes(100_000)}
    tied = op_dict({str(index): op_tensor("0", 25_000, (25_000,)) for index in range(3)})
    path.write_bytes(with_value(tied, shared))
    open_source(path).close()
    many = op_dict({str(index): op_tensor("0", 25_000, (25_000,)) for index in range(40)})
    assert "16 times the file" in refusal(path, with_value(many, shared))


def test_a_view_is_gathered_from_its_part_of_the_file(path: Path) -> None:
    value = op_dict({"a": op_tensor("0", 8, (2, 2), (1, 3), offset=2)})
    path.write_bytes(with_value(value))
    everything = np.frombuffer(floats(8), "<f4")
    with open_source(path) as source:
        np.testing.assert_array_equal(source.array("a"), everything[[[2, 5], [3, 6]]])
        assert source.raw("a") == everything[[2, 5, 3, 6]].tobytes()


# -- the archive -------------------------------------------------------------------------------------


def archive(edit: Callable[[zipfile.ZipFile], None]) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        edit(file)
    return stream.getvalue()


def records(names: Sequence[str], **options: Any) -> bytes:
    def write(file: zipfile.ZipFile) -> None:
        for name in names:
            file.writestr(zipfile.ZipInfo(name), pickle_of(b"}"), **options)

    return archive(write)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (records(["a/data.pkl"], compress_type=zipfile.ZIP_DEFLATED), "compressed"),
        (records(["a/data.pkl", "b/data.pkl"]), "no PyTorch file"),
        (records(["data.pkl"]), "no PyTorch file"),
        (records(["a/other"]), "no PyTorch file: data.pkl is missing"),
        (records(["a/data.pkl", "a/code/x.py"]), "a TorchScript program"),
        (records(["a/data.pkl", "a/constants.pkl"]), "a TorchScript program"),
        (torch_zip_bytes(pickle_of(b"}"), {}, {"byteorder": b"big"}), "big-endian"),
        (good_torch_zip() + b"appended", "no directory at its end"),
        (good_torch_zip()[:-10], "no directory at its end"),
        (good_torch_zip().replace(b"little", b"litt1e", 1), "big-endian"),
        (good_torch_zip().replace(b"a.lora_up", b"b.lora_up", 1), "data.pkl: the checksum is wrong"),
        (good_torch_zip().replace(b"archive/data/1", b"archive/data/0", 1), "contradicts"),
        (good_torch_zip().replace(b"archive/data/1", b"archive/data/0"), "two records of this name"),
        (b"PK\x03\x04" + bytes(10), "cut off"),
    ],
)
def test_broken_archives_are_refused(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, content)


def patched(place: int, code: str, value: int, *, signature: bytes, nth: int = 0) -> bytes:
    """A good archive with one field of the nth header of a kind changed."""
    content = bytearray(good_torch_zip())
    start = -1
    for _ in range(nth + 1):
        start = content.index(signature, start + 1)
    struct.pack_into("<" + code, content, start + place, value)
    return bytes(content)


CENTRAL, LOCAL, END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (patched(8, "H", 1, signature=CENTRAL), "encrypted"),
        (patched(10, "H", 8, signature=CENTRAL), "compressed"),
        (patched(20, "I", 5, signature=CENTRAL), "compressed"),
        (patched(24, "I", 10**9, signature=CENTRAL), "compressed"),
        (patched(28, "H", 60_000, signature=CENTRAL), "directory is broken"),
        (patched(42, "I", 10**9, signature=CENTRAL), "reaches past the end"),
        (patched(42, "I", 1, signature=CENTRAL), "contradicts"),
        (patched(42, "I", 0xFFFFFFFF, signature=CENTRAL), "no zip64 sizes"),
        (patched(6, "H", 1, signature=LOCAL), "contradicts"),
        (patched(8, "H", 8, signature=LOCAL), "contradicts"),
        (patched(14, "I", 5, signature=LOCAL), "contradicts"),
        (patched(22, "I", 5, signature=LOCAL), "contradicts"),
        (patched(28, "H", 5000, signature=LOCAL), "reaches past the end"),
        (patched(28, "H", 40, signature=LOCAL, nth=2), "overlap"),
        (patched(4, "H", 1, signature=END), "several parts"),
        (patched(8, "H", 3, signature=END), "several parts"),
        (patched(16, "I", 3, signature=END), "does not end where the archive ends"),
        (patched(20, "H", 3, signature=END), "no directory at its end"),
    ],
)
def test_headers_that_disagree_are_refused(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, content)


def test_counts_are_checked_against_the_directory(path: Path) -> None:
    content = bytearray(good_torch_zip())
    struct.pack_into("<2H", content, len(content) - 22 + 8, 60_000, 60_000)
    assert "declares 60,000 records" in refusal(path, bytes(content))
    struct.pack_into("<2H", content, len(content) - 22 + 8, 4, 4)
    assert "bytes after its last entry" in refusal(path, bytes(content))


def test_every_cut_of_an_archive_is_refused(path: Path) -> None:
    content = good_torch_zip()
    for size in range(9, len(content)):
        refusal(path, content[:size])


def as_zip64(content: bytes) -> bytes:
    """The directory as it is written where sizes need 64 bits: sentinels, an extra field, a second end record."""
    start = content.index(CENTRAL)
    directory, position, count = b"", start, 0
    while content[position : position + 4] == CENTRAL:
        size, offset = (
            struct.unpack_from("<I", content, position + 24)[0],
            struct.unpack_from("<I", content, position + 42)[0],
        )
        name = content[position + 46 : position + 46 + struct.unpack_from("<H", content, position + 28)[0]]
        entry = bytearray(content[position : position + 46])
        struct.pack_into("<2I", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
        struct.pack_into("<H", entry, 30, 28)
        struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
        directory += bytes(entry) + name + struct.pack("<2H3Q", 1, 24, size, size, offset)
        position, count = position + 46 + len(name), count + 1
    end = start + len(directory)
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    unknown = struct.pack("<4s4H2IH", END, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return content[:start] + directory + record + locator + unknown


def test_sizes_of_64_bits_are_read(path: Path) -> None:
    content = as_zip64(good_torch_zip())
    path.write_bytes(content)
    with zipfile.ZipFile(path) as reference:  # the test's own archive is one
        assert reference.testzip() is None
    with open_source(path) as source:
        np.testing.assert_array_equal(source.array("a.lora_down.weight").ravel(), np.frombuffer(floats(8), "<f4"))
    assert "zip64 directory record" in refusal(path, content.replace(b"PK\x06\x06", b"PK\x06\x05"))


def test_a_wrong_checksum_on_the_pickle_is_noticed(path: Path) -> None:
    content = good_torch_zip()
    right = struct.pack("<I", zlib.crc32(content[content.index(b"\x80\x02") : content.index(b"PK\x03\x04", 4)]))
    assert "checksum" in refusal(path, content.replace(right, b"\0\0\0\0"))


# -- the layout before torch 1.6 ---------------------------------------------------------------------


def test_an_old_file_needs_the_extra_and_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    path.write_bytes(good_legacy())
    with pytest.raises(MissingExtraError, match=r"adapter.pt: .*pip install 'lora-analysis\[torch\]'") as caught:
        open_source(path)
    assert caught.value.extra == "torch"


def test_an_old_torch_is_not_trusted_with_old_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: "2.9.1+cpu")
    path.write_bytes(good_legacy())
    with pytest.raises(MissingExtraError, match=r"torch 2.10 or newer; 2.9.1\+cpu is installed"):
        open_source(path)


def test_an_unsafe_old_file_is_refused_before_torch_is_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    content = legacy_bytes(op_global("os.system") + op_tuple(op_text("true")) + b"R", {})
    assert "os.system" in refusal(path, content, UnsafePickleError)


def old(value: bytes, *storages: tuple[str, int, bytes]) -> bytes:
    return legacy_bytes(op_dict({"a": value}), {key: (count, raw) for key, count, raw in storages})


EIGHT = ("7", 8, floats(8))
OLD_TENSOR = op_tensor("7", 8, (2, 4), legacy=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (old(OLD_TENSOR, ("7", 7, floats(7))), "the file is cut off"),
        (old(OLD_TENSOR, ("7", 9, floats(8))), "another size than the pickle says"),
        (old(OLD_TENSOR, EIGHT) + b"x", "1 bytes after the last storage"),
        (old(OLD_TENSOR, ("8", 8, floats(8))), "not the list of those in use"),
        (old(OLD_TENSOR, EIGHT, ("8", 0, b"")), "not the list of those in use"),
        (
            old(b"](" + OLD_TENSOR + op_tensor("7", 8, (1,), kind="torch.HalfStorage", legacy=True) + b"e", EIGHT),
            "twice",
        ),
        (old(op_tensor("7", 8, (2, 8), legacy=True), EIGHT), "reaches element 16"),
        (
            good_legacy().replace(b"M" if b"M\xe9\x03" in good_legacy() else b"J\xe9\x03", b"J\xea\x03", 1),
            "unknown version",
        ),
        (good_legacy().replace(b"little_endian\x88", b"little_endian\x89"), "big-endian"),
    ],
)
def test_broken_old_files_are_refused(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, content)


def test_every_cut_of_an_old_file_is_refused(path: Path) -> None:
    content = good_legacy()
    for size in range(16, len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(FormatError):
            open_source(path)


def test_old_files_with_long_pickles_are_read(path: Path) -> None:
    pytest.importorskip("torch")
    value = op_dict({"a.alpha": op_int(2), **{f"{'n' * 500}{index}": OLD_TENSOR for index in range(3000)}})
    path.write_bytes(legacy_bytes(value, {"7": (8, floats(8))}))
    with open_source(path) as source:
        assert len(source.tensors) == 3001


def test_torchs_own_message_is_never_forwarded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[31mretry with weights_only=False")

    monkeypatch.setattr(torch, "load", fail)
    path.write_bytes(good_legacy())
    with open_source(path) as source, pytest.raises(FormatError) as caught:
        source.array("a.lora_down.weight")
    assert "weights_only" not in caught.value.message
    assert path.name in caught.value.message


def test_values_of_an_old_file_come_back(path: Path) -> None:
    pytest.importorskip("torch")
    content = legacy_bytes(op_dict({"a.w": OLD_TENSOR, "a.alpha": op_int(2)}), {"7": (8, floats(8))})
    path.write_bytes(content)
    with open_source(path) as source:
        info = source.tensors["a.w"]
        assert content[info.offset : info.offset + info.nbytes] == floats(8) == source.raw("a.w")
        assert source.scalar("a.alpha") == 2.0
        assert source.array("a.w").shape == (2, 4)
