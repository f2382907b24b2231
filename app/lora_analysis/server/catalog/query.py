"""Search, filters, facets and pages over the catalog."""

from __future__ import annotations

import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, NamedTuple

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
    " checkpoint,"
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


class _Counts(NamedTuple):
    """All rows that match, as numbers per combination of facet values."""

    groups: list[tuple[Any, ...]]  # one value per facet, one flag per problem, count, smallest and largest rank
    tags: list[tuple[str | None, int]]


class Library:
    """Answers queries; counts, which cost the most, are kept until the catalog changes."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: OrderedDict[Query, list[tuple[Any, ...]]] = OrderedDict()
        self._tags: list[tuple[str | None, int]] | None = None
        self._generation = -1
        self._lock = Lock()
        self._counting = Lock()

    def find(self, query: Query) -> Page:
        condition = self._condition(query)
        direction = "DESC" if query.descending else "ASC"
        order = f"{SORTS[query.sort]} {direction}, id"
        if query.sort != "name":  # every item has a name, so its index gives the order
            order = f"{SORTS[query.sort]} IS NULL, {order}"
        # Numbers of rows are sorted first, and whole rows read for one page only.
        statement = (
            f"SELECT {_LIST_COLUMNS} FROM"
            f" (SELECT rowid AS number FROM items{condition.where()} ORDER BY {order} LIMIT ? OFFSET ?)"
            f" CROSS JOIN items ON items.rowid = number ORDER BY {order}"  # CROSS: the page first, then its rows
        )
        with self._catalog.database.read() as connection:
            rows = connection.execute(statement, [*condition.values, query.limit, query.offset]).fetchall()
        return self._page(query, rows, self._counted(query))

    def _page(self, query: Query, rows: list[sqlite3.Row], counts: _Counts) -> Page:
        wanted = [(at, frozenset(dict(query.facets).get(name, ()))) for at, name in enumerate(FACETS)]
        first_flag, count_at = len(FACETS), len(FACETS) + len(PROBLEMS)
        flags = [first_flag + at for at, name in enumerate(PROBLEMS) if name in query.problems]
        facets: dict[str, Counter[str | None]] = {name: Counter() for name in FACETS}
        problems: Counter[str] = Counter(dict.fromkeys(PROBLEMS, 0))
        total, low, high = 0, None, None
        for group in counts.groups:
            failed = [at for at, values in wanted if values and (group[at] or "") not in values]
            has_problem = not flags or any(group[at] for at in flags)
            number = group[count_at]
            if has_problem and len(failed) <= 1:
                for at, name in enumerate(FACETS):
                    if not failed or failed == [at]:
                        facets[name][group[at]] += number
            if not failed:
                for at, name in enumerate(PROBLEMS):
                    problems[name] += number if group[first_flag + at] else 0
            if not failed and has_problem:
                total += number
                low = min((value for value in (low, group[count_at + 1]) if value is not None), default=None)
                high = max((value for value in (high, group[count_at + 2]) if value is not None), default=None)
        shown = {name: _ordered(counter)[:_MOST_FACET_VALUES] for name, counter in facets.items()}
        shown |= {"problems": list(problems.items()), "tags": counts.tags}
        return Page(rows, total, shown, None if low is None or high is None else (low, high))

    def row(self, item: str) -> sqlite3.Row | None:
        """One adapter's row, as in a page."""
        with self._catalog.database.read() as connection:
            found: sqlite3.Row | None = connection.execute(
                f"SELECT {_LIST_COLUMNS} FROM items WHERE id = ?",
                (item,),
            ).fetchone()
        return found

    def checkpoints(self, limit: int) -> list[sqlite3.Row]:
        """Rows of the base weights that were found, by name."""
        with self._catalog.database.read() as connection:
            return connection.execute(
                f"SELECT {_LIST_COLUMNS} FROM items WHERE checkpoint ORDER BY name COLLATE NOCASE, folder, id LIMIT ?",
                (limit,),
            ).fetchall()

    def _counted(self, query: Query) -> _Counts:
        """Counts, kept by what cannot be applied to groups afterwards."""
        grouped = replace(query, facets=(), problems=(), sort="name", descending=False, offset=0, limit=0)
        generation = self._catalog.generation()
        found = self._known(grouped, generation)
        if found is not None:
            return found
        # One at a time: whoever asks the same just after a change gets what the first has counted.
        with self._counting:
            found = self._known(grouped, generation)
            return self._count(grouped, generation) if found is None else found

    def _known(self, grouped: Query, generation: int) -> _Counts | None:
        with self._lock:
            if generation > self._generation:
                self._kept.clear()
                self._tags = None
                self._generation = generation
            groups, tags = self._kept.get(grouped), self._tags
        return None if groups is None or tags is None else _Counts(groups, tags)

    def _count(self, grouped: Query, generation: int) -> _Counts:
        with self._lock:
            tags = self._tags
        counts = _Counts(self._groups(grouped), self._count_tags() if tags is None else tags)
        with self._lock:
            if generation == self._generation:
                self._kept[grouped], self._tags = counts
            while len(self._kept) > _KEPT_ANSWERS:
                self._kept.popitem(last=False)
        return counts

    def _groups(self, query: Query) -> list[tuple[Any, ...]]:
        """One pass over the rows, whatever the number of facets."""
        condition = self._condition(query)
        keys = ", ".join((*FACETS.values(), *PROBLEMS.values()))
        places = ", ".join(str(at + 1) for at in range(len(FACETS) + len(PROBLEMS)))
        with self._catalog.database.read() as connection:
            rows = connection.execute(
                f"SELECT {keys}, count(*), min(rank_min), max(rank_max)"
                f" FROM items{condition.where()} GROUP BY {places}",
                condition.values,
            ).fetchall()
        return [tuple(row) for row in rows]

    def _count_tags(self) -> list[tuple[str | None, int]]:
        """Of the whole library: a library of 10,000 adapters has hundreds of thousands, too many for every search."""
        with self._catalog.database.read() as connection:
            rows = connection.execute(
                f"SELECT tag, count(*) AS n FROM tags GROUP BY tag ORDER BY n DESC, tag LIMIT {_MOST_TAGS}"
            ).fetchall()
        return [(row[0], row[1]) for row in rows]

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


def _ordered(counter: Counter[str | None]) -> list[tuple[str | None, int]]:
    """Most frequent first; of equals, what is not stated before the rest in alphabetical order."""
    return sorted(counter.items(), key=lambda item: (-item[1], item[0] is not None, item[0] or ""))
