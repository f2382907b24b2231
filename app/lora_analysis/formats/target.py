"""Where a result may be written: asked before the long work, answered with the reason.

Nothing here changes a file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from ..errors import FileAccessError, OptionError, OutputError

PathLike: TypeAlias = "str | os.PathLike[str]"

_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "no space left in the disk quota",
    errno.EFBIG: "no space: the file would pass the size limit of this process or file system",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "the target is a folder",
    errno.ELOOP: "the path runs in a circle of symbolic links",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EEXIST: "a file of that name exists; choose another name, or allow overwriting (--force)",
}


def check_target(
    target: PathLike,
    inputs: Iterable[PathLike],
    *,
    overwrite: bool,
    in_place: bool = False,
    suffixes: Collection[str] = (".safetensors",),
) -> None:
    """Refuse now what would be refused, or regretted, after an hour of work.

    ``inputs`` are files, or folders whose files are read. ``in_place`` allows the target to be one of
    them, and with that to be replaced. An empty ``suffixes`` allows every name.

    Raises: OptionError where the target is an input under any name (same path, symbolic or hard link)
    or has another suffix; OutputError where it exists, is no regular file, or its folder is missing or
    may not be written; FileAccessError where an input cannot be looked at.
    """
    path = os.fspath(target)
    if suffixes and os.path.splitext(path)[1].lower() not in suffixes:
        raise OptionError(f"{path}: the output name must end in {' or '.join(sorted(suffixes))}")
    same = _input_that_is(path, inputs)
    if same is not None and not in_place:
        raise OptionError(f"{path}: the output is the input {same}; choose another name, or ask for --in-place")
    with explained(path):
        permissions_of_replaced(path, overwrite=overwrite or same is not None)
        folder = os.path.dirname(path) or os.curdir
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", folder)
    if not os.access(folder, os.W_OK | os.X_OK):  # false also on a read-only file system
        raise OutputError(f"{shortened(path)}: no permission to write in {shortened(folder)}")


def permissions_of_replaced(path: str, *, overwrite: bool) -> int | None:
    """Permission bits of the file that ``path`` would replace, None where there is none.

    Raises: OutputError where ``path`` is a device or a pipe; OSError where it is a folder, exists
    without ``overwrite``, or is refused by the system itself.
    """
    if not os.path.basename(path):
        raise IsADirectoryError(errno.EISDIR, "is a folder", path)
    try:
        found = os.lstat(path)  # also finds a name that is too long
        if stat.S_ISLNK(found.st_mode) and os.path.exists(path):  # a dangling link has no permissions to keep
            found = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", path)
    if not overwrite:
        raise FileExistsError(errno.EEXIST, "exists", path)
    if stat.S_ISLNK(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OutputError(f"{shortened(path)}: the target is a device or a pipe, not a regular file")
    return stat.S_IMODE(found.st_mode) & 0o777


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn what the system says in the block into an OutputError with the path and the reason."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0) or error.strerror or type(error).__name__
        raise OutputError(f"{shortened(path)}: {reason}") from error
    except ValueError as error:  # a NUL or a lone surrogate in the path
        raise OutputError(f"{shortened(path)}: not a possible file name") from error


def shortened(path: str) -> str:
    """``path`` without its middle where it is long: a message must keep room for the reason."""
    return path if len(path) <= 160 else f"{path[:60]}…{path[-90:]}"


def _input_that_is(path: str, inputs: Iterable[PathLike]) -> str | None:
    """The input, or the file in an input folder, that is the same file as ``path``."""
    try:
        wanted = os.stat(path)
    except (OSError, ValueError):  # no such file, so no input; whether it can be made is asked later
        return None
    for source in inputs:
        for name in _files_of(os.fspath(source)):
            try:
                if os.path.samestat(os.stat(name), wanted):
                    return name
            except FileNotFoundError:  # a dangling link in an input folder
                continue
    return None


def _files_of(source: str) -> list[str]:
    try:
        if not stat.S_ISDIR(os.stat(source).st_mode):
            return [source]
        with os.scandir(source) as entries:
            return [entry.path for entry in entries]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a possible file name"
        raise FileAccessError(f"{shortened(source)}: {reason}") from error
