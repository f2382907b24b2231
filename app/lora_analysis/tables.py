"""Results as tables of notebooks: pandas data frames, and HTML that is inert whatever a file calls itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .errors import MissingExtraError
from .text import printable

_CELL_LIMIT = 200


def data_frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    """A pandas DataFrame of the rows. Raises: MissingExtraError where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtraError("pandas is not installed; pip install pandas", extra="pandas") from error
    return pandas.DataFrame.from_records(list(rows))


def html_table(headings: Sequence[object], rows: Iterable[Sequence[object]], caption: object = "") -> str:
    """An HTML table without style or script; every cell is escaped."""
    head = "".join(f"<th>{_cell(heading)}</th>" for heading in headings)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    title = f"<caption>{_cell(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return escape(printable(value, limit=_CELL_LIMIT))
