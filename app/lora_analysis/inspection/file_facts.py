"""Where the bytes are: name, size and age of the file or folder that was inspected."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..json_ready import encodable
from ..timestamps import utc_time

_MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class FileFacts:
    """None where the file system does not say."""

    name: str
    extension: str
    size_bytes: int | None
    modified_time: str | None  # ISO 8601, UTC
    files: tuple[str, ...] = ()  # names of the weight files, where a folder was given

    def to_dict(self) -> dict[str, Any]:
        size = self.size_bytes
        return {
            "filename": encodable(self.name),
            "file_extension": encodable(self.extension),
            "file_size_bytes": size,
            "file_size_mb": None if size is None else round(size / _MEGABYTE, 6),
            "modified_time": self.modified_time,
            "files": [encodable(name) for name in self.files],
        }


def path_text(path: Any) -> str:
    """``path`` as text. Raises: OptionError where it is nothing that a file system could know."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise OptionError(f"a path is text, bytes or a Path; this is a {type(path).__name__}") from None
    if not name or "\0" in name:
        raise OptionError("a path must not be empty or hold a NUL")
    return name


def file_facts(path: str, weights: Iterable[str] = ()) -> FileFacts:
    """Look at ``path``, and for a folder at the ``weights`` in it. Never raises: what is unknown is None."""
    name = os.path.basename(os.path.normpath(path)) if path else ""
    files = list(weights)
    is_folder = _is_folder(path)
    stats = [found for each in (files if is_folder else [path]) if (found := _stat(each)) is not None]
    return FileFacts(
        name=name,
        extension="" if is_folder else os.path.splitext(name)[1].lower(),
        size_bytes=sum(found.st_size for found in stats) if stats else None,
        modified_time=utc_time(max(found.st_mtime for found in stats)) if stats else None,
        files=tuple(os.path.relpath(each, path) for each in files) if is_folder else (),
    )


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:  # a NUL in the name
        return False


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
