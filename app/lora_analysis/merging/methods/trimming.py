"""Trimming to a density: the threshold of every task, of one layer or of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .method import Request

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array

Passes = Callable[[], Iterable[Sequence["Float64Array"]]]  # one array per task and block, again at each call


def thresholds_of(request: Request, passes: Passes) -> list[float]:
    """Smallest magnitude that stays, per task: that of all layers where it is given, else that of this layer."""
    from functools import partial

    from ...linalg.consensus import keep_count
    from ...linalg.selection import Selection

    tasks, density = request.layer.tasks, request.settings["density"]
    if density == 1:
        return [0.0] * len(tasks)
    if request.thresholds is not None:
        return [request.thresholds[task.number] for task in tasks]
    selections = [Selection(partial(keep_count, density)) for _ in tasks]
    while not all(selection.is_done for selection in selections):
        for blocks in passes():
            for selection, block in zip(selections, blocks, strict=True):
                if not selection.is_done:
                    selection.add(block)
        for selection in selections:
            if not selection.is_done:
                selection.end_pass()
    return [selection.threshold or 0.0 for selection in selections]
