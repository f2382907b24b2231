"""Resize adapters: ``plan_resize`` and ``resize``, and the async ``LoraResizer`` for applications."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .adapter import Adapter
from .background import in_thread
from .errors import OptionError
from .failures import caught
from .formats import open_adapter
from .json_ready import encodable, json_ready
from .resizing.notes import skipped_in_words
from .resizing.plan import ResizePlan
from .resizing.planning import plan_resize as plan_with_options
from .resizing.request import options_of

if TYPE_CHECKING:
    from .resizing.writing import ResizeReport

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]
Cancel = Callable[[], bool]
_MEGABYTE = 1e6


def plan_resize(
    adapter: Adapter,
    *,
    predict: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> ResizePlan:
    """What a resize will do to every layer of an open adapter: ranks, sizes, errors. Nothing is written.

    ``asked``: ``rank=32``, ``energy=0.95``, ``size=50e6``, ``error=0.05``, ...; see
    :func:`.resizing.request.options_of`. ``predict=False`` skips the errors where no rank depends on singular values,
    and then costs no more than the header. ``progress(layers_done, layers_in_all)``.

    Raises: OptionError, UnknownDialectError where no layer can be resized, NonFiniteError naming the layer,
    CancelledError.
    """
    options = options_of(**asked)
    return plan_with_options(
        adapter, options, predict=predict, workers=workers, progress=progress, cancel=cancel
    )  # fmt: skip


def resize(
    path: PathLike,
    output: PathLike,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> ResizeReport:
    """Write a resized copy of an adapter: safetensors, a PyTorch checkpoint where the suffix says so, or a folder.

    ``asked`` as for :func:`plan_resize`. An adapter with ``adapter_config.json`` gets a new one: name a folder, or its
    weights file. ``progress(bytes_written, bytes_in_all)``.

    Raises: what ``open_adapter`` and ``plan_resize`` raise; OptionError where the output is the input; OutputError.
    In every case the input is as it was, and so is whatever was at ``output``.
    """
    from .formats.digest_ahead import DigestAhead
    from .resizing.writing import check_target_for, write_resize

    options = options_of(**asked)
    with DigestAhead(path) as ahead, open_adapter(path, lenient_metadata=True) as adapter:
        check_target_for(adapter, output, overwrite=overwrite)  # before the singular values, which take a while
        plan = plan_with_options(adapter, options, predict=False, workers=workers, cancel=cancel)
        return write_resize(
            plan, output,
            overwrite=overwrite, workers=workers, progress=progress, cancel=cancel, digest_ahead=ahead,
        )  # fmt: skip


# -- the application's interface ---------------------------------------------------------------------


class LoraResizer:
    """Resizing for applications: coroutines that return plain dicts and do not raise for bad input.

    The work runs in a thread; cancelling the task stops it. Every dict is strict JSON, sizes in MB are decimal.
    """

    async def validate_resize_operation(self, path: PathLike, new_rank: int | None, **options: Any) -> dict[str, Any]:
        """What resizing to ``new_rank`` would give: it reads every layer once and writes nothing.

        Returns: ``is_valid``, ``current_rank`` (the most common), ``ranks`` (layers per rank), ``new_rank``,
        ``file_size_mb``, ``estimated_size_mb`` (exact), ``estimated_error`` (relative, before rounding),
        ``warnings`` and ``errors`` (sentences). What could not be found out is None.
        """
        return await in_thread(lambda cancel: _validate(path, new_rank, options, cancel))

    async def resize_lora_rank(
        self, path: PathLike, new_rank: int | None, output_path: PathLike, **options: Any
    ) -> dict[str, Any]:
        """Resize to ``new_rank``, or by a rule or budget among ``options`` where it is None; see :func:`resize`.

        Returns: ``success``, ``output_path``, ``layers_total``, ``layers_changed``, ``layers_skipped``, ``old_rank``
        and ``new_rank`` (None where layers differ), ``relative_error`` (measured on what was stored), ``size_before``
        and ``size_after`` in bytes, ``report``; where it failed, ``error``: ``{"type", "code", "message"}``.
        """
        return await in_thread(lambda cancel: _resize(path, new_rank, output_path, options, cancel))

    async def merge_loras(
        self,
        paths: Sequence[PathLike],
        weights: Sequence[float] | None,
        output_path: PathLike,
        new_rank: int | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Write the weighted sum of several adapters, truncated to ``new_rank`` where it is given.

        Weights are divided by their sum unless ``normalize=False``. Further options, and what is returned, are those
        of :func:`.merging.api.merge_loras`.
        """
        from .merging.api import merge_loras

        return await in_thread(
            lambda cancel: merge_loras(paths, weights, output_path, new_rank, cancel=cancel, **options)
        )


def _validate(path: PathLike, new_rank: int | None, options: Mapping[str, Any], cancel: Cancel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "is_valid": False,
        "current_rank": None,
        "ranks": {},
        "new_rank": new_rank,
        "file_size_mb": None,
        "estimated_size_mb": None,
        "estimated_error": None,
        "warnings": [],
        "errors": [],
    }

    def work() -> None:
        with open_adapter(path, lenient_metadata=True) as adapter:
            ranks = Counter(layer.rank for layer in adapter.layers.values() if layer.rank)
            found["ranks"] = {str(rank): count for rank, count in sorted(ranks.items())}
            found["current_rank"] = ranks.most_common(1)[0][0] if ranks else None
            found["file_size_mb"] = adapter.source.size / _MEGABYTE
            plan = plan_resize(adapter, rank=new_rank, cancel=cancel, **options)
        found["estimated_size_mb"] = plan.size_after / _MEGABYTE
        found["estimated_error"] = plan.relative_error
        found["warnings"] = [*plan.notes, *skipped_in_words(plan)]
        if not plan.changed:
            raise OptionError("no layer would change; every rank already satisfies the request")

    error = caught(work, doing="resizing", path=path, logger=logger)
    if error is None:
        found["is_valid"] = True
    else:
        found["errors"] = [error["message"]]
    ready: dict[str, Any] = json_ready(found)
    return ready


def _resize(
    path: PathLike, new_rank: int | None, output_path: PathLike, options: Mapping[str, Any], cancel: Cancel
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "success": False,
        "output_path": None,
        "layers_total": 0,
        "layers_changed": 0,
        "layers_skipped": 0,
        "old_rank": None,
        "new_rank": None,
        "relative_error": None,
        "size_before": None,
        "size_after": None,
        "report": None,
    }

    def work() -> None:
        found["output_path"] = encodable(os.fspath(output_path))
        asked = dict(options) if new_rank is None else {**options, "rank": new_rank}
        found.update(_summary(resize(path, output_path, cancel=cancel, **asked)))

    error = caught(work, doing="resizing", path=path, logger=logger)
    ready: dict[str, Any] = json_ready(found if error is None else {**found, "error": error})
    return ready


def _summary(report: ResizeReport) -> dict[str, Any]:
    plan = report.plan
    return {
        "success": True,
        "layers_total": len(plan.layers),
        "layers_changed": len(plan.changed),
        "layers_skipped": len(plan.kept),
        "old_rank": _only(layer.old_rank for layer in plan.layers.values()),
        "new_rank": _only(layer.new_rank for layer in plan.layers.values()),
        "relative_error": report.relative_error,
        "size_before": plan.size_before,
        "size_after": report.written.size,
        "report": report.to_dict(),
    }


def _only(values: Iterable[int | None]) -> int | None:
    """The one value that all who have one share, else None."""
    found = {value for value in values if value is not None}
    return found.pop() if len(found) == 1 else None
