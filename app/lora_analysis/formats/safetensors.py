"""Read safetensors headers as strictly as the specification reads.

Format: https://github.com/huggingface/safetensors#format. The reference library accepts some of what
that page forbids (names twice, unknown fields, other padding than spaces), so it cannot be the gate.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from operator import mul
from typing import Any, NamedTuple, NoReturn

from ..adapter import Finding, TensorInfo
from ..errors import FileAccessError, FormatError, HeaderError
from .dtypes import BITS, MAX_DIMENSIONS, single_values
from .files import InputFile
from .source import FileSource
from .strict_json import count_strings, loads

MAX_HEADER_BYTES = 100_000_000  # the specification's own limit
METADATA_KEY = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_STRINGS_PER_TENSOR = 2 + len(_FIELDS)  # its name, the names of its fields, its dtype
_MAX_ELEMENTS = 1 << 63  # a size that 64-bit programs can hold
_JSON_SPACE = " \t\n\r"


class SafetensorsSource(FileSource):
    """A file source where every tensor's bytes lie as they are: single values are read in passing."""

    def scalars(self, names: Sequence[str]) -> dict[str, float]:
        """As :meth:`FileSource.scalars`: a folder of adapters holds hundreds of thousands of alphas."""
        by_type: dict[str, list[str]] = {}
        for name in names:
            dtype, shape, _, _ = self.tensors[name]
            if not shape or all(size == 1 for size in shape):
                by_type.setdefault(dtype, []).append(name)
        found: dict[str, float] = {}
        for dtype, group in by_type.items():
            with suppress(FormatError, FileAccessError):
                data = self._file.read_each([self.tensors[name][2:] for name in group])
                found.update(zip(group, single_values(dtype, data), strict=True))
        return found


class Header(NamedTuple):
    """What a header says, after every rule was checked."""

    tensors: dict[str, TensorInfo]
    metadata: dict[str, Any]
    findings: list[Finding]


def open_safetensors(file: InputFile, *, header_limit: int, lenient_metadata: bool) -> SafetensorsSource:
    """Read and check the header of ``file``; nothing else is read.

    Raises: HeaderError.
    """
    document = _header_bytes(file, header_limit)
    start = 8 + len(document)
    header = parse_header(document, start=start, size=file.size - start, lenient_metadata=lenient_metadata)
    return SafetensorsSource("safetensors", file, header.tensors, header.metadata, header.findings)


def _header_bytes(file: InputFile, limit: int) -> bytes:
    if file.size < 8:
        raise HeaderError(f"the file has {file.size} bytes; a safetensors file starts with 8 bytes of header length")
    length = int.from_bytes(file.read(0, 8), "little")
    if length > MAX_HEADER_BYTES:
        raise HeaderError(
            f"not a safetensors file, or a damaged one: its first 8 bytes mean a header of {length:,} bytes, "
            f"and the format allows {MAX_HEADER_BYTES:,}"
        )
    if length > file.size - 8:
        raise HeaderError(
            f"a header of {length:,} bytes is declared, {file.size - 8:,} bytes follow; the file is cut off or is "
            f"no safetensors file"
        )
    if length > limit:
        raise HeaderError(f"the header has {length:,} bytes; header_limit={limit:,} is the most that is read")
    return file.read(8, length)


def parse_header(document: bytes, *, start: int, size: int, lenient_metadata: bool = False) -> Header:
    """Check a header against the ``size`` bytes of data that follow it from byte ``start`` of the file.

    ``lenient_metadata`` keeps metadata values that are no strings, with an error finding.

    Raises: HeaderError.
    """
    text = _text(document)
    entries = _object(text, unique_keys=False)
    try:
        metadata, findings = _metadata(entries.pop(METADATA_KEY, {}), lenient_metadata)
        tensors = _tensors(entries, start, size)
    except HeaderError:
        _object(text, unique_keys=True)  # a name that is there twice explains more than the hole it leaves
        raise
    # A name that was there twice has left strings in the text that are not in the result. To count them costs a tenth
    # of asking at every object; it proves nothing where metadata values may be anything.
    strings = _STRINGS_PER_TENSOR * len(tensors) + (2 * len(metadata) + 1 if metadata else 0)
    if findings or strings != count_strings(text):
        _object(text, unique_keys=True)
    return Header(tensors, metadata, findings + _padding_findings(text))


def _text(document: bytes) -> str:
    try:
        return document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HeaderError(f"the header is not UTF-8 (byte {error.start}); the file is damaged") from error


def _object(text: str, *, unique_keys: bool) -> dict[str, Any]:
    try:
        found = loads(text, what="header", unique_keys=unique_keys)
    except FormatError as error:
        raise HeaderError(error.message) from error
    if not isinstance(found, dict):
        raise HeaderError(f"the header is a JSON {_kind(found)}; expected an object")
    return found


