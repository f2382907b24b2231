"""SQLite as this server uses it: one connection per thread, short transactions, a journal the disk can keep.

Write-ahead logging needs shared memory among all who open the file. Network file systems do not have it, and files
there have been damaged, so on those the rollback journal is used (sqlite.org/wal.html, section 2.2).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import OutputError

BUSY_SECONDS = 20.0
_LOCAL = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "jfs", "reiserfs", "bcachefs", "tmpfs", "ramfs"),
        *("overlay", "aufs", "vfat", "exfat"),
    )
)


class _Own:
    """A thread's connection. It closes when the thread ends, or when the database goes, which another may cause."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        self.connection.close()


class Database:
    """A database file that is made, or brought up to date, by ``schema``: one script per version."""

    def __init__(self, path: str | os.PathLike[str], schema: Sequence[str]) -> None:
        self.path = os.fspath(path)
        self._local = threading.local()
        self._schema = schema
        self.journal = "wal" if is_local_disk(os.path.dirname(self.path)) else "delete"
        if self._version() != len(schema):
            with self.write() as connection:
                self._migrate(connection)

    def _version(self) -> int:
        return int(self._connection().execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = self._version()
        if version > len(self._schema):
            name = os.path.basename(self.path)
            raise OutputError(f"{name} is of a newer version of lora-analysis; choose another folder with --state")
        for number, script in enumerate(self._schema[version:], start=version + 1):
            for statement in script.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")

    def _connection(self) -> sqlite3.Connection:
        own: _Own | None = getattr(self._local, "own", None)
        if own is None:
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            own = _Own(connection)
            connection.row_factory = sqlite3.Row
            connection.execute(f"PRAGMA journal_mode = {self.journal}")
            connection.execute("PRAGMA synchronous = NORMAL" if self.journal == "wal" else "PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -1000")  # KiB per thread, of which there are forty
            self._local.own = own
        return own.connection

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read with; every statement sees a state of its own."""
        yield self._connection()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, whole or not at all."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")  # which may fail too: a reader holds the file, the disk is full
        except BaseException:
            if connection.in_transaction:  # after some errors SQLite has rolled back by itself
                connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close this thread's connection; those of other threads close when these end."""
        own: _Own | None = getattr(self._local, "own", None)
        if own is not None:
            own.connection.close()
            del self._local.own


def is_local_disk(folder: str, mounts: str = "/proc/self/mounts") -> bool:
    """Whether ``folder`` is on a file system known to be this machine's own. Where no list of mounts is: yes."""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as table:
            lines = [line.split(" ") for line in table]
    except OSError:
        return True
    place = os.path.realpath(folder)
    best, kind = "", ""
    for fields in lines:
        point = fields[1].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind in _LOCAL
