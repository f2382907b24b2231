"""What commands that write say in the end: facts by label, what was left out by reason, where the output is.

Names and reasons come from a stranger's file, so all go through ``shown``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def fact_table(rows: Iterable[tuple[str, str]]) -> Table:
    """One line per fact, its label before it."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label, value in rows:
        table.add_row(label, shown(value))
    return table


def page(
    rows: Iterable[tuple[str, str]],
    document: Mapping[str, Any],
    left_out: Iterable[Mapping[str, str]],
    *,
    reason_of: Callable[[str], str] = str,
) -> RenderableType:
    """The whole page: facts, the document's notes, one line for each reason in ``left_out``, the output's path.

    ``left_out``: ``name`` and ``reason`` of each; ``--json`` lists them all. ``reason_of``: the part of a reason that
    many share.
    """
    from rich.console import Group

    parts: list[RenderableType] = [fact_table(rows)]
    parts += [shown(note, "yellow", limit=300) for note in document.get("notes", ())]
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(reason_of(one["reason"]), []).append(one["name"])
    parts += [
        shown(f"left out: {len(names):,}, e.g. {names[0]}: {reason}", "yellow", limit=300)
        for reason, names in by_reason.items()
    ]
    if "output" in document:
        parts.append(shown(f"written: {document['output']['path']}", "green", limit=300))
    return Group(*parts)