def _padding_findings(text: str) -> list[Finding]:
    found = []
    if text[:1] in _JSON_SPACE:
        found.append(Finding("warning", "header-leading-space", "the header starts with white space; must be '{'"))
    if text[-1] in _JSON_SPACE[1:]:
        found.append(Finding("warning", "header-padding", "the header is padded with other white space than spaces"))
    return found


# -- metadata ----------------------------------------------------------------------------------------


def _metadata(found: Any, lenient: bool) -> tuple[dict[str, Any], list[Finding]]:
    if found is None:  # written by MLX for "no metadata"; the reference library takes it as absent
        return {}, []
    if not isinstance(found, dict):
        raise HeaderError(f"{METADATA_KEY} is a JSON {_kind(found)}; expected an object of strings")
    other = [key for key, value in found.items() if not isinstance(value, str)]
    if not other:
        return found, []
    detail = f'the value of "{other[0][:80]}" is of type {_kind(found[other[0]])}' + (
        f" (and {len(other) - 1} more)" if other[1:] else ""
    )
    if not lenient:
        raise HeaderError(f"{METADATA_KEY}: {detail}; the format allows strings only. lenient_metadata=True reads it")
    return found, [Finding("error", "metadata-not-strings", f"{METADATA_KEY}: {detail}; must be a string")]


def _kind(value: Any) -> str:
    """What JSON calls it."""
    names = ((bool, "boolean"), (dict, "object"), (list, "list"), (str, "string"), ((int, float), "number"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


# -- tensors -----------------------------------------------------------------------------------------


def _tensors(entries: dict[str, Any], start: int, size: int) -> dict[str, TensorInfo]:
    """Check every entry, and that their ranges cover the data exactly. Thousands of entries: no call per entry."""
    tensors = {}
    position = 0
    in_order = True
    make = tuple.__new__  # a named tuple's own constructor is a function of Python
    for name, entry in entries.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            bits = BITS[dtype]
            if type(shape) is not list or len(shape) > MAX_DIMENSIONS:
                _refuse(name, entry)
            elements = 1
            for length in shape:
                if type(length) is not int or not 0 <= length < _MAX_ELEMENTS:
                    _refuse(name, entry)
                elements *= length
        except (KeyError, TypeError, ValueError):
            _refuse(name, entry)
        if type(begin) is not int or type(end) is not int or not 0 <= begin <= end < _MAX_ELEMENTS:
            _refuse(name, entry)
        if elements * bits != (end - begin) * 8 or len(entry) != 3 or not (elements or _is_countable(shape)):
            _refuse(name, entry)
        if begin != position:
            in_order = False
        position = end
        tensors[name] = make(TensorInfo, (dtype, tuple(shape), start + begin, end - begin))
    if not in_order:
        position = _check_ranges(tensors, start)
    if position != size:
        _refuse_size(position, size)
    return tensors


def _is_countable(shape: list[int]) -> bool:
    """No partial product overflows: what 64-bit readers check even where a zero follows."""
    return all(product < _MAX_ELEMENTS for product in accumulate(shape, mul))


def _check_ranges(tensors: dict[str, TensorInfo], start: int) -> int:
    """Tensors follow each other in some order, without holes. Returns where the last one ends."""
    position = start
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != position:
            what = "overlaps another tensor" if info.offset < position else "leaves a hole before it"
            raise HeaderError(
                f"{name}: the data starts at byte {info.offset - start} and {what} (at {position - start})"
            )
        position += info.nbytes
    return position - start


def _refuse_size(expected: int, found: int) -> NoReturn:
    if found < expected:
        raise HeaderError(
            f"the file is cut off: its tensors take {expected:,} bytes, {found:,} are there; download or copy it again"
        )
    raise HeaderError(f"{found - expected:,} bytes after the last tensor belong to nothing; the format forbids that")


def _refuse(name: str, entry: Any) -> NoReturn:
    raise HeaderError(f"{name[:120]}: {_problem(entry)}")


def _problem(entry: Any) -> str:
    """Why an entry is refused, by the first rule that it breaks."""
    if not isinstance(entry, dict):
        return f"the entry is a JSON {_kind(entry)}; expected an object"
    short = reprlib.repr  # of lists inside lists, repr may end in RecursionError
    missing, unknown = [key for key in _FIELDS if key not in entry], [key for key in entry if key not in _FIELDS]
    if missing or unknown:
        return f"the entry has no {missing[0]}" if missing else f'the entry has an unknown field "{unknown[0][:40]}"'
    dtype, shape, offsets = (entry[key] for key in _FIELDS)
    if not isinstance(dtype, str) or dtype not in BITS:
        return f"unknown dtype {short(dtype)}; known: {', '.join(BITS)}"
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS:
        return f"the shape {short(shape)} is no list of at most {MAX_DIMENSIONS} sizes"
    if not _are_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] < _MAX_ELEMENTS:
        return f"the data_offsets {short(offsets)} are no range of bytes"
    found = offsets[1] - offsets[0]
    return f"{dtype} of the shape {short(shape)} does not fit into its {found:,} bytes"


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
