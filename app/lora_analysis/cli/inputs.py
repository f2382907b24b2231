"""From what a person types to a list of adapters: files, folders, globs."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..errors import FileAccessError
from ..formats.discovery import ADAPTER_SUFFIXES, is_adapter_folder


@dataclass(frozen=True, slots=True)
class Inputs:
    """The adapters to look at, and whether the request was for many of them."""

    paths: tuple[str, ...]
    many: bool  # several arguments, a searched folder or a pattern: also where one adapter came of it
    skipped: tuple[str, ...] = ()  # pipes, sockets, broken links met while searching


def resolve(arguments: Sequence[str]) -> Inputs:
    """Expand folders and patterns; files are taken as they are, each once, in the order given.

    A folder or a pattern without an adapter, asked for among others, is kept: a row with its error, like a bad file.

    Raises: FileAccessError where all that was asked for is a folder or a pattern without an adapter.
    """
    paths: dict[str, None] = {}
    skipped: list[str] = []
    many = len(arguments) > 1
    for argument in arguments:
        if os.path.isdir(argument) and not is_adapter_folder(argument):
            found = list(_search(argument, skipped))
            if not found and many:
                found = [argument]
            if not found:
                suffixes = " ".join(ADAPTER_SUFFIXES)
                raise FileAccessError(f"{argument}: no adapter in this folder or below it; looked for {suffixes}")
            many = True
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            found = sorted(glob.glob(argument, recursive=True))
            if not found and many:
                found = [argument]
            if not found:
                raise FileAccessError(f"{argument}: the pattern matches nothing")
            many = True
        else:
            found = [argument]
        paths.update(dict.fromkeys(found))
    return Inputs(tuple(paths), many, tuple(skipped))


def _search(root: str, skipped: list[str]) -> Iterator[str]:
    """Adapters below ``root`` in a stable order. Hidden entries are left out, links to folders not followed."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if folder != root and is_adapter_folder(folder):
            yield folder
            # Below an adapter lie checkpoints of the same run; their optimizer states are no adapters.
            subfolders[:] = [name for name in subfolders if is_adapter_folder(os.path.join(folder, name))]
            continue
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.startswith(".") or not name.lower().endswith(ADAPTER_SUFFIXES):
                continue
            if _is_regular_file(path):
                yield path
            else:
                skipped.append(path)


def _is_regular_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a broken link, a link to itself
        return False
