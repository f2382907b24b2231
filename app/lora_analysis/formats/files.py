"""Files opened once and read by position.

A path can change between two looks at it, a pipe can block for ever, and a mapped file that somebody
truncates kills the process with SIGBUS. So: one ``open`` that cannot block, one ``fstat`` of what was
opened, and ``pread`` on that descriptor for everything after.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import BinaryIO, NamedTuple

from ..errors import FileAccessError, FormatError
from .target import shortened

# O_NONBLOCK: opening a named pipe must not wait for a writer. O_NOCTTY: nor may a terminal take over the process.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
_CHUNK = 1 << 30  # bytes; one system call reads at most 2 GiB, on some systems less
_PIECE = 1 << 24  # bytes; where the system cannot read into a buffer, a large tensor is not held twice

_REASONS = {
    errno.ENOENT: "there is no such file",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "this is a folder; expected a file",
    errno.EACCES: "no permission to read it",
    errno.EPERM: "no permission to read it",
    errno.ELOOP: "the path runs in a circle of symbolic links",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENXIO: "this is a socket, a pipe or a device; expected a regular file",
}
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class FileIdentity(NamedTuple):
    """Which file this is, and in what state: equal for two descriptors of one file that nobody wrote to in between."""

    device: int
    inode: int
    size: int
    modified_ns: int


class InputFile:
    """One regular file, open for reading. Reads name their position, so threads may share it.

    Symbolic links to regular files are followed: download caches consist of them.

    Raises: FileAccessError where the path is missing, unreadable, or anything but a regular file.
    """

    __slots__ = ("_file", "_seek_lock", "label", "path", "size")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fsdecode(path)
        self.label = shortened(self.path)  # for messages
        self._seek_lock = Lock()
        try:
            self._file = io.FileIO(self.path, "rb", opener=lambda name, _: os.open(name, _FLAGS))
        except OSError as error:
            reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
            raise FileAccessError(f"{self.label}: {reason}") from error
        except ValueError as error:  # a NUL in the path, or a lone surrogate
            raise FileAccessError(f"{self.label}: not a possible file name") from error
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            self._file.close()
            kind = next((name for test, name in _KINDS if test(found.st_mode)), "no regular file")
            raise FileAccessError(f"{self.label}: this is {kind}; expected a regular file")
        self.size = found.st_size

    def read(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes from ``offset``. Raises: FileAccessError where the file ends before them."""
        data = self._read_at(offset, min(count, _CHUNK))
        if len(data) == count:
            return data
        buffer = bytearray(count)
        self.read_into(buffer, offset)
        return bytes(buffer)

    def read_each(self, extents: Sequence[tuple[int, int]]) -> bytes:
        """The bytes of many short extents, ``(offset, count)``, one after the other. Those that touch are read at once.

        Raises: FileAccessError where the file ends before the end of one.
        """
        runs: list[list[int]] = []
        end = -1
        for offset, count in extents:
            if offset == end:
                runs[-1][1] += count
            else:
                runs.append([offset, count])
            end = offset + count
        return b"".join([self.read(offset, count) for offset, count in runs])

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill ``buffer`` from ``offset``. Raises: FileAccessError where the file ends before it is full."""
        rest = memoryview(buffer)
        while len(rest):
            count = self._fill_at(offset, rest[:_CHUNK])
            if not count:
                raise FileAccessError(f"{self.label}: the file now ends at byte {offset}; somebody has cut it short")
            rest = rest[count:]
            offset += count

    def identity(self) -> FileIdentity:
        """Of the open file as it is now, whatever has become of its name."""
        found = os.fstat(self._descriptor())
        return FileIdentity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def duplicate(self) -> BinaryIO:
        """A second file object on the same open file, for readers that want one. The caller closes it."""
        return os.fdopen(os.dup(self._descriptor()), "rb")

    def close(self) -> None:
        """Release the descriptor. Closing twice is no error."""
        self._file.close()

    def __enter__(self) -> InputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _descriptor(self) -> int:
        if self._file.closed:
            raise FileAccessError(f"{self.label}: the file was closed; open it again to read from it")
        return self._file.fileno()

    def _fill_at(self, offset: int, buffer: memoryview) -> int:
        if not hasattr(os, "preadv"):
            piece = self._read_at(offset, min(len(buffer), _PIECE))
            buffer[: len(piece)] = piece
            return len(piece)
        descriptor = self._descriptor()
        try:
            return os.preadv(descriptor, [buffer], offset)
        except OSError as error:
            raise self._failed(offset, error) from error

    def _read_at(self, offset: int, count: int) -> bytes:
        descriptor = self._descriptor()
        try:
            if hasattr(os, "pread"):
                return os.pread(descriptor, count, offset)
            with self._seek_lock:  # Windows has no positioned read
                os.lseek(descriptor, offset, os.SEEK_SET)
                return os.read(descriptor, count)
        except OSError as error:
            raise self._failed(offset, error) from error

    def _failed(self, offset: int, error: OSError) -> FileAccessError:
        reason = error.strerror or type(error).__name__
        return FileAccessError(f"{self.label}: reading failed at byte {offset}: {reason}")


def read_small_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """The whole file, where it is at most ``limit`` bytes.

    Raises: FileAccessError as :class:`InputFile`; FormatError where the file is larger.
    """
    with InputFile(path) as file:
        if file.size > limit:
            raise FormatError(f"{file.label}: the file has {file.size:,} bytes; at most {limit:,} are read")
        return file.read(0, file.size)
