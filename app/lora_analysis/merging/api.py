"""``merge_loras``: paths in, a plain dict out, for applications."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ..errors import LoraAnalysisError
from ..formats import open_adapter
from ..json_ready import json_ready
from .options import MergeOptions, merge_options
from .planning import plan_merge
from .writing import MergeReport, check_merge_output, write_merge

logger = logging.getLogger(__name__)

Cancel = Callable[[], bool]
Progress = Callable[[int, int], None]


def merge(
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None,
    target: str | os.PathLike[str],
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
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None,
    output_path: str | os.PathLike[str],
    new_rank: int | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Merge files or folders into one adapter. Does not raise for bad input.

    ``options`` are those of :func:`.options.merge_options`: ``normalize``, ``dtype``, ``energy``, ``size_bytes``, ...

    Returns: ``{success, output_path, layers_total, layers_changed, layers_skipped, new_rank, relative_error,
    size_after, report}`` and, where it failed, ``error``: ``{"type", "code", "message"}``; then nothing was written.
    ``new_rank`` is the one rank of all layers, None where they differ; ``relative_error`` is measured on what was
    stored; ``layers_skipped`` counts the layers of the inputs that are not in the output.
    """
    result = _empty(output_path)
    try:
        asked = merge_options(rank=new_rank, **options)
        report = merge(
            paths, weights, output_path, asked, overwrite=overwrite, workers=workers, progress=progress, cancel=cancel
        )
    except LoraAnalysisError as error:
        logger.error("%s", error.message)
        return {**result, "error": error.to_dict()}
    ranks = list(report.plan.ranks)
    found = {
        **result,
        "success": True,
        "layers_total": len(report.layers),
        "layers_changed": len(report.layers),
        "layers_skipped": report.plan.layers_dropped,
        "new_rank": ranks[0] if len(ranks) == 1 else None,
        "relative_error": report.relative_error,
        "size_after": report.written.size,
        "report": report.to_dict(),
    }
    ready: dict[str, Any] = json_ready(found)
    return ready


def _empty(output_path: str | os.PathLike[str]) -> dict[str, Any]:
    return {
        "success": False,
        "output_path": json_ready(os.fsdecode(output_path)),
        "layers_total": 0,
        "layers_changed": 0,
        "layers_skipped": 0,
        "new_rank": None,
        "relative_error": None,
        "size_after": None,
        "report": None,
    }
