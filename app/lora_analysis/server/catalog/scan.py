"""Walk the roots, read the headers of what is new or changed, and keep the catalog in step with the disk.

A file that cannot be read becomes a row with its error. Pipes, sockets, devices and links that lead out of the root or
in a circle are listed and not opened. What was there before and has the same size, time and inode is not read again.
A scan that is killed goes on where it was: rows are written in batches as they are made.
"""

from __future__ import annotations

import gc
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import CancelledError, ConfigError, LoraAnalysisError
from ...formats.checkpoint import open_checkpoint
from ...formats.discovery import (
    ADAPTER_SUFFIXES,
    is_adapter_folder,
    is_checkpoint_folder,
    is_shard,
    pipeline_components,
)
from ...metadata import inspect
from ...text import printable
from ..roots import Root, is_within, resolve_within
from .rows import Facts, facts_of, facts_of_checkpoint, facts_of_error
from .store import Catalog, Found, item_id

Progress = Callable[[int, int], None]  # adapters looked at, adapters found so far
Cancel = Callable[[], bool]
_BATCH = 50
_COUNT_SECONDS = 5.0  # counts of facets are made anew at most so often while a scan runs
_BATCH_SECONDS = 1.0  # so that the list fills while a slow disk is read


@dataclass(slots=True)
class ScanReport:
    """What a scan of one or several roots found."""

    found: int = 0
    read: int = 0  # new or changed
    failed: int = 0
    forgotten: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class _Walk:
    """What lies below a root."""

    items: list[Found] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def scan_root(
    catalog: Catalog,
    root: Root,
    location: str,
    report: ScanReport,
    *,
    progress: Progress,
    cancel: Cancel,
) -> None:
    """Bring the rows of one root up to date. ``location``: the root's folder as messages should say it.

    Raises: CancelledError; the rows made until then are kept.
    """
    number = catalog.begin_scan(root)
    walk = walk_root(root, cancel)
    known = catalog.stamps(root)
    before = report.found
    report.found += len(walk.items)
    report.skipped += len(walk.skipped)
    same = [found.path for found in walk.items if known.get(found.path) == found.stamp]
    catalog.see(root, number, same)
    catalog.skip(root, number, walk.skipped)
    changed = [found for found in walk.items if known.get(found.path) != found.stamp]
    done = before + len(same)
    progress(done, report.found)
    counted = 0.0
    try:
        for batch in _batches(root, location, changed, cancel):
            is_quiet = time.monotonic() - counted < _COUNT_SECONDS
            kept = _put(catalog, root, number, batch, quiet=is_quiet)
            counted = counted if is_quiet else time.monotonic()
            report.found -= len(batch) - len(kept)
            done += len(kept)
            report.read += len(kept)
            report.failed += sum(facts.error_code is not None for facts in kept)
            progress(done, report.found)
    except BaseException:
        catalog.changed()  # no end of the scan will say so
        raise
    report.forgotten += catalog.end_scan(root, number)


def _put(
    catalog: Catalog, root: Root, number: int, batch: list[tuple[Found, Facts]], *, quiet: bool = False
) -> list[Facts]:
    """Put items into the catalog, but for those whose file went away meanwhile. Returns: the facts of those that stay.

    Whoever removes a file removes its row next. Looking after the rows are written, not before, leaves no moment at
    which the row of a removed file could come back: either it is gone by this look, or its row is removed after this.
    """
    catalog.put(root, number, batch, quiet=quiet)
    kept = []
    for found, facts in batch:
        if os.path.lexists(os.path.join(root.path, found.path)):
            kept.append(facts)
        else:
            catalog.forget(item_id(root, found.path))
    return kept


def _batches(root: Root, location: str, items: list[Found], cancel: Cancel) -> Iterator[list[tuple[Found, Facts]]]:
    batch: list[tuple[Found, Facts]] = []
    began = time.monotonic()
    for found in items:
        if cancel():
            if batch:
                yield batch
            raise CancelledError("the scan was stopped; what was read until then is kept")
        batch.append((found, read_facts(root, location, found.path)))
        if len(batch) >= _BATCH or time.monotonic() - began > _BATCH_SECONDS:
            yield batch
            batch, began = [], time.monotonic()
            gc.collect()
    if batch:
        yield batch


def read_facts(root: Root, location: str, path: str) -> Facts:
    """What the catalog keeps of one adapter; of one that cannot be read, why."""
    try:
        resolve_within(root, path)
        return _facts(os.path.join(location, path))
    except LoraAnalysisError as error:
        return facts_of_error(error.to_dict())
    except MemoryError:
        return facts_of_error({"code": "memory", "message": f"{printable(path)}: reading it needs too much memory"})
    except Exception as error:  # a defect of ours must not take the whole scan down
        message = printable(f"{path}: unexpected {type(error).__name__}: {error}", limit=300)
        return facts_of_error({"code": "internal", "message": message})


