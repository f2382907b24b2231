"""Files that appear whole or not at all.

The bytes go to a temporary file beside the target, are forced to the disk, and take the target's name
in one step. A reader, or a process that has the old file mapped, never sees a half-written one; a kill
leaves the old file and at most one hidden temporary file, which a later write into that folder removes.

Order of calls, and why: write, ``fsync(file)`` (else the name can reach the disk before the bytes),
close (network file systems report a full disk only here), rename, ``fsync(folder)`` (else the rename
can be lost). Source: T. S. Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ..errors import OutputError
from .debris import remove_debris, temporary_file_beside
from .target import PathLike, explained, permissions_of_replaced, shortened
from .target import check_target as check_target  # the question to ask before the long work

if TYPE_CHECKING:
    from typing_extensions import Buffer

# O_NOFOLLOW and O_BINARY exist on one family of systems each.
_FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_WINDOWS = os.name == "nt"
_SENT_AT_ONCE = 1 << 26  # bytes

# What file systems without hard links (FAT, some network and user-space ones) answer to link().
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
# What file systems whose folders cannot be synced answer to fsync(folder).
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}


class AtomicFile(io.RawIOBase):
    """The temporary file behind :func:`atomic_file`: unbuffered, readable, seekable.

    Every failure is an OutputError that names the target, not the temporary file.
    """

    def __init__(self, descriptor: int, target: str) -> None:
        self._descriptor = descriptor
        self._target = target
        self._is_synced = False
        self._written = self._sent = 0  # bytes

    def write(self, data: Buffer, /) -> int:
        """Write all of ``data``, however many system calls that takes (one writes at most 2 GiB)."""
        view = memoryview(data)
        size = view.nbytes
        rest = view.cast("B") if size else view  # a view with a zero in its shape cannot be cast
        self._is_synced = False
        with explained(self._target):
            while rest.nbytes:
                rest = rest[os.write(self._descriptor, rest) :]
        self._written += size
        if self._written - self._sent >= _SENT_AT_ONCE:
            self._send()
        return size

    def _send(self) -> None:
        """Let the disk begin with what was written, so that little is left for the sync: 0.02 instead of 0.5 s a GB.

        Linux begins to write when it hears that pages will not be needed, and keeps those that are not on the disk yet.
        Only advice: seeks make it less apt, a system may refuse it, and the sync says whether the data arrived.
        """
        if hasattr(os, "posix_fadvise"):
            with suppress(OSError):
                os.posix_fadvise(self._descriptor, self._sent, self._written - self._sent, os.POSIX_FADV_DONTNEED)
        self._sent = self._written

    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        with explained(self._target):
            if hasattr(os, "readv"):
                return os.readv(self._descriptor, [view])
            data = os.read(self._descriptor, view.nbytes)
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        with explained(self._target):
            return os.lseek(self._descriptor, offset, whence)

    def fileno(self) -> int:
        return self._descriptor

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def sync(self) -> None:
        """Force what was written to the disk. Nothing to do where nothing was written since the last time."""
        if not self._is_synced:
            with explained(self._target):
                os.fsync(self._descriptor)
            self._is_synced = True

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        # Forgotten first: the system frees the number even where it reports an error, and may reuse it.
        descriptor, self._descriptor = self._descriptor, -1
        with explained(self._target):
            os.close(descriptor)


@contextmanager
def atomic_file(target: PathLike, *, overwrite: bool, size_hint: int | None = None) -> Iterator[AtomicFile]:
    """A binary file that takes the name ``target`` when the block ends, and vanishes if the block fails.

    A new file follows the umask; a replaced one keeps its permissions. A symbolic link is itself
    replaced, what it points to is not touched (download caches link to files they share).

    Without ``overwrite`` a file that appears at ``target`` meanwhile is never replaced: the name is
    taken by a hard link, which fails if it exists. On file systems without hard links this is a check
    followed by a rename, and a file created between the two, microseconds apart, would be replaced.

    ``size_hint`` in bytes: refuse at once where the free space is known to be less.

    Raises: OutputError with the reason. The old file is intact and the temporary one removed, also
    when the block itself raises anything. Only where the last step fails, syncing the folder, is the
    new file in place already; the message says so.
    """
    path = os.fspath(target)
    with explained(path):
        mode = permissions_of_replaced(path, overwrite=overwrite)
        _check_space(path, size_hint)
    with synced_folder(path), _temporary_file(path) as temporary:
        with AtomicFile(_create(temporary, mode, path), path) as file:
            with explained(path):
                remove_debris(os.path.dirname(path), now=os.fstat(file.fileno()).st_mtime)
            yield file
            file.sync()
        with explained(path):
            _publish(temporary, path, overwrite=overwrite)


@contextmanager
def synced_folder(path: str) -> Iterator[None]:
    """Make the names that the block gives in the folder of ``path`` durable.

    The folder is opened before the block, so that only the sync itself can fail after it.
    Raises: OutputError; where it is the sync, the message says that the new names are in place.
    """
    with explained(path):
        folder = _open_folder(path)
    try:
        yield
        _sync_folder(folder, path)
    finally:
        _close_folder(folder)


# -- steps -------------------------------------------------------------------------------------------


def _check_space(path: str, size: int | None) -> None:
    if size is None:
        return
    import shutil

    usage = shutil.disk_usage(os.path.dirname(path) or os.curdir)
    if usage.total > 0 and usage.free < size:  # some file systems do not know, and say 0
        raise OutputError(f"{shortened(path)}: no space left on the device: needs {size:,} bytes, {usage.free:,} free")


def _open_folder(path: str) -> int | None:
    if _WINDOWS:  # folders cannot be opened there
        return None
    return os.open(os.path.dirname(path) or os.curdir, os.O_RDONLY | os.O_DIRECTORY)


@contextmanager
def _temporary_file(path: str) -> Iterator[str]:
    """A name beside ``path``; the file of that name is removed if the block fails."""
    temporary = temporary_file_beside(path)
    try:
        yield temporary
    except BaseException:  # also KeyboardInterrupt
        with suppress(OSError):  # the first error is the one to tell; a later write removes the file
            os.unlink(temporary)
        raise


def _create(temporary: str, mode: int | None, path: str) -> int:
    """Open a new file, at no moment more permissive than the one it will replace."""
    with explained(path):
        descriptor = os.open(temporary, _FLAGS, 0o666 if mode is None else mode & 0o600)
        if mode is not None and not _WINDOWS:
            try:
                os.fchmod(descriptor, mode)
            except BaseException:
                os.close(descriptor)
                raise
    return descriptor


def _publish(temporary: str, path: str, *, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, path)
    elif _WINDOWS:
        os.rename(temporary, path)  # refuses an existing target there
    else:
        _publish_new(temporary, path)


def _publish_new(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "exists", path) from error
        os.replace(temporary, path)
        return
    with suppress(OSError):  # the target is complete; its second name is debris for a later write
        os.unlink(temporary)


def _sync_folder(folder: int | None, path: str) -> None:
    if folder is None:
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise OutputError(
                f"{shortened(path)}: the new output is complete and in place, but its folder could not be "
                f"synced ({error.strerror}): after a power cut the old state may be back"
            ) from error


def _close_folder(folder: int | None) -> None:
    if folder is not None:
        with suppress(OSError):  # nothing was written through this descriptor
            os.close(folder)
