"""Inspect one adapter or a thousand: the same outcome for each, in the order asked for.

Many files are shared out among this process and workers, in batches. A file that cannot be read is an outcome too, so
one bad file never stops the others.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import LoraAnalysisError
from ..json_ready import encodable
from ..text import printable
from .exits import Exit, exit_code

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")
Progress = Callable[[int, int], None]  # bytes done, bytes in all

PARALLEL_FROM = 50  # files; below that, starting workers costs more than it saves
BATCH = 16  # files per task: large enough that passing messages is cheap, small enough to share the work out


@dataclass(frozen=True, slots=True)
class Options:
    """What to look at besides headers and alphas."""

    hash: bool = False
    scan: bool = False
    layers: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one adapter: a document, or the error that stood in the way."""

    path: str
    document: dict[str, Any] | None = None  # the blocks of `Inspection.to_dict`, `layers` where asked for
    error: dict[str, str] | None = None
    code: Exit = Exit.OK

    @property
    def findings(self) -> list[dict[str, Any]]:
        """Everything odd about the adapter; the error, where it could not be read, is one."""
        if self.document is not None:
            return list(self.document["validation_info"]["findings"])
        error = self.error or {}
        return [{"severity": "error", "code": error["code"], "message": error["message"], "layer": None}]

    @property
    def complaint(self) -> str | None:
        """One line for stderr where the adapter could not be read or is not valid."""
        if self.error is not None:
            return self.error["message"]
        errors = [finding["message"] for finding in self.findings if finding["severity"] == "error"]
        if not errors:
            return None
        rest = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return f"{printable(self.path)}: {errors[0]}{rest}"

    def to_dict(self) -> dict[str, Any]:
        """``path`` and the inspection's blocks, or ``path`` and ``error``."""
        rest = self.document if self.document is not None else {"error": self.error}
        return {"path": encodable(self.path), **rest}


def look(path: str, options: Options, progress: Progress | None = None) -> Outcome:
    """Inspect one adapter. Errors of this package become part of the outcome; others are bugs and raise."""
    from ..metadata import inspect

    try:
        inspection = inspect(path, hash=options.hash, scan_values=options.scan, progress=progress)
        document = inspection.to_dict()
        if options.layers:
            from ..inspection.layer_list import list_layers

            document["layers"] = list_layers(path)
    except LoraAnalysisError as error:
        return Outcome(path, error=error.to_dict(), code=exit_code(error))
    return Outcome(path, document, code=Exit.OK if inspection.is_valid else Exit.FAILURE)


def look_at_all(
    paths: Sequence[str], options: Options, *, condense: Callable[[Outcome], T], workers: int | None = None
) -> Iterator[T]:
    """``condense(outcome)`` of every path, in order. ``condense`` runs in the workers: let it keep little.

    It has to be a function of a module, because processes are started anew ("spawn") on every system alike.
    ``workers``: how many processes share the work, this one among them; one per usable core unless said otherwise.
    """
    if workers is None:
        from ..doctor import usable_cores

        workers = usable_cores()
    if len(paths) <= PARALLEL_FROM or workers < 2:
        for path in paths:
            yield from _look_at_batch([path], options, condense)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    others = min(workers - 1, len(batches))
    pool = ProcessPoolExecutor(others, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        futures = [pool.submit(_look_at_batch, batch, options, condense) for batch in batches]
        for results in _in_order(futures, lambda index: _look_at_batch(batches[index], options, condense)):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(futures: Sequence[Future[T]], do: Callable[[int], T]) -> Iterator[T]:
    """The results of ``futures``, in order. Instead of waiting, this process does the next one nobody has begun.

    Starting a process takes as long as a hundred adapters: one less to start, and none to wait for at first.
    """
    own: dict[int, T] = {}
    next_own = 0
    for index, future in enumerate(futures):
        while index not in own and not future.done() and next_own < len(futures):
            if futures[next_own].cancel():
                own[next_own] = do(next_own)
            next_own += 1
        yield own.pop(index) if index in own else _result(future, partial(do, index))


def _result(future: Future[T], instead: Callable[[], T]) -> T:
    """What the workers made. Where they cannot start, or one was killed, this process does it."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        return future.result()
    except BrokenProcessPool:
        return instead()


def _start_worker() -> None:
    """Settings of a worker process."""
    # Ctrl-C reaches every process of the terminal; the parent alone answers it, with one line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _look_at_batch(paths: Sequence[str], options: Options, condense: Callable[[Outcome], T]) -> list[T]:
    with _without_collector():
        return [condense(look(path, options)) for path in paths]


@contextmanager
def _without_collector() -> Iterator[None]:
    """An adapter is thousands of small objects without a cycle among them.

    The collector finds nothing, and searching takes a tenth of the time. What was a cycle after all is found later.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
