"""Read GGUF adapters: key-value pairs, tensor descriptions, aligned data.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. Every count and length is checked
against the bytes that are left before anything is allocated or looped over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ..adapter import Finding, TensorInfo
from ..errors import HeaderError
from .files import InputFile
from .source import FileSource
from .wrong_types import GGUF_MAGIC

if TYPE_CHECKING:
    from ..adapter import FloatArray

_VERSIONS = (2, 3)
_MAX_RANK = 4  # dimensions, GGML_MAX_DIMS
_MAX_ELEMENTS = 1 << 59  # of up to 8 bytes: what 64-bit programs can hold
_WINDOW = 1 << 16
_KEPT_ITEMS = 1024  # of an array value; a tokenizer's word list is no metadata of an adapter
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_ARRAY_DEPTH = 4
_MAX_ITEMS = 1_000_000  # strings in all arrays; some word lists have 500,000
_MAX_TENSORS = 100_000
_MAX_PAIRS = 100_000
_SHORTEST_PAIR = 8 + 4 + 1  # bytes: an empty key, a type, a value
_SHORTEST_TENSOR = 8 + 4 + 4 + 8
_ALIGNMENT_KEY = "general.alignment"
_Q8_0 = 8
_Q8_BLOCK = 32  # values, after one float16 scale


class _Encoding(NamedTuple):
    dtype: str  # as this package presents it
    block: int  # values
    block_bytes: int


_ENCODINGS = {
    0: _Encoding("F32", 1, 4),
    1: _Encoding("F16", 1, 2),
    _Q8_0: _Encoding("F32", _Q8_BLOCK, 2 + _Q8_BLOCK),
    24: _Encoding("I8", 1, 1),
    25: _Encoding("I16", 1, 2),
    26: _Encoding("I32", 1, 4),
    27: _Encoding("I64", 1, 8),
    28: _Encoding("F64", 1, 8),
    30: _Encoding("BF16", 1, 2),
}


class _Tensor(NamedTuple):
    name: str
    shape: tuple[int, ...]
    encoding: int
    offset: int  # in the data section

    @property
    def stored_bytes(self) -> int:
        kind = _ENCODINGS[self.encoding]
        return prod(self.shape) // kind.block * kind.block_bytes


class GgufSource(FileSource):
    """A file source that presents 8-bit blocks as float32."""

    def __init__(
        self,
        file: InputFile,
        tensors: dict[str, TensorInfo],
        blocks: dict[str, int],  # stored bytes of the Q8_0 tensors
        metadata: dict[str, Any],
        findings: list[Finding],
    ) -> None:
        super().__init__("gguf", file, tensors, metadata, findings)
        self._blocks = blocks

    def array(self, name: str) -> FloatArray:
        if name not in self._blocks:
            return super().array(name)
        info = self.tensors[name]
        return _dequantised(self._file.read(info.offset, self._blocks[name])).reshape(info.shape)

    def raw(self, name: str) -> bytes:
        return self.array(name).tobytes() if name in self._blocks else super().raw(name)


def _dequantised(blocks: bytes) -> FloatArray:
    """``scale * value`` in float32, one float16 scale for 32 signed bytes. Source: ``dequantize_row_q8_0`` in ggml."""
    import numpy as np

    table = np.frombuffer(blocks, np.dtype([("scale", "<f2"), ("values", "i1", (_Q8_BLOCK,))]))
    with np.errstate(invalid="ignore"):  # an infinite scale times zero: a value like any other, judged elsewhere
        values: FloatArray = table["values"].astype(np.float32) * table["scale"].astype(np.float32)[:, None]
    return values


def open_gguf(file: InputFile, *, header_limit: int) -> FileSource:
    """Read the header of ``file``, at most ``header_limit`` bytes of it.

    GGUF lists dimensions from the fastest; shapes here are those of arrays: down ``(rank, in)``, up ``(out, rank)``.

    Raises: HeaderError.
    """
    cursor = _Cursor(file, min(header_limit, file.size))
    if cursor.take(4) != GGUF_MAGIC:
        raise HeaderError("not a GGUF file")
    version = cursor.number("I")
    if version not in _VERSIONS:
        hint = " (a big-endian file)" if version and version % (1 << 16) == 0 else ""
        raise HeaderError(f"GGUF version {version}{hint}; versions 2 and 3, little endian, are read")
    tensor_count, pair_count = cursor.count(_SHORTEST_TENSOR), cursor.count(_SHORTEST_PAIR)
    if tensor_count > _MAX_TENSORS or pair_count > _MAX_PAIRS:
        raise HeaderError(f"{tensor_count:,} tensors and {pair_count:,} metadata pairs are more than is read")
    metadata = _pairs(cursor, pair_count)
    described = [_tensor(cursor) for _ in range(tensor_count)]
    start = _aligned(cursor.position, _alignment(metadata))
    tensors = _located(described, start, _alignment(metadata), file.size)
    blocks = {tensor.name: tensor.stored_bytes for tensor in described if tensor.encoding == _Q8_0}
    return GgufSource(file, tensors, blocks, metadata, _findings(blocks))


def _findings(blocks: dict[str, int]) -> list[Finding]:
    if not blocks:
        return []
    return [Finding("info", "quantised", f"{len(blocks)} tensors are stored as Q8_0 and read as F32")]


@dataclass(slots=True)
class _Cursor:
    """Reads a file from its start in windows, and refuses to pass ``limit``."""

    file: InputFile
    limit: int
    position: int = 0
    items: int = 0  # of arrays that had to be walked
    _window: bytes = b""
    _window_start: int = 0
    _structs: dict[str, struct.Struct] = field(default_factory=dict)

    def take(self, count: int) -> bytes:
        if count > self.limit - self.position:
            left = self.limit - self.position
            raise HeaderError(
                f"{count:,} bytes are declared at byte {self.position:,} of the header, {left:,} are left"
            )
        start = self.position - self._window_start
        if start + count > len(self._window):
            size = min(max(count, _WINDOW), self.limit - self.position)
            self._window, self._window_start, start = self.file.read(self.position, size), self.position, 0
        self.position += count
        return self._window[start : start + count]

    def number(self, code: str) -> Any:
        layout = self._structs.setdefault(code, struct.Struct("<" + code))
        return layout.unpack(self.take(layout.size))[0]

    def count(self, item_bytes: int) -> int:
        """A 64-bit count of items that take at least ``item_bytes`` each."""
        count: int = self.number("Q")
        left = self.limit - self.position
        if count * item_bytes > left:
            raise HeaderError(f"{count:,} items of at least {item_bytes} bytes are declared, {left:,} bytes are left")
        return count

    def text(self) -> str:
        try:
            return self.take(self.count(1)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise HeaderError(f"a string before byte {self.position:,} is not UTF-8") from error


def _pairs(cursor: _Cursor, count: int) -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.text()
        if key in pairs:
            raise HeaderError(f"the key {key[:80]} is there twice")
        pairs[key] = _value(cursor, cursor.number("I"))
    return pairs


def _value(cursor: _Cursor, kind: int, depth: int = 0) -> Any:
    if kind == _STRING:
        return cursor.text()
    if kind in _NUMBERS:
        return cursor.number(_NUMBERS[kind])
    if kind != _ARRAY or depth == _MAX_ARRAY_DEPTH:
        raise HeaderError(f"a value before byte {cursor.position:,} has the unknown type {kind}, or too deep an array")
    return _array(cursor, depth + 1)


def _array(cursor: _Cursor, depth: int) -> Any:
    """The items where they are few, otherwise a sentence about them."""
    kind = cursor.number("I")
    if kind in _NUMBERS:
        item_bytes = struct.calcsize("<" + _NUMBERS[kind])
        count = cursor.count(item_bytes)
        raw = cursor.take(count * item_bytes)
        return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", raw)) if count <= _KEPT_ITEMS else _summary(count)
    count = cursor.count(8)
    cursor.items += count
    if cursor.items > _MAX_ITEMS:
        raise HeaderError(f"{cursor.items:,} array items in the metadata are more than is read")
    kept: list[Any] = []
    for _ in range(count):
        item = _value(cursor, kind, depth)
        if len(kept) < _KEPT_ITEMS:
            kept.append(item)
    return kept if count <= _KEPT_ITEMS else _summary(count)


def _summary(count: int) -> str:
    return f"[{count} items]"


def _tensor(cursor: _Cursor) -> _Tensor:
    name = cursor.text()
    rank = cursor.number("I")
    if rank > _MAX_RANK:
        raise HeaderError(f"{name}: {rank} dimensions; GGUF has at most {_MAX_RANK}")
    shape = tuple(reversed([cursor.number("Q") for _ in range(rank)]))
    if prod(size or 1 for size in shape) > _MAX_ELEMENTS:  # also where there are none, beside a zero
        raise HeaderError(f"{name}: the shape {list(shape)} is beyond what 64-bit programs can hold")
    encoding = cursor.number("I")
    if encoding not in _ENCODINGS:
        raise HeaderError(f"{name}: tensor type {encoding} is not read; F32, F16, BF16 and Q8_0 are")
    if (shape and shape[-1] % _ENCODINGS[encoding].block) or (not shape and encoding == _Q8_0):
        raise HeaderError(f"{name}: rows of {shape[-1:]} values do not fill blocks of {_Q8_BLOCK}")
    return _Tensor(name, shape, encoding, cursor.number("Q"))


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get(_ALIGNMENT_KEY, 32)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise HeaderError(f"{_ALIGNMENT_KEY} is {str(alignment)[:40]}; expected a power of two")
    return alignment


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _located(described: list[_Tensor], start: int, alignment: int, size: int) -> dict[str, TensorInfo]:
    """Check that every tensor is inside the file and no two overlap."""
    tensors: dict[str, TensorInfo] = {}
    for tensor in described:
        if tensor.name in tensors:
            raise HeaderError(f"{tensor.name}: two tensors have this name")
        if tensor.offset % alignment or start + tensor.offset + tensor.stored_bytes > size:
            raise HeaderError(f"{tensor.name}: the data is unaligned or reaches past the end; the file may be cut off")
        kind = _ENCODINGS[tensor.encoding]
        nbytes = prod(tensor.shape) * (4 if tensor.encoding == _Q8_0 else kind.block_bytes)
        tensors[tensor.name] = TensorInfo(kind.dtype, tensor.shape, start + tensor.offset, nbytes)
    for first, second in pairwise(sorted(described, key=lambda tensor: (tensor.offset, tensor.stored_bytes))):
        if first.offset + first.stored_bytes > second.offset:
            raise HeaderError(f"{second.name}: the data overlaps that of {first.name}")
    return tensors
