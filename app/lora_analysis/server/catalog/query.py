"""Search, filters, facets and pages over the catalog."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from .store import Catalog

# What can be filtered by a value and is counted by it.
FACETS: Mapping[str, str] = {
    "root": "root",
    "base_model": "base_model",
    "algorithm": "algorithm",
    "dialect": "dialect",
    "trainer": "trainer",
    "dtype": "dtype",
    "container": "container",
}
SORTS: Mapping[str, str] = {
    "name": "name COLLATE NOCASE",
    "size": "size_bytes",
    "modified": "mtime_ns",
    "added": "added",
    "rank": "rank",
    "alpha": "alpha",
    "parameters": "parameters",
    "layers": "layers",
    "base_model": "base_model",
    "algorithm": "algorithm",
    "problems": "errors * 100000 + warnings",
}
PROBLEMS: Mapping[str, str] = {
    "error": "errors > 0",
    "warning": "errors = 0 AND warnings > 0",
    "none": "errors = 0 AND warnings = 0",
    "duplicate": "autov3 IN (SELECT autov3 FROM items WHERE autov3 IS NOT NULL GROUP BY autov3 HAVING count(*) > 1)",
}
_MOST_FACET_VALUES = 100
_MOST_TAGS = 60
_KEPT_ANSWERS = 64
_LIST_COLUMNS = (
    "id, root, name, folder, kind, size_bytes, mtime_ns, stamp, added, base_model, base_model_label, algorithm,"
    " dialect, container, trainer, title, trigger, rank, rank_min, rank_max, alpha, parameters, layers, dtype, dora,"
    " autov3, errors, warnings, error_code, error_message, top_tags,"
    " (SELECT count(*) FROM items AS other WHERE other.autov3 = items.autov3 AND other.id != items.id) AS duplicates"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked of the catalog. Several values of one facet mean any of them."""

    text: str = ""
    facets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    tags: tuple[str, ...] = ()
    all_tags: bool = False
    rank_min: int | None = None
    rank_max: int | None = None
    problems: tuple[str, ...] = ()
    sort: str = "name"
    descending: bool = False
    offset: int = 0
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one page, and counts over all pages. A facet's counts leave its own filter out."""

    rows: list[sqlite3.Row]
    total: int
    facets: dict[str, list[tuple[str | None, int]]]
    ranks: tuple[int, int] | None  # smallest and largest


@dataclass(slots=True)
class _Condition:
    text: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, text: str, *values: Any) -> None:
        self.text.append(text)
        self.values.extend(values)

    def where(self) -> str:
        return f" WHERE {' AND '.join(self.text)}" if self.text else ""


