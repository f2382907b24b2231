"""A resize for a person to read: ranks, size, error, what loses most, what is left alone.

Names of layers come from a stranger's file, so all go through ``shown``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from . import wording
from .facts import fact_table
from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ..resizing.plan import LayerPlan, ResizePlan
    from ..resizing.writing import ResizeReport

NAME_LIMIT = 200
WORST = 10


def resize_view(result: ResizePlan | ResizeReport, *, with_worst: bool = True) -> RenderableType:
    """The whole page, of a plan or of what was done; ``with_worst`` lists the layers that lose most."""
    from rich.console import Group

    from ..resizing.notes import skipped_in_words
    from ..resizing.plan import ResizePlan

    plan, report = (result, None) if isinstance(result, ResizePlan) else (result.plan, result)
    parts: list[RenderableType] = [fact_table(_rows(plan, report))]
    worst = _worst(report.layers.values() if report is not None else plan.layers.values())
    if worst and with_worst:
        parts += ["", _layer_table(worst)]
    parts += [shown(note, "yellow", limit=300) for note in (*plan.notes, *skipped_in_words(plan))]
    if report is not None:
        parts.append(shown(f"written: {report.written.path}", "green", limit=300))
    return Group(*parts)


def _rows(plan: ResizePlan, report: ResizeReport | None) -> Iterator[tuple[str, str]]:
    yield "layers", f"{len(plan.changed):,} of {len(plan.layers):,} change"
    before = {str(rank): count for rank, count in plan.rank_distribution_before.items()}
    after = {str(rank): count for rank, count in plan.rank_distribution.items()}
    bars = f"  {wording.sparkline(after)}" if len(after) > 1 else ""
    yield "rank", f"{wording.spread(before)} → {wording.spread(after)}{bars}"
    size = plan.size_after if report is None else report.written.size
    yield "size", f"{wording.size(plan.size_before)} → {wording.size(size)} ({size:,} bytes)"
    yield "error", _error(plan, report)


def _error(plan: ResizePlan, report: ResizeReport | None) -> str:
    if report is not None:
        stored, truncated = _percent(report.relative_error), _percent(report.relative_error_before_rounding)
        return f"{stored} of ‖Δ‖ as stored, {truncated} by truncation"
    return "not calculated" if plan.relative_error is None else f"{_percent(plan.relative_error)} of ‖Δ‖"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _worst(layers: Iterable[LayerPlan]) -> list[LayerPlan]:
    """The layers that lose most."""
    found = [one for one in layers if one.is_changed and one.relative_error]
    return sorted(found, key=lambda one: -(one.relative_error or 0.0))[:WORST]


def _layer_table(layers: list[LayerPlan]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layers that lose most", overflow="fold")
    for heading in ("rank", "error"):
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in layers:
        ranks = f"{layer.old_rank or '–'} → {layer.new_rank}"
        table.add_row(shown(layer.name, limit=NAME_LIMIT), ranks, _percent(layer.relative_error or 0.0))
    return table
