"""What was removed: out of sight at once, deleted when the server ends or starts.

A removal is one rename, so that it is whole or not at all for a folder too, and a job that reads the file goes on.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import suppress

from .roots import Root
from .settings import Settings

_HIDDEN = re.compile(r"\.lora-removed-[0-9a-f]{16}")


def put_away(settings: Settings, root: Root, path: str) -> None:
    """Take an upload or an output out of its folder. Raises: FileNotFoundError where it is gone already."""
    place, number = os.path.join(root.path, path), os.urandom(8).hex()
    settings.trash_folder.mkdir(mode=0o700, exist_ok=True)
    try:
        os.rename(place, settings.trash_folder / number)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # The outputs are on another disk: there, under a name that no scan looks at.
        os.rename(place, os.path.join(root.path, f".lora-removed-{number}"))


def empty_trash(settings: Settings) -> None:
    """Delete what was put away, now or by a server that was killed."""
    shutil.rmtree(settings.trash_folder, ignore_errors=True)
    with suppress(OSError), os.scandir(settings.outputs_folder) as entries:
        for entry in entries:
            if _HIDDEN.fullmatch(entry.name):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)
