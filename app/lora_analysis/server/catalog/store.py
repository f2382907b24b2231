"""The catalog: one row per adapter or damaged file, by id. It knows SQL, and nothing of how files are read."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ...json_ready import encodable
from ..database import Database
from ..roots import Root
from .rows import FACT_COLUMNS, Facts

FILE_NAME = "catalog.sqlite3"
ItemKind = Literal["file", "folder"]

_SCHEMA = (
    """
    CREATE TABLE items (
      id TEXT PRIMARY KEY,
      root TEXT NOT NULL,
      path BLOB NOT NULL,
      name TEXT NOT NULL,
      folder TEXT NOT NULL,
      kind TEXT NOT NULL,
      size_bytes INTEGER NOT NULL,
      mtime_ns INTEGER NOT NULL,
      stamp TEXT NOT NULL,
      added REAL NOT NULL,
      seen INTEGER NOT NULL,
      base_model TEXT, base_model_label TEXT, algorithm TEXT, dialect TEXT, container TEXT, trainer TEXT,
      title TEXT, trigger TEXT, rank INTEGER, rank_min INTEGER, rank_max INTEGER, alpha REAL, parameters INTEGER,
      layers INTEGER, dtype TEXT, dora INTEGER NOT NULL, autov3 TEXT, errors INTEGER NOT NULL,
      warnings INTEGER NOT NULL, error_code TEXT, error_message TEXT, top_tags TEXT NOT NULL
    );
    CREATE TABLE documents (id TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE INDEX items_by_root ON items (root, seen);
CREATE INDEX items_by_name ON items (name COLLATE NOCASE, id);
CREATE INDEX items_by_autov3 ON items (autov3);
    CREATE TABLE tags (id TEXT NOT NULL, tag TEXT NOT NULL, count INTEGER NOT NULL,
      PRIMARY KEY (tag, id)) WITHOUT ROWID;
CREATE INDEX tags_by_item ON tags (id);
    CREATE TABLE skipped (root TEXT NOT NULL, path TEXT NOT NULL, reason TEXT NOT NULL, seen INTEGER NOT NULL,
      PRIMARY KEY (root, path)) WITHOUT ROWID;
    CREATE TABLE scans (root TEXT PRIMARY KEY, number INTEGER NOT NULL, finished REAL);
    CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO state VALUES ('generation', 0)
    """,
    # All that is sorted, filtered and counted by, without the tags and titles that make up most of a row: a pass over
    # 10,000 adapters reads 1 MB of it, not 10 MB.
    """
CREATE INDEX items_by_facts ON items (
  root, base_model, algorithm, dialect, trainer, dtype, container, errors, warnings, rank_min, rank_max, rank,
  size_bytes, mtime_ns, added, alpha, parameters, layers, autov3, id)
    """,
    # The next scan looks at everything anew: no row says yet whether it is a checkpoint.
    """
ALTER TABLE items ADD COLUMN checkpoint INTEGER NOT NULL DEFAULT 0;
UPDATE items SET stamp = '';
CREATE INDEX items_by_checkpoint ON items (checkpoint, name COLLATE NOCASE) WHERE checkpoint
    """,
)
_SEARCH = "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize='trigram')"
_COLUMNS = tuple(name for name in FACT_COLUMNS if name != "document")  # that one is large, and has a table of its own
_OWN_COLUMNS = ("id", "root", "path", "name", "folder", "kind", "size_bytes", "mtime_ns", "stamp", "added", "seen")


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter met in a root, before it is read."""

    path: str  # within the root, with "/" between parts
    kind: ItemKind
    size_bytes: int
    mtime_ns: int
    stamp: str  # changes with every change of size, time or inode of the files it consists of


class Location(NamedTuple):
    """Where an id leads."""

    id: str
    root: str
    path: str
    name: str
    kind: ItemKind
    stamp: str
    is_checkpoint: bool


def item_id(root: Root, path: str) -> str:
    """An id that stays with a path: links to an adapter survive scans and restarts."""
    return hashlib.sha256(os.fsencode(f"{root.id}/{path}")).hexdigest()[:20]


class Catalog:
    """Rows by id. Every method is one transaction."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.database = Database(os.path.join(folder, FILE_NAME), _SCHEMA)
        self.has_words = self._make_words()

    def _make_words(self) -> bool:
        """The index for search; without FTS5's trigrams (SQLite before 3.34) search reads every row instead."""
        with self.database.read() as connection:
            if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'words'").fetchone():
                return True
        try:
            with self.database.write() as connection:
                connection.execute(_SEARCH)
        except sqlite3.OperationalError:
            return False
        return True

    # -- writing, by the scan ----------------------------------------------------------------------

    def begin_scan(self, root: Root) -> int:
        """The number of a new scan of a root; what it does not see is forgotten at its end.

        Another scan of the root, or a job that adds one file, may be under way: what any of them has seen stays seen.
        """
        with self.database.write() as connection:
            connection.execute(
                "INSERT INTO scans VALUES (?, 1, NULL) ON CONFLICT (root) DO UPDATE SET number = number + 1", (root.id,)
            )
            row = connection.execute("SELECT number FROM scans WHERE root = ?", (root.id,)).fetchone()
            _bump(connection)  # a scan that was killed may have put items quietly
        return int(row[0])

    def changed(self) -> None:
        """Counts that were made before are shown no more."""
        with self.database.write() as connection:
            _bump(connection)

    def stamps(self, root: Root) -> dict[str, str]:
        """By path within the root, what each known item looked like."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT path, stamp FROM items WHERE root = ?", (root.id,)).fetchall()
        return {os.fsdecode(row["path"]): row["stamp"] for row in rows}

    def see(self, root: Root, number: int, paths: Iterable[str]) -> None:
        """Say of unchanged items that they are still there."""
        with self.database.write() as connection:
            rows = [(number, item_id(root, path)) for path in paths]
            connection.executemany("UPDATE items SET seen = max(seen, ?) WHERE id = ?", rows)

    def put(self, root: Root, number: int, items: Iterable[tuple[Found, Facts]], *, quiet: bool = False) -> None:
        """Add or replace items. ``quiet``: counts that were made before may still be shown, until the next change."""
        columns = (*_OWN_COLUMNS, *_COLUMNS)
        updates = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in ("id", "added", "seen"))
        marks = ", ".join("?" * len(columns))
        statement = (
            f"INSERT INTO items ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET {updates},"
            " seen = max(seen, excluded.seen)"
        )
        with self.database.write() as connection:
            for found, facts in items:
                row = (*self._own(root, number, found), *(getattr(facts, name) for name in _COLUMNS))
                connection.execute(statement, row)
                self._put_words(connection, row[0], row[3], row[4], facts)
                connection.execute("DELETE FROM documents WHERE id = ?", (row[0],))
                if facts.document is not None:
                    connection.execute("INSERT INTO documents VALUES (?, ?)", (row[0], facts.document))
            if not quiet:
                _bump(connection)

    def _own(self, root: Root, number: int, found: Found) -> tuple[object, ...]:
        folder, _, name = found.path.rpartition("/")
        return (
            item_id(root, found.path), root.id, os.fsencode(found.path), encodable(name), encodable(folder), found.kind,
            found.size_bytes, found.mtime_ns, found.stamp, time.time(), number,
        )  # fmt: skip

    def _put_words(self, connection: sqlite3.Connection, item: object, name: str, folder: str, facts: Facts) -> None:
        import json

        tags: list[tuple[str, int]] = json.loads(facts.top_tags)
        connection.execute("DELETE FROM tags WHERE id = ?", (item,))
        rows = {tag: (item, tag, count) for tag, count in tags}
        connection.executemany("INSERT INTO tags (id, tag, count) VALUES (?, ?, ?)", rows.values())
        if self.has_words:
            text = "\n".join(filter(None, (name, folder, facts.title, facts.trigger, facts.trainer, *rows)))
            number = connection.execute("SELECT rowid FROM items WHERE id = ?", (item,)).fetchone()[0]
            connection.execute("DELETE FROM words WHERE rowid = ?", (number,))
            connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, text))

    def skip(self, root: Root, number: int, skipped: Sequence[tuple[str, str]]) -> None:
        """Remember what was met and is no adapter: ``(path, reason)``."""
        with self.database.write() as connection:
            rows = [(root.id, encodable(path), reason, number) for path, reason in skipped]
            connection.executemany(
                "INSERT INTO skipped VALUES (?, ?, ?, ?) ON CONFLICT (root, path) DO UPDATE SET"
                " reason = excluded.reason, seen = max(seen, excluded.seen)",
                rows,
            )

    def end_scan(self, root: Root, number: int) -> int:
        """Forget what the scan did not see. Returns: how many items were forgotten."""
        with self.database.write() as connection:
            gone = [
                row[0]
                for row in connection.execute("SELECT id FROM items WHERE root = ? AND seen < ?", (root.id, number))
            ]
            for item in gone:
                self._forget(connection, item)
            connection.execute("DELETE FROM skipped WHERE root = ? AND seen < ?", (root.id, number))
            connection.execute("UPDATE scans SET finished = ? WHERE root = ?", (time.time(), root.id))
            _bump(connection)
        return len(gone)

    def forget(self, item: str) -> None:
        """Remove one item, whose file is gone."""
        with self.database.write() as connection:
            self._forget(connection, item)
            _bump(connection)

    def _forget(self, connection: sqlite3.Connection, item: str) -> None:
        if self.has_words:
            connection.execute(
                "DELETE FROM words WHERE rowid = (SELECT rowid FROM items WHERE id = ?)", (item,)
            )  # fmt: skip
        connection.execute("DELETE FROM tags WHERE id = ?", (item,))
        connection.execute("DELETE FROM documents WHERE id = ?", (item,))
        connection.execute("DELETE FROM items WHERE id = ?", (item,))

    def forget_other_roots(self, roots: Iterable[Root]) -> None:
        """Remove what belongs to roots that are served no more."""
        kept = [root.id for root in roots]
        marks = ", ".join("?" * len(kept))
        with self.database.write() as connection:
            rows = connection.execute(f"SELECT id FROM items WHERE root NOT IN ({marks})", kept).fetchall()
            for row in rows:
                self._forget(connection, row[0])
            for table in ("skipped", "scans"):
                connection.execute(f"DELETE FROM {table} WHERE root NOT IN ({marks})", kept)
            _bump(connection)

    # -- reading -----------------------------------------------------------------------------------

    def generation(self) -> int:
        """A number that grows with every change."""
        with self.database.read() as connection:
            return int(connection.execute("SELECT value FROM state WHERE name = 'generation'").fetchone()[0])

    def number_of_scan(self, root: Root) -> int:
        """The number of the last scan that was begun; 0 before the first."""
        with self.database.read() as connection:
            row = connection.execute("SELECT number FROM scans WHERE root = ?", (root.id,)).fetchone()
        return int(row[0]) if row else 0

    def location(self, item: str) -> Location | None:
        with self.database.read() as connection:
            row = connection.execute(
                "SELECT id, root, path, name, kind, stamp, checkpoint FROM items WHERE id = ?", (item,)
            ).fetchone()
        if row is None:
            return None
        return Location(row[0], row[1], os.fsdecode(row[2]), row[3], row[4], row[5], bool(row[6]))

    def document(self, item: str) -> bytes | None:
        """The packed inspection; None where there is none."""
        with self.database.read() as connection:
            row = connection.execute("SELECT data FROM documents WHERE id = ?", (item,)).fetchone()
        return None if row is None else row[0]

    def counts(self) -> dict[str, sqlite3.Row]:
        """By root: items, items with errors, bytes, and when the last scan ended."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT scans.root AS root, finished, count(items.id) AS items, total(errors > 0) AS broken,"
                " total(size_bytes) AS bytes FROM scans LEFT JOIN items ON items.root = scans.root GROUP BY scans.root"
            ).fetchall()
        return {row["root"]: row for row in rows}

    def skipped(self, limit: int) -> list[sqlite3.Row]:
        with self.database.read() as connection:
            return connection.execute(
                "SELECT root, path, reason FROM skipped ORDER BY root, path LIMIT ?", (limit,)
            ).fetchall()


def _bump(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE state SET value = value + 1 WHERE name = 'generation'")