def _facts(place: str) -> Facts:
    if os.path.isdir(place) and (is_checkpoint_folder(place) or pipeline_components(place)):
        found = _checkpoint_facts(place)
        if found is None:
            raise ConfigError("the files of this index hold no weight")
        return Facts(**found)
    document = inspect(place).to_dict()
    facts = facts_of(document)
    found = None if document["adapter"]["layers"] or os.path.isdir(place) else _checkpoint_facts(place)
    return facts if found is None else replace(facts, **found)


def _checkpoint_facts(place: str) -> dict[str, Any] | None:
    with open_checkpoint(place) as checkpoint:
        return facts_of_checkpoint(checkpoint.tensors)


def add_item(catalog: Catalog, root: Root, location: str, path: str) -> str | None:
    """Put one adapter, just written or uploaded, into the catalog. Returns: its id; None where there is none."""
    found = look_at(root, path)
    if found is None:
        return None
    kept = _put(catalog, root, catalog.number_of_scan(root), [(found, read_facts(root, location, path))])
    return item_id(root, path) if kept else None


def look_at(root: Root, path: str) -> Found | None:
    """One path of a root as the walk would find it."""
    place = os.path.join(root.path, path)
    try:
        return _folder(root, place) if os.path.isdir(place) else _file(root, place)
    except OSError:
        return None


def walk_root(root: Root, cancel: Cancel) -> _Walk:
    """Adapters below a root in a stable order. Hidden entries are left out, links to folders not followed."""
    walk = _Walk()

    def note(error: OSError) -> None:
        place = error.filename if isinstance(error.filename, str) else root.path
        walk.skipped.append((_inside(root, place), f"cannot be listed: {error.strerror}"))

    for folder, subfolders, files in os.walk(root.path, onerror=note):
        if cancel():
            raise CancelledError("the scan was stopped")
        _leave_out_links(root, folder, subfolders, walk)
        if folder != root.path and is_adapter_folder(folder):
            walk.items.append(_folder(root, folder))
            # Below an adapter lie checkpoints of the same run; their optimizer states are no adapters.
            subfolders[:] = [name for name in subfolders if is_adapter_folder(os.path.join(folder, name))]
            continue
        is_whole = folder != root.path and is_checkpoint_folder(folder)
        if is_whole or (folder != root.path and pipeline_components(folder)):
            walk.items.append(_folder(root, folder))  # a pipeline's components are checkpoints of their own too
        for name in sorted(files):
            if is_whole and is_shard(name):
                continue
            if not name.startswith(".") and name.lower().endswith(ADAPTER_SUFFIXES):
                _add_file(root, os.path.join(folder, name), walk)
    return walk


def _leave_out_links(root: Root, folder: str, subfolders: list[str], walk: _Walk) -> None:
    kept = []
    for name in sorted(subfolders):
        place = os.path.join(folder, name)
        if name.startswith("."):
            continue
        if os.path.islink(place):
            walk.skipped.append((_inside(root, place), "a link to a folder, which is not followed"))
        else:
            kept.append(name)
    subfolders[:] = kept


def _add_file(root: Root, place: str, walk: _Walk) -> None:
    try:
        reason = _unusable(root, place)
        if reason is None:
            walk.items.append(_file(root, place))
            return
    except OSError as error:
        reason = f"cannot be looked at: {error.strerror}"
    walk.skipped.append((_inside(root, place), reason))


def _unusable(root: Root, place: str) -> str | None:
    is_link = os.path.islink(place)
    if is_link and not is_within(os.path.realpath(place), root.path):
        return "a link out of the root"
    try:
        mode = os.stat(place).st_mode
    except OSError:
        return "a link that leads nowhere" if is_link else "cannot be looked at"
    if stat.S_ISREG(mode):
        return None
    names = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a link to a folder"))
    return next((name for test, name in names if test(mode)), "a device")


def _file(root: Root, place: str) -> Found:
    found = os.stat(place)
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError(place)
    return Found(_inside(root, place), "file", found.st_size, found.st_mtime_ns, _stamp([found]))


def _folder(root: Root, place: str) -> Found:
    """A folder changes when any file directly in it does; a pipeline, when one of its components does."""
    files = _files_in(place)
    for name in pipeline_components(place):
        component = os.path.join(place, name)
        if not os.path.islink(component):
            with suppress(OSError):  # it cannot be listed, which reading the pipeline will say
                files += _files_in(component)
    newest = max((found.st_mtime_ns for found in files), default=os.stat(place).st_mtime_ns)
    return Found(_inside(root, place), "folder", sum(found.st_size for found in files), newest, _stamp(files))


def _files_in(folder: str) -> list[os.stat_result]:
    """The files directly in a folder, by name."""
    files = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            try:
                files.append(entry.stat())
            except OSError:  # a link that leads nowhere
                continue
    return [found for found in files if stat.S_ISREG(found.st_mode)]


def _stamp(files: list[os.stat_result]) -> str:
    text = ";".join(f"{found.st_size},{found.st_mtime_ns},{found.st_ino},{found.st_dev}" for found in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _inside(root: Root, place: str) -> str:
    return os.path.relpath(place, root.path)
