"""A zip archive of uncompressed, aligned records, written front to back.

Format: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14-16 (end
records) and 4.5.3 (zip64). Times and attributes are constants: the same records give the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .atomic import AtomicFile

ALIGNMENT = 64  # bytes; what PyTorch gives its records, so that they can be mapped

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_EXTRA = struct.Struct("<2H")

_PLAIN, _ZIP64 = 20, 45  # version needed to extract: 2.0, or 4.5 where 64-bit numbers occur
_UNIX = 3 << 8
_DATE, _TIME = 0x21, 0  # 1980-01-01 00:00, the first that the format can state
_ATTRIBUTES = 0o600 << 16
_PADDING_ID, _ZIP64_ID = 0x4246, 1  # "FB", as PyTorch marks its padding
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 record"
_LIMIT16, _LIMIT32 = 0xFFFF, 0xFFFFFFFF  # numbers from here on need one


class _Record(NamedTuple):
    name: bytes
    crc: int
    size: int
    offset: int


class StoredZip:
    """Writes records to ``file`` in order; ``finish`` writes the directory. It never seeks."""

    def __init__(self, file: AtomicFile | BinaryIO) -> None:
        self._file = file
        self._position = file.tell()
        self._records: list[_Record] = []

    def add(self, name: str, data: Buffer) -> None:
        """One record; its data starts at a multiple of ``ALIGNMENT``. ``name`` is ASCII and new."""
        view = memoryview(data)
        record = _Record(name.encode("ascii"), zlib.crc32(view), view.nbytes, self._position)
        self._write(_local_header(record))
        self._write(view)
        self._records.append(record)

    def finish(self) -> None:
        """Write the central directory and the end records."""
        start = self._position
        for record in self._records:
            self._write(_central_header(record))
        self._write(_end_records(len(self._records), start, self._position - start))

    def _write(self, data: Buffer) -> None:
        self._file.write(data)
        self._position += memoryview(data).nbytes


def _local_header(record: _Record) -> bytes:
    large = record.size >= _LIMIT32
    extra = _EXTRA.pack(_ZIP64_ID, 16) + struct.pack("<2Q", record.size, record.size) if large else b""
    extra += _padding(record.offset + _LOCAL.size + len(record.name) + len(extra))
    size = _FULL32 if large else record.size
    needed = _ZIP64 if large else _PLAIN
    fields = (needed, 0, 0, _TIME, _DATE, record.crc, size, size, len(record.name), len(extra))
    return _LOCAL.pack(b"PK\x03\x04", *fields) + record.name + extra


def _padding(position: int) -> bytes:
    """An extra field after which ``position`` is aligned; it takes four bytes at least."""
    length = -position % ALIGNMENT
    if length == 0:
        return b""
    if length < _EXTRA.size:
        length += ALIGNMENT
    return _EXTRA.pack(_PADDING_ID, length - _EXTRA.size) + bytes(length - _EXTRA.size)


def _central_header(record: _Record) -> bytes:
    large, far = record.size >= _LIMIT32, record.offset >= _LIMIT32
    numbers = [record.size] * (2 * large) + [record.offset] * far
    extra = _EXTRA.pack(_ZIP64_ID, 8 * len(numbers)) + struct.pack(f"<{len(numbers)}Q", *numbers) if numbers else b""
    needed = _ZIP64 if numbers else _PLAIN
    size, offset = _FULL32 if large else record.size, _FULL32 if far else record.offset
    fields = (_UNIX | needed, needed, 0, 0, _TIME, _DATE, record.crc, size, size, len(record.name), len(extra))
    return _CENTRAL.pack(b"PK\x01\x02", *fields, 0, 0, 0, _ATTRIBUTES, offset) + record.name + extra


def _end_records(count: int, start: int, size: int) -> bytes:
    records = b""
    if count >= _LIMIT16 or start >= _LIMIT32 or size >= _LIMIT32:
        length = _END64.size - 12  # of what follows the length itself
        records += _END64.pack(b"PK\x06\x06", length, _UNIX | _ZIP64, _ZIP64, 0, 0, count, count, size, start)
        records += _LOCATOR64.pack(b"PK\x06\x07", 0, start + size, 1)
        count, start, size = min(count, _FULL16), _FULL32, _FULL32
    return records + _END.pack(b"PK\x05\x06", 0, 0, count, count, size, start, 0)
