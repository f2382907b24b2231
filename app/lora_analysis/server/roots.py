"""The folders a server may read, and the one rule that nothing outside of them is touched.

A check of names is no confinement: ``startswith`` takes ``/models-private`` for a part of ``/models``, and a link
inside leads anywhere. So a path is resolved first, and compared part by part afterwards.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import FileAccessError, OptionError
from .settings import Settings

RootKind = Literal["library", "uploads", "outputs"]
_MOST_ENTRIES = 2_000  # looked at in an adapter's folder
_UNUSUAL = re.compile(r"[^\w .()+,@=-]")


@dataclass(frozen=True, slots=True)
class Root:
    """A folder whose adapters are in the catalog."""

    id: str  # made of the path, so it stays the same over restarts; says nothing about it
    label: str  # the folder's own name, unique among the roots
    path: str  # resolved, without links
    kind: RootKind

    def to_dict(self) -> dict[str, str]:
        return {"id": self.id, "label": self.label, "path": self.path, "kind": self.kind}


def roots_of(settings: Settings) -> tuple[Root, ...]:
    """The library's folders as given, then the folders of uploads and outputs, which are made where they are missing.

    Raises: FileAccessError where a folder of the library is none; OptionError where one holds another.
    """
    wanted: list[tuple[str, RootKind]] = []
    for given in settings.roots:
        path = os.path.realpath(given)
        if not os.path.isdir(path):
            raise FileAccessError(f"{given}: this is no folder; expected one that holds adapters")
        if path not in [known for known, _ in wanted]:
            wanted.append((path, "library"))
    own: tuple[tuple[str, RootKind], ...] = (
        (os.fspath(settings.uploads_folder), "uploads"),
        (os.fspath(settings.outputs_folder), "outputs"),
    )
    for folder, kind in own:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        wanted.append((os.path.realpath(folder), kind))
    _check_apart([path for path, _ in wanted])
    return tuple(_labelled(wanted))


def _check_apart(paths: Sequence[str]) -> None:
    for outer in paths:
        for inner in paths:
            if outer != inner and is_within(inner, outer):
                raise OptionError(f"{inner} lies in {outer}; give the outer folder alone, or two that are apart")
    if len(set(paths)) != len(paths):
        raise OptionError("two of the folders for the library, uploads and outputs are the same one")


def _labelled(wanted: Iterable[tuple[str, RootKind]]) -> Iterable[Root]:
    taken = {"uploads", "outputs"}
    for path, kind in wanted:
        base = kind if kind != "library" else _UNUSUAL.sub("_", os.path.basename(path)).lstrip(". -") or "root"
        label, number = base, 2
        while label in taken and label != kind:
            label, number = f"{base}-{number}", number + 1
        taken.add(label)
        yield Root(hashlib.sha256(os.fsencode(path)).hexdigest()[:12], label, path, kind)


def link_roots(roots: Iterable[Root], names: str | os.PathLike[str]) -> None:
    """One link per root in the folder ``names``, and nothing else there but what is hidden."""
    os.makedirs(names, mode=0o700, exist_ok=True)
    for entry in os.listdir(names):
        if not entry.startswith("."):
            os.unlink(os.path.join(names, entry))
    for root in roots:
        os.symlink(root.path, os.path.join(names, root.label), target_is_directory=True)


def is_within(path: str, folder: str) -> bool:
    """Whether a resolved path is ``folder`` or lies below it."""
    try:
        return os.path.commonpath([path, folder]) == folder
    except ValueError:  # one of them is relative
        return False


def resolve_within(root: Root, relative: str) -> str:
    """The real place of an adapter, file or folder, of which every part lies within its root.

    Raises: FileAccessError where it does not, is hidden, is gone, or is neither file nor folder.
    """
    parts = relative.split("/")
    if "\0" in relative or any(part.startswith(".") or not part for part in parts):
        raise FileAccessError("this is no name of an adapter in a root")
    place = os.path.realpath(os.path.join(root.path, *parts))
    if not is_within(place, root.path) or place == root.path:
        raise FileAccessError(f"{relative}: this leads out of the root {root.label}")
    try:
        found = os.stat(place)
    except OSError as error:
        raise FileAccessError(f"{relative}: the file is gone or cannot be read; scan the root again") from error
    if stat.S_ISDIR(found.st_mode):
        _check_inside(root, place, relative)
    elif stat.S_ISREG(found.st_mode):
        _check_beside(root, place, relative)
    else:
        raise FileAccessError(f"{relative}: this is no regular file")
    return place


def _check_inside(root: Root, folder: str, relative: str) -> None:
    """Readers follow links in an adapter's folder, so none may lead out; two levels are what a pipeline has."""
    pending, count = [(folder, 2)], 0
    while pending:
        current, depth = pending.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                count += 1
                if count > _MOST_ENTRIES:
                    raise FileAccessError(f"{relative}: more than {_MOST_ENTRIES} entries in an adapter's folder")
                if entry.is_symlink() and not is_within(os.path.realpath(entry.path), root.path):
                    raise FileAccessError(f"{relative}: a link in this folder leads out of the root {root.label}")
                if depth > 1 and entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, depth - 1))


def _check_beside(root: Root, file: str, relative: str) -> None:
    """A single weights file may be read together with the configuration beside it."""
    config = os.path.join(os.path.dirname(file), "adapter_config.json")
    if os.path.islink(config) and not is_within(os.path.realpath(config), root.path):
        raise FileAccessError(f"{relative}: the configuration beside it is a link out of the root {root.label}")
