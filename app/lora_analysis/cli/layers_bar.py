"""A bar over layers on stderr, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..text import printable
from .looking import Progress
from .output import console


@contextmanager
def layers_bar(name: str) -> Iterator[Progress | None]:
    """A function to call with layers done and layers in all; None where nobody would see the bar."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console(stderr=True), transient=True) as bars:
        task = bars.add_task(printable(name, limit=60), total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