class Library:
    """Answers queries; counts, which cost the most, are kept until the catalog changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: OrderedDict[Query, tuple[int, dict[str, list[tuple[str | None, int]]], tuple[int, int] | None]]
        self._kept = OrderedDict()
        self._generation = -1
        self._lock = Lock()

    def find(self, query: Query) -> Page:
        condition = self._condition(query)
        order = f"{SORTS[query.sort]} {'DESC' if query.descending else 'ASC'}"
        statement = (
            f"SELECT {_LIST_COLUMNS} FROM items{condition.where()}"
            f" ORDER BY {SORTS[query.sort]} IS NULL, {order}, id LIMIT ? OFFSET ?"
        )
        with self._catalog.database.read() as connection:
            rows = connection.execute(statement, [*condition.values, query.limit, query.offset]).fetchall()
        total, facets, ranks = self._counted(replace(query, sort="name", descending=False, offset=0, limit=0))
        return Page(rows, total, facets, ranks)

    def row(self, item: str) -> sqlite3.Row | None:
        """One adapter's row, as in a page."""
        with self._catalog.database.read() as connection:
            found: sqlite3.Row | None = connection.execute(
                f"SELECT {_LIST_COLUMNS} FROM items WHERE id = ?",
                (item,),
            ).fetchone()
        return found

    def _counted(self, query: Query) -> tuple[int, dict[str, list[tuple[str | None, int]]], tuple[int, int] | None]:
        generation = self._catalog.generation()
        with self._lock:
            if generation != self._generation:
                self._kept.clear()
                self._generation = generation
            known = self._kept.get(query)
        if known is None:
            known = self._count(query)
            with self._lock:
                self._kept[query] = known
                while len(self._kept) > _KEPT_ANSWERS:
                    self._kept.popitem(last=False)
        return known

    def _count(self, query: Query) -> tuple[int, dict[str, list[tuple[str | None, int]]], tuple[int, int] | None]:
        condition = self._condition(query)
        with self._catalog.database.read() as connection:
            row = connection.execute(
                f"SELECT count(*), min(rank_min), max(rank_max) FROM items{condition.where()}",
                condition.values,
            ).fetchone()
            facets = dict(self._facets(connection, query))
        return row[0], facets, None if row[1] is None else (row[1], row[2])

    def _facets(
        self, connection: sqlite3.Connection, query: Query
    ) -> Iterator[tuple[str, list[tuple[str | None, int]]]]:
        for name, column in FACETS.items():
            others = replace(query, facets=tuple(facet for facet in query.facets if facet[0] != name))
            condition = self._condition(others)
            rows = connection.execute(
                f"SELECT {column}, count(*) AS n FROM items{condition.where()} GROUP BY {column}"
                f" ORDER BY n DESC, {column} LIMIT {_MOST_FACET_VALUES}",
                condition.values,
            ).fetchall()
            yield name, [(row[0], row[1]) for row in rows]
        condition = self._condition(replace(query, problems=()))
        counts = ", ".join(f"total({test})" for test in PROBLEMS.values())
        row = connection.execute(f"SELECT {counts} FROM items{condition.where()}", condition.values).fetchone()
        yield "problems", [(name, int(count)) for name, count in zip(PROBLEMS, row, strict=True)]
        condition = self._condition(query)
        rows = connection.execute(
            "SELECT tag, count(*) AS n FROM tags WHERE id IN"
            f" (SELECT id FROM items{condition.where()}) GROUP BY tag ORDER BY n DESC, tag LIMIT {_MOST_TAGS}",
            condition.values,
        ).fetchall()
        yield "tags", [(row[0], row[1]) for row in rows]

    def _condition(self, query: Query) -> _Condition:
        condition = _Condition()
        for name, values in query.facets:
            marks = ", ".join("?" * len(values))
            condition.add(f"ifnull({FACETS[name]}, '') IN ({marks})", *values)
        if query.tags:
            marks = ", ".join("?" * len(query.tags))
            needed = len(set(query.tags)) if query.all_tags else 1
            condition.add(
                f"id IN (SELECT id FROM tags WHERE tag IN ({marks}) GROUP BY id HAVING count(*) >= {needed})",
                *query.tags,
            )
        if query.rank_min is not None:
            condition.add("rank_max >= ?", query.rank_min)
        if query.rank_max is not None:
            condition.add("rank_min <= ?", query.rank_max)
        if query.problems:
            condition.add("(" + " OR ".join(f"({PROBLEMS[name]})" for name in query.problems) + ")")
        for word in query.text.split():
            self._add_word(condition, word)
        return condition

    def _add_word(self, condition: _Condition, word: str) -> None:
        """Every word has to occur, anywhere in the name, folder, title, trigger words, trainer or tags."""
        if self._catalog.has_words and len(word) >= 3:  # trigrams find nothing shorter
            quoted = '"' + word.replace('"', '""') + '"'
            condition.add("items.rowid IN (SELECT rowid FROM words WHERE words MATCH ?)", quoted)
            return
        pattern = "%" + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = " OR ".join(
            f"{name} LIKE ? ESCAPE '\\'" for name in ("name", "folder", "title", "trigger", "trainer", "top_tags")
        )
        condition.add(f"({columns})", *[pattern] * 6)
