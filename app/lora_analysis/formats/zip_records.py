"""The records of a zip archive as ``torch.save`` writes it: stored, never compressed.

Stricter than zip readers are, because two readers that disagree on an archive are how payloads hide: one central
directory at the end, each record's own header equal to its entry there, unique names, no overlap, no encryption.

Format: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.3.16 and 4.5.3 (zip64).
"""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from typing import NamedTuple

from ..errors import HeaderError
from .files import InputFile

_MAX_RECORDS = 100_000  # one per tensor and a few more; large adapters have some 20,000
_MAX_DIRECTORY_BYTES = 32_000_000
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR64 = struct.Struct("<4sIQI")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_UNKNOWN = 0xFFFFFFFF  # "see the zip64 field"
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_SIZES_FOLLOW = 0x0008  # the local header has no sizes; torch writes it so


class Record(NamedTuple):
    """One stored record: ``offset`` and ``size`` of its bytes in the file."""

    offset: int
    size: int
    crc: int


class _Entry(NamedTuple):
    name: bytes
    method: int
    crc: int
    size: int
    header: int  # offset of the local header


def read_records(file: InputFile) -> dict[str, Record]:
    """All records by name. Reads the directory and the records' headers, not the records.

    Raises: HeaderError.
    """
    count, start, size = _directory(file)
    entries = _entries(file.read(start, size), count)
    records: dict[str, Record] = {}
    for entry in entries:
        try:
            name = entry.name.decode("utf-8")
        except UnicodeDecodeError as error:
            raise HeaderError("a record of the zip archive has a name that is not UTF-8") from error
        if name in records:
            raise HeaderError(f"{name}: the zip archive has two records of this name")
        records[name] = _record(file, entry, name, start)
    ends = sorted((entry.header, records[entry.name.decode()]) for entry in entries)
    for (_, record), (following, _) in pairwise(ends):
        if record.offset + record.size > following:
            raise HeaderError("two records of the zip archive overlap")
    return records


def read_checked(file: InputFile, record: Record, name: str) -> bytes:
    """The bytes of a record whose checksum is right. Raises: HeaderError."""
    data = file.read(record.offset, record.size)
    if zlib.crc32(data) != record.crc:
        raise HeaderError(f"{name}: the checksum is wrong; the file is damaged or was changed")
    return data


def _directory(file: InputFile) -> tuple[int, int, int]:
    """Number of entries, start and size of the central directory."""
    end = file.size - _END.size
    if end < 0:
        raise HeaderError("the zip archive is cut off; download or copy it again")
    magic, disk, first, here, count, size, start, comment = _END.unpack(file.read(end, _END.size))
    if magic != b"PK\x05\x06" or comment:
        raise HeaderError("the zip archive has no directory at its end: it is cut off, or something was appended")
    locator = end - _LOCATOR64.size
    if locator >= 0 and file.read(locator, 4) == b"PK\x06\x07":
        _, _, end, _ = _LOCATOR64.unpack(file.read(locator, _LOCATOR64.size))
        if end + _END64.size != locator:
            raise HeaderError("the zip64 directory record is not where it belongs")
        magic, _, _, _, disk, first, here, count, size, start = _END64.unpack(file.read(end, _END64.size))
        if magic != b"PK\x06\x06":
            raise HeaderError("the zip64 directory record is missing")
    if disk or first or here != count:
        raise HeaderError("the zip archive is one of several parts")
    if count > _MAX_RECORDS or size > _MAX_DIRECTORY_BYTES or count * _ENTRY.size > size:
        raise HeaderError(f"the zip archive declares {count:,} records in {size:,} bytes of directory; refused")
    if start + size != end:
        raise HeaderError("the zip archive's directory does not end where the archive ends")
    return count, start, size


def _entries(directory: bytes, count: int) -> list[_Entry]:
    entries = []
    position = 0
    for _ in range(count):
        if position + _ENTRY.size > len(directory):
            raise HeaderError("the zip archive's directory is shorter than its number of entries")
        fields = _ENTRY.unpack_from(directory, position)
        magic, _, _, flags, method, _, _, crc, packed, size, name_size, extra_size, comment_size, _, _, _, header = (
            fields
        )
        position += _ENTRY.size
        name = directory[position : position + name_size]
        extra = directory[position + name_size : position + name_size + extra_size]
        position += name_size + extra_size + comment_size
        if magic != b"PK\x01\x02" or position > len(directory):
            raise HeaderError("the zip archive's directory is broken")
        if flags & _ENCRYPTED:
            raise HeaderError("the zip archive is encrypted; PyTorch files never are")
        size, packed, header = _zip64_fields(extra, (size, packed, header))
        if method or packed != size:
            raise HeaderError("the zip archive is compressed; PyTorch stores records as they are")
        entries.append(_Entry(name, method, crc, size, header))
    if position != len(directory):
        raise HeaderError("the zip archive's directory has bytes after its last entry")
    return entries


def _zip64_fields(extra: bytes, fields: tuple[int, int, int]) -> tuple[int, int, int]:
    """Replace the fields that do not fit into 32 bits by those of the zip64 field, in its order."""
    if _UNKNOWN not in fields:
        return fields
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        if kind == 1 and length >= 8 * fields.count(_UNKNOWN) and position + 4 + length <= len(extra):
            values = iter(struct.unpack_from(f"<{length // 8}Q", extra, position + 4))
            size, packed, header = (next(values) if value == _UNKNOWN else value for value in fields)
            return size, packed, header
        position += 4 + length
    raise HeaderError("a record of the zip archive has no zip64 sizes where it needs them")


def _record(file: InputFile, entry: _Entry, name: str, directory: int) -> Record:
    """Check a record's own header against its entry in the directory."""
    header_size = _LOCAL.size + len(entry.name)
    if entry.header + header_size + entry.size > directory:
        raise HeaderError(f"{name}: the record reaches past the end of the zip archive's records")
    header = file.read(entry.header, header_size)
    magic, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(header)
    offset = entry.header + _LOCAL.size + name_size + extra_size
    declared = {(entry.size, entry.size), (_UNKNOWN, _UNKNOWN), (0, 0) if flags & _SIZES_FOLLOW else None}
    agrees = (
        magic == b"PK\x03\x04"
        and not flags & _ENCRYPTED
        and method == entry.method
        and header[_LOCAL.size :] == entry.name
        and name_size == len(entry.name)
        and (packed, size) in declared
        and (crc == entry.crc or bool(flags & _SIZES_FOLLOW))
    )
    if not agrees:
        raise HeaderError(f"{name}: the record's own header contradicts the zip archive's directory")
    if offset + entry.size > directory:
        raise HeaderError(f"{name}: the record reaches past the end of the zip archive's records")
    return Record(offset, entry.size, entry.crc)
