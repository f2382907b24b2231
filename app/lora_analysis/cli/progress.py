"""Progress on stderr, on a terminal only: a pipe or a log gets none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..text import printable
from .looking import Progress
from .output import console

T = TypeVar("T")


@contextmanager
def bytes_bar(name: str, *, wanted: bool) -> Iterator[Progress | None]:
    """A bar over the bytes of one file; None where nobody would see it."""
    if not wanted or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(name, limit=60), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def counted(results: Iterable[T], total: int) -> Iterator[T]:
    """The same results, with a bar that counts them."""
    if total < 2 or not sys.stderr.isatty():
        yield from results
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    with Bars(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console(stderr=True), transient=True
    ) as bars:
        task = bars.add_task("", total=total)
        for result in results:
            bars.advance(task)
            yield result
