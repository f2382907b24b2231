"""The GGUF reader: one test per rule, values against a second implementation written out in full."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from hostile import floats, gguf_bytes, gguf_text, good_gguf
from lora_analysis.errors import HeaderError
from lora_analysis.formats.container import open_source

TYPE = ("general.type", 8, gguf_text("adapter"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter.gguf"


def refusal(path: Path, content: bytes, **options: Any) -> str:
    path.write_bytes(content)
    with pytest.raises(HeaderError) as caught:
        open_source(path, **options)
    assert path.name in caught.value.message
    return caught.value.message


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


# -- what is read ------------------------------------------------------------------------------------


def test_metadata_names_and_shapes_come_back_in_the_order_of_arrays(path: Path) -> None:
    path.write_bytes(good_gguf())
    with open_source(path) as source:
        assert source.container == "gguf"
        assert source.metadata == {
            "general.type": "adapter",
            "adapter.type": "lora",
            "adapter.lora.alpha": 16.0,
            "adapter.alora.invocation_tokens": [1, 2, 3],
            "general.tags": ["one", "two"],
        }
        assert {name: info.shape for name, info in source.tensors.items()} == {
            "blk.0.attn_q.weight.lora_a": (2, 4),
            "blk.0.attn_q.weight.lora_b": (4, 2),
            "blk.0.attn_k.weight.lora_a": (2, 32),
        }
        np.testing.assert_array_equal(
            source.array("blk.0.attn_q.weight.lora_a"), np.frombuffer(floats(8), "<f4").reshape(2, 4)
        )
        np.testing.assert_array_equal(source.array("blk.0.attn_q.weight.lora_b"), np.arange(8.0).reshape(4, 2))


def test_eight_bit_blocks_are_presented_as_the_floats_they_stand_for(path: Path) -> None:
    path.write_bytes(good_gguf())
    expected = np.array([[scale * value for value in range(-16, 16)] for scale in (0.5, 1.0)], np.float32)
    with open_source(path) as source:
        info = source.tensors["blk.0.attn_k.weight.lora_a"]
        values = source.array("blk.0.attn_k.weight.lora_a")
        assert (info.dtype, info.nbytes, values.dtype) == ("F32", 256, np.float32)
        np.testing.assert_array_equal(values, expected)
        assert source.raw("blk.0.attn_k.weight.lora_a") == expected.tobytes()
        assert [(finding.severity, finding.code) for finding in source.findings] == [("info", "quantised")]


def test_infinite_block_scales_are_values_like_any_other(path: Path) -> None:
    block = struct.pack("<e32b", float("inf"), *range(32))
    path.write_bytes(gguf_bytes([TYPE], [("a", (32,), 8, block)]))
    with open_source(path) as source:
        assert np.isnan(source.array("a")[0])
        assert np.isinf(source.array("a")[1])


@pytest.mark.parametrize(
    ("kind", "dtype", "values"),
    [
        (0, "F32", np.array([1.5, -2], "<f4")),
        (1, "F16", np.array([1.5, -2], "<f2")),
        (30, "BF16", np.array([1.5, -2], ml_dtypes.bfloat16)),
        (28, "F64", np.array([1.5, -2], "<f8")),
        (24, "I8", np.array([1, -2], "i1")),
        (25, "I16", np.array([1, -2], "<i2")),
        (26, "I32", np.array([1, -2], "<i4")),
        (27, "I64", np.array([1, -2], "<i8")),
    ],
)
def test_every_plain_type_is_read(path: Path, kind: int, dtype: str, values: np.ndarray) -> None:
    path.write_bytes(gguf_bytes([TYPE], [("a", (2,), kind, values.tobytes())]))
    with open_source(path) as source:
        assert source.tensors["a"].dtype == dtype
        assert source.array("a").dtype == values.dtype
        np.testing.assert_array_equal(source.array("a"), values)


@pytest.mark.parametrize(
    ("kind", "encoded", "value"),
    [
        (0, b"\xff", 255),
        (1, b"\xff", -1),
        (2, struct.pack("<H", 65535), 65535),
        (3, struct.pack("<h", -5), -5),
        (4, u32(7), 7),
        (5, struct.pack("<i", -7), -7),
        (6, struct.pack("<f", 0.5), 0.5),
        (7, b"\1", True),
        (8, gguf_text("grüße"), "grüße"),
        (10, struct.pack("<Q", 2**63), 2**63),
        (11, struct.pack("<q", -(2**62)), -(2**62)),
        (12, struct.pack("<d", 0.1), 0.1),
        (9, u32(9) + struct.pack("<Q", 1) + u32(4) + struct.pack("<Q", 2) + u32(1) + u32(2), [[1, 2]]),
        (9, u32(4) + struct.pack("<Q", 2000) + u32(1) * 2000, "[2000 items]"),
        (9, u32(8) + struct.pack("<Q", 2000) + gguf_text("w") * 2000, "[2000 items]"),
    ],
)
def test_every_metadata_type_is_read_and_long_lists_are_summarised(
    path: Path, kind: int, encoded: bytes, value: Any
) -> None:
    path.write_bytes(gguf_bytes([("key", kind, encoded), TYPE], [("a", (2,), 0, floats(2))]))
    with open_source(path) as source:
        assert source.metadata["key"] == value
        assert source.metadata["general.type"] == "adapter"  # what follows is read from the right place
        np.testing.assert_array_equal(source.array("a"), [0.5, 0.625])


def test_headers_longer_than_one_read_are_read(path: Path) -> None:
    tensors = [(f"blk.{index}." + "n" * 200, (1,), 0, floats(1, index)) for index in range(1000)]
    path.write_bytes(gguf_bytes([("text", 8, gguf_text("x" * 100_000))], tensors))
    with open_source(path) as source:
        assert len(source.metadata["text"]) == 100_000
        assert [source.scalar(name) for name in source.tensors] == list(range(1000))


def test_another_alignment_is_followed(path: Path) -> None:
    pairs = [("general.alignment", 4, u32(256))]
    path.write_bytes(gguf_bytes(pairs, [("a", (1,), 0, floats(1)), ("b", (1,), 0, floats(1, 3.0))], alignment=256))
    with open_source(path) as source:
        assert source.tensors["b"].offset - source.tensors["a"].offset == 256
        assert source.scalar("b") == 3.0


# -- what is refused ---------------------------------------------------------------------------------


def one(shape: Sequence[int] = (2,), kind: int = 0, raw: bytes = floats(2), name: str = "a") -> bytes:
    return gguf_bytes([TYPE], [(name, shape, kind, raw)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GGUF" + bytes(8), "GGUF version 0"),
        (b"GGUF" + u32(1) + bytes(16), "GGUF version 1; versions 2 and 3"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "a big-endian file"),
        (b"GGUF" + u32(3), "8 bytes are declared at byte 8"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "9,223,372,036,854,775,808 items"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "9,223,372,036,854,775,808 items"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + b"general", "4,611,686,018,427,387,904 items"),
        (b"GGUF" + struct.pack("<IQQ", 3, 100_001, 0) + bytes(2_400_024), "100,001 tensors"),
        (gguf_bytes([("a", 9, u32(8) + struct.pack("<Q", 1_000_001) + bytes(8_000_008))], []), "1,000,001 array items"),
        (gguf_bytes([TYPE, TYPE], []), "the key general.type is there twice"),
        (gguf_bytes([("a", 99, b"")], []), "unknown type 99"),
        (gguf_bytes([("a", 9, u32(4) + struct.pack("<Q", 2**40))], []), "1,099,511,627,776 items"),
        (gguf_bytes([("a", 9, (u32(9) + struct.pack("<Q", 1)) * 5 + u32(4))], []), "too deep an array"),
        (gguf_bytes([("a", 8, struct.pack("<Q", 1) + b"\xff")], []), "not UTF-8"),
        (gguf_bytes([("general.alignment", 4, u32(0))], []), "general.alignment is 0"),
        (gguf_bytes([("general.alignment", 4, u32(24))], []), "general.alignment is 24"),
        (gguf_bytes([("general.alignment", 8, gguf_text("32"))], []), "general.alignment is 32; expected a power"),
        (one(shape=(1, 1, 1, 1, 2)), "5 dimensions"),
        (one(kind=2), "tensor type 2 is not read"),
        (one(shape=(2, 33), kind=8), "do not fill blocks of 32"),
        (one(shape=(), kind=8), "do not fill blocks of 32"),
        (one(shape=(2**62, 2**62)), "beyond what 64-bit programs can hold"),
        (one(shape=(2**20, 2**20)), "reaches past the end"),
        (one(shape=(0, 2**63)), "beyond what 64-bit programs can hold"),
        (one(raw=floats(1)), "reaches past the end"),
        (gguf_bytes([], [("a", (1,), 0, floats(1)), ("a", (1,), 0, floats(1))]), "two tensors have this name"),
    ],
)
def test_broken_files_are_refused(path: Path, content: bytes, reason: str) -> None:
    assert reason in refusal(path, content)


def test_tensors_that_overlap_or_are_unaligned_are_refused(path: Path) -> None:
    content = gguf_bytes([], [("a", (8,), 0, floats(8)), ("b", (8,), 0, floats(8))])
    assert "b: the data overlaps that of a" in refusal(path, content.replace(struct.pack("<IQ", 0, 32), bytes(12), 1))
    assert "unaligned" in refusal(path, content.replace(struct.pack("<IQ", 0, 32), struct.pack("<IQ", 0, 16), 1))


def test_a_header_above_the_limit_is_refused(path: Path) -> None:
    content = gguf_bytes([("text", 8, gguf_text("x" * 1000))], [])
    assert "are left" in refusal(path, content, header_limit=500)
    open_source(path, header_limit=2000).close()


def test_every_cut_is_refused(path: Path) -> None:
    content = good_gguf()
    for size in range(9, len(content)):
        refusal(path, content[:size])
