"""Write a safetensors file: atomic, deterministic, one tensor in memory.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .atomic import AtomicFile, atomic_file
from .chunks import Cancel, Progress, checked_chunks, closing_chunks
from .digests import DataDigest, requested_hashes
from .layout import TensorPlan as TensorPlan
from .layout import data_size, header_bytes
from .layout import predicted_size as predicted_size
from .target import PathLike

if TYPE_CHECKING:
    from typing_extensions import Buffer


_PIECE = 1 << 21  # bytes that are hashed at a time: read by one core, they are in the shared cache for the other


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What was written. Hashes are 64 hex digits, None where they were not asked for."""

    path: str
    size: int  # bytes
    sha256: str | None  # of the whole file; AutoV2 is its first 10 digits
    data_sha256: str | None  # of the tensor data in file order; AutoV3 is its first 12 digits
    dropped_metadata: tuple[str, ...] = ()  # keys that the container has no place for

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "dropped_metadata": list(self.dropped_metadata)}


def write_safetensors(
    target: PathLike,
    tensors: Sequence[TensorPlan],
    chunks: Iterable[Buffer],
    metadata: Mapping[str, str],
    *,
    overwrite: bool = False,
    with_hashes: bool = True,
    late_metadata: Callable[[], Mapping[str, str]] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> WriteReport:
    """Write ``tensors`` to ``target``, whole or not at all; the same arguments give the same bytes.

    ``chunks`` yields one C-ordered, little-endian buffer per tensor, in the order of ``tensors``. Each
    is done with before the next is asked for, so a caller may reuse one buffer. Arrays of bf16 and fp8
    export no buffer: pass ``array.view(numpy.uint8)``.

    A hash in ``metadata`` that holds its placeholder (see ``digests.request_hashes``) is filled in.
    ``late_metadata`` is asked once all data is written, for metadata to write in place of ``metadata``; the header
    has to be as long as before, and may hold placeholders where ``metadata`` does.
    ``with_hashes`` also hashes the finished file, which reads it once more, from the page cache.

    Raises: OptionError for a plan or metadata that no file can hold; ShapeError for a buffer that is
    not what was planned; CancelledError; OutputError. In every case the old file is untouched.
    """
    header = header_bytes(tensors, metadata)
    size = len(header) + data_size(tensors)
    requested = requested_hashes(metadata)
    digest = DataDigest(tensors, metadata) if with_hashes or requested else None
    with closing_chunks(chunks), atomic_file(target, overwrite=overwrite, size_hint=size) as file:
        file.write(header)
        for data in checked_chunks(tensors, chunks, progress, cancel):
            file.write(data)
            if digest is not None:
                digest.update(data)
        if requested or late_metadata is not None:
            metadata = metadata if late_metadata is None else late_metadata()
            if digest is not None:
                metadata = digest.filled(metadata)
            elif requested_hashes(metadata):
                raise OptionError("the late metadata asks for hashes that the first did not ask for")
            file.seek(0)
            file.write(_of_length(len(header), header_bytes(tensors, metadata)))
        sha256 = _hashed_while_synced(file) if with_hashes else None
    return WriteReport(os.fspath(target), size, sha256, digest.hexdigest() if digest else None)


def _of_length(length: int, header: bytes) -> bytes:
    """Raises: OptionError where a header that replaces one of ``length`` bytes would overwrite data, or leave a gap."""
    if len(header) != length:
        raise OptionError(f"the late metadata makes a header of {len(header):,} bytes; {length:,} were set aside")
    return header


def _hashed_while_synced(file: AtomicFile) -> str:
    """The file's SHA-256; the disk writes while the processor reads the page cache.

    Raises: OutputError where the sync fails. It is made here because the system tells of a failure only once.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="sync") as pool:  # waits: the file is closed afterwards
        synced = pool.submit(file.sync)
        digest = file_sha256(file)
        synced.result()
    return digest


def file_sha256(file: AtomicFile) -> str:
    """SHA-256 of everything in ``file``, as 64 hex digits. The next piece is read while one is hashed."""
    digest = hashlib.sha256()
    file.seek(0)
    pieces = (memoryview(bytearray(_PIECE)), memoryview(bytearray(_PIECE)))
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        count = file.readinto(pieces[0])
        while count:
            pending = pool.submit(file.readinto, pieces[1])
            digest.update(pieces[0][:count])
            count, pieces = pending.result(), pieces[::-1]
    return digest.hexdigest()
