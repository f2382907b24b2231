"""``plan_merge`` and ``merge`` with plain keywords, and ``merge_loras``, which returns a dict for applications."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..adapter import Adapter
from ..failures import caught
from ..formats import open_adapter
from ..formats.checkpoint import Checkpoint, open_checkpoint
from ..formats.digest_ahead import DigestAhead
from ..json_ready import encodable, json_ready
from .options import BaseRecord, merge_options
from .plan import MergePlan
from .planning import plan_merge as plan_with_options
from .recipe import find_base, find_inputs, read_recipe
from .with_base import merged_beside
from .writing import MergeReport, write_merge

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # done, in all: layers of a plan, bytes of a file
Cancel = Callable[[], bool]


def plan_merge(
    adapters: Sequence[Adapter],
    weights: Sequence[float] | None = None,
    *,
    layer_weights: Sequence[Any] | None = None,
    base: PathLike | Checkpoint | None = None,
    predict: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> MergePlan:
    """What merging open adapters will make: layers, ranks, exact size, error. Nothing is written.

    ``asked``: ``rank=32``, ``energy=0.95``, ``size=50e6``, ``normalize=False``, ...; see
    :func:`.options.merge_options`. ``base``: the checkpoint of DoRA inputs, a file, folder or index of shards. By its
    path it is open for this call only, so the plan can be read and not carried out; an open one is left open. The
    rest, and what is raised, is that of :func:`.planning.plan_merge`.
    """
    options = merge_options(**asked)
    with ExitStack() as stack:
        if base is not None:
            checkpoint = base if isinstance(base, Checkpoint) else stack.enter_context(open_checkpoint(base))
            adapters, options = merged_beside(adapters, checkpoint, options, cancel)
        return plan_with_options(
            adapters, weights, options,
            layer_weights=layer_weights, predict=predict, workers=workers, progress=progress, cancel=cancel,
        )  # fmt: skip


def merge(
    paths: Sequence[PathLike],
    weights: Sequence[float] | None,
    output: PathLike,
    *,
    layer_weights: Sequence[Any] | None = None,
    base: PathLike | None = None,
    expected_base: BaseRecord | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> MergeReport:
    """Write the merge of files or folders: their weighted sum, or what ``method=`` makes; exact, or as ``asked`` says.

    ``asked`` as for :func:`plan_merge`. ``base``: the checkpoint of DoRA inputs, a file, folder or index of shards,
    ``expected_base`` what it was in a recipe. ``progress(bytes_written, bytes_in_all)``.

    Raises: what ``open_adapter``, ``plan_merge`` and ``write_merge`` raise. In every case the inputs are as they were,
    and so is whatever was at ``output``.
    """
    options = merge_options(**asked)
    with ExitStack() as stack:
        ahead = [stack.enter_context(DigestAhead(path)) for path in paths]
        adapters = [stack.enter_context(open_adapter(path, lenient_metadata=True)) for path in paths]
        if base is not None:
            checkpoint = stack.enter_context(open_checkpoint(base))
            adapters, options = merged_beside(adapters, checkpoint, replace(options, base=expected_base), cancel)
        # Predictions are for people who look at a plan; the report measures.
        plan = plan_with_options(
            adapters, weights, options, layer_weights=layer_weights, predict=False, workers=workers, cancel=cancel
        )
        return write_merge(
            plan, output,
            overwrite=overwrite, workers=workers, progress=progress, cancel=cancel, digests_ahead=ahead,
        )  # fmt: skip


def repeat_merge(
    merged: PathLike,
    output: PathLike,
    paths: Sequence[PathLike] = (),
    *,
    base: PathLike | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> MergeReport:
    """Make a merged adapter again, by the recipe in its header.

    Inputs are looked for among ``paths``, and by their names beside ``merged`` and in the current folder; each must
    have the data that was merged then. With the same version the result has the same bytes.

    Raises: OptionError where there is no recipe, or an input is missing or has changed; otherwise as :func:`merge`.
    """
    with open_adapter(merged, lenient_metadata=True) as adapter:
        recipe = read_recipe(adapter)
    folders = dict.fromkeys((Path(merged).resolve().parent, Path.cwd()))
    found = find_inputs(recipe, paths, folders, cancel=cancel)
    checkpoint = find_base(recipe, base, folders)
    return merge(
        found, recipe.weights, output,
        layer_weights=recipe.layer_weights, base=checkpoint, expected_base=recipe.base, overwrite=overwrite,
        workers=workers, progress=progress, cancel=cancel, **recipe.options,
    )  # fmt: skip


def merge_loras(
    paths: Sequence[PathLike],
    weights: Sequence[float] | None,
    output_path: PathLike,
    new_rank: int | None = None,
    *,
    cancel: Cancel | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Merge files or folders into one adapter. Does not raise for bad input.

    ``options`` are those of :func:`merge`: ``normalize``, ``dtype``, ``energy``, ``overwrite``, ...

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
        asked = dict(options) if new_rank is None else {**options, "rank": new_rank}
        found.update(_summary(merge(paths, weights, output_path, cancel=cancel, **asked)))

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
