"""From paths to a merged file: ``merge``, and ``merge_loras``, which returns a plain dict for applications."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ..failures import caught
from ..formats import open_adapter
from ..json_ready import encodable, json_ready
from .options import MergeOptions, merge_options
from .planning import plan_merge
from .writing import MergeReport, check_merge_output, write_merge

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


def merge(
    paths: Sequence[PathLike],
    weights: Sequence[float] | None,
    target: PathLike,
    options: MergeOptions,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> MergeReport:
    """Open, plan, write. Raises: what ``open_adapter``, ``plan_merge`` and ``write_merge`` raise."""
    with ExitStack() as stack:
        adapters = [stack.enter_context(open_adapter(path)) for path in paths]
        # Predictions are for people who look at a plan; the report measures.
        plan = plan_merge(adapters, weights, options, predict=False, workers=workers, cancel=cancel)
        check_merge_output(plan, target, overwrite=overwrite)
        return write_merge(plan, target, overwrite=overwrite, workers=workers, progress=progress, cancel=cancel)


def merge_loras(
    paths: Sequence[PathLike],
    weights: Sequence[float] | None,
    output_path: PathLike,
    new_rank: int | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Merge files or folders into one adapter. Does not raise for bad input.

    ``options`` are those of :func:`.options.merge_options`: ``normalize``, ``dtype``, ``energy``, ``size``, ...

    Returns: ``success``, ``output_path``, ``layers_total`` and ``layers_changed`` (all of the output's: each is a sum),
    ``layers_skipped`` (of the inputs, those that are not in the output), ``new_rank`` (None where layers differ),
    ``relative_error`` (measured on what was stored), ``size_after`` in bytes, ``report``; where it failed,
    ``error``: ``{"type", "code", "message"}``, and nothing was written.
    """
    found: dict[str, Any] = {
        "success": False,
        "output_path": None,
        "layers_total": 0,
        "layers_changed": 0,
        "layers_skipped": 0,
        "new_rank": None,
        "relative_error": None,
        "size_after": None,
        "report": None,
    }

    def work() -> None:
        found["output_path"] = encodable(os.fspath(output_path))
        asked = merge_options(rank=new_rank, **options)
        report = merge(
            paths, weights, output_path, asked, overwrite=overwrite, workers=workers, progress=progress, cancel=cancel
        )
        found.update(_summary(report))

    error = caught(work, doing="merging", path=output_path, logger=logger)
    ready: dict[str, Any] = json_ready(found if error is None else {**found, "error": error})
    return ready


def _summary(report: MergeReport) -> dict[str, Any]:
    ranks = list(report.plan.ranks)
    return {
        "success": True,
        "layers_total": len(report.layers),
        "layers_changed": len(report.layers),
        "layers_skipped": report.plan.layers_dropped,
        "new_rank": ranks[0] if len(ranks) == 1 else None,
        "relative_error": report.relative_error,
        "size_after": report.written.size,
        "report": report.to_dict(),
    }
