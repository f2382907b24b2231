"""What a killed process leaves behind: hidden files and folders of our own name. A later write there removes them."""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress

DEBRIS_AGE_SECONDS = 3600.0

# Short and independent of the target's name: a 255-byte target has no room for a suffix.
_FILE = re.compile(r"\.lora-analysis-[0-9a-f]{16}\.tmp")
_FOLDER = re.compile(r"\.lora-analysis-[0-9a-f]{16}\.folder\.tmp")
_WINDOWS = os.name == "nt"


def temporary_file_beside(target: str) -> str:
    """A new name in the target's folder for a file that is being written."""
    return os.path.join(os.path.dirname(target), f".lora-analysis-{os.urandom(8).hex()}.tmp")


def temporary_folder_beside(target: str) -> str:
    """A new name in the target's folder for a folder that is being filled."""
    return os.path.join(os.path.dirname(target), f".lora-analysis-{os.urandom(8).hex()}.folder.tmp")


def remove_debris(folder: str, *, now: float) -> int:
    """Delete temporary files and folders of killed processes in ``folder``, and say how many there were.

    Only what has our own name and our own user, and what nobody wrote to for an hour: regular files, and folders that
    hold nothing but such files. ``now`` is the time by the folder's own clock, which differs from ours on network
    file systems.
    """
    removed = 0
    with suppress(OSError):  # tidying up must never stop a write
        with os.scandir(folder or os.curdir) as entries:
            left = [entry.path for entry in entries if _FILE.fullmatch(entry.name) or _FOLDER.fullmatch(entry.name)]
        for path in left:
            with suppress(OSError):  # gone already, or not ours to remove
                removed += _remove(path, now - DEBRIS_AGE_SECONDS)
    return removed


def _remove(path: str, limit: float) -> bool:
    """Whether the file or folder at ``path`` was debris, and is gone. Links are neither."""
    if not _is_old(path, limit):
        return False
    is_folder = stat.S_ISDIR(os.stat(path, follow_symlinks=False).st_mode)
    if is_folder != bool(_FOLDER.fullmatch(os.path.basename(path))):
        return False
    if not is_folder:
        os.unlink(path)
        return True
    with os.scandir(path) as entries:
        files = [entry.path for entry in entries]
    # A folder keeps its time while a file in it grows.
    if not all(_is_old(file, limit) and not os.path.isdir(file) for file in files):
        return False
    for file in files:
        os.unlink(file)
    os.rmdir(path)
    return True


def _is_old(path: str, limit: float) -> bool:
    """A regular file or a folder of this user that nobody wrote to since ``limit``."""
    found = os.stat(path, follow_symlinks=False)
    ours = _WINDOWS or found.st_uid == os.getuid()  # no owner numbers on Windows
    return ours and (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)) and found.st_mtime < limit
