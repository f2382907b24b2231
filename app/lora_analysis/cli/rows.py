"""Many adapters, one row each: on a terminal, and as Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..text import printable
from . import wording
from .exits import Exit
from .looking import Outcome
from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

HEADINGS = ("adapter", "size", "dialect", "algorithm", "base", "layers", "rank", "alpha", "findings")
_RIGHT = {"size", "layers", "rank", "alpha"}


class Row(NamedTuple):
    """The cells of one adapter, ready to print, and what else has to be said about it."""

    cells: tuple[str, ...]
    code: Exit
    complaint: str | None
    severity: str | None  # of the worst finding
    readable: bool


def row_of(outcome: Outcome) -> Row:
    """Condense an outcome; runs in the workers."""
    return Row(_cells(outcome), outcome.code, outcome.complaint, _worst(outcome), outcome.document is not None)


def _cells(outcome: Outcome) -> tuple[str, ...]:
    document = outcome.document
    if document is None:
        return (outcome.path, *("" for _ in HEADINGS[2:]), f"error: {(outcome.error or {})['code']}")
    what = document["architecture_info"]
    base = what["base_model"]
    return (
        outcome.path,
        wording.size(document["file_info"]["file_size_bytes"]),
        str(document["model_info"]["format"]),
        str(what["algorithm"]),
        f"{base['family']}, not {base['from_header']}" if base["conflict"] else base["family"],
        str(what["layers"]),
        _range(what["rank_distribution"]),
        _range(what["alpha_distribution"]),
        _count(outcome),
    )


def _range(distribution: dict[str, int]) -> str:
    values = sorted(distribution, key=float)
    return "–".join(dict.fromkeys((values[0], values[-1]))) if values else ""


def _count(outcome: Outcome) -> str:
    severities = [finding["severity"] for finding in outcome.findings]
    counts = {name: severities.count(name) for name in ("error", "warning", "info")}
    return wording.sentence(wording.quantity(count, name) for name, count in counts.items() if count)


def _worst(outcome: Outcome) -> str | None:
    found = {finding["severity"] for finding in outcome.findings}
    return next((name for name in ("error", "warning", "info") if name in found), None)


_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", None: ""}


def rich_table(rows: Sequence[Row]) -> RenderableType:
    """All rows between the folder they share and their number; the worst finding colours the last cell."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in HEADINGS:
        right = heading in _RIGHT
        # All but the name are short; the name folds into what they leave.
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "adapter", overflow="fold")
    shared = shared_folder([row.cells[0] for row in rows])
    for row in rows:
        name, *middle, last = row.cells
        cells = (shown(name.removeprefix(shared), limit=300), *(shown(cell, limit=60) for cell in middle))
        table.add_row(*cells, shown(last, _STYLES[row.severity], limit=60))
    header = [shown(shared, "dim", limit=300)] if shared else []
    return Group(*header, table, shown(_footer(rows), "dim"))


def _footer(rows: Sequence[Row]) -> str:
    unreadable = sum(not row.readable for row in rows)
    return wording.sentence(
        [wording.quantity(len(rows), "adapter"), f"{unreadable} not readable" if unreadable else None]
    )


def shared_folder(paths: Sequence[str]) -> str:
    """The folder above all ``paths``, with its separator; empty where there is none or only one path."""
    folders = {os.path.dirname(path) for path in paths}
    # commonpath refuses a mix of absolute and relative paths.
    if len(paths) < 2 or "" in folders or len({os.path.isabs(folder) for folder in folders}) > 1:
        return ""
    common = os.path.commonpath(folders)
    return os.path.join(common, "") if common else ""


def markdown_table(rows: Iterable[Row]) -> str:
    """The same table as Markdown, with nothing in a cell that Markdown or HTML would take for its own."""
    lines = ["| " + " | ".join(HEADINGS) + " |"]
    lines.append("|" + "|".join(" ---: " if heading in _RIGHT else " --- " for heading in HEADINGS) + "|")
    lines += ["| " + " | ".join(_escaped(cell) for cell in row.cells) + " |" for row in rows]
    return "\n".join(lines)


def _escaped(cell: str) -> str:
    text = printable(cell, limit=300)
    return "".join(f"\\{character}" if character in "\\`*_{}[]<>|#~!&" else character for character in text)
