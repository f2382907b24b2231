"""Work on many layers at once, in a few threads, with results in the order of the layers.

numpy and the file system release the interpreter lock, so threads are enough. Each worker's linear algebra
runs on one thread: the matrices are small, and BLAS threads that compete for the same cores made a
full-size adapter 20 times slower. One thread also makes results repeatable to the last bit.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import islice
from threading import Lock
from typing import TypeVar

import numpy as np  # noqa: F401  # loads the BLAS: one that a worker loads after the limit is set keeps all its threads
from threadpoolctl import ThreadpoolController

from ..errors import CancelledError, OptionError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # items in flight per worker: enough to work on while one large layer is at the head of the line
_ROWS, _TOGETHER = 500, 8  # of items that are worked on in one call, at most
_POLL_SECONDS = 0.1  # how soon a wait notices Ctrl-C and cancellation


def map_layers(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Generator[Result, None, None]:
    """``function`` of each item, calculated in ``workers`` threads (default: one per core), in input order.

    Items are taken and results are held a few at a time, so a lazy ``items`` of any length runs in bounded
    memory; nothing starts before the first result is asked for. ``progress`` is called with the number of results
    so far, and ``cancel`` asked whether to stop, both in the thread that consumes the results.

    The first exception in input order ends the work: items not yet begun are dropped, those in progress are
    waited for, so that nothing uses a file after the caller closes it. Closing the iterator early does the same.
    Raises: OptionError for fewer than one worker, CancelledError where ``cancel`` says so, what ``function`` raises.
    """
    if workers is not None and workers < 1:
        raise OptionError(f"{workers} workers were asked for; at least 1 is needed")
    return _run(function, items, workers or available_cores(), progress or _ignore, cancel or _never)


def together(items: Iterable[Item], rows: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in the order given, a few at a time: as many as it takes for threads not to wait for each other.

    numpy keeps the interpreter lock while it decomposes matrices that have fewer than 500 rows together, and a layer's
    small matrices have its rank, ``rows``. So those of several layers go into one call; the bits do not depend on it.
    """
    group: list[Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += rows(item)
        if total >= _ROWS or len(group) == _TOGETHER:
            yield group
            group, total = [], 0
    if group:
        yield group


def map_together(
    function: Callable[[list[Item]], Sequence[Result]],
    groups: Iterable[list[Item]],
    total: int,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[Result]:
    """As :func:`map_layers` where ``function`` takes a few items at once and returns one result for each, all of them.

    ``progress`` is called with the number of results so far and ``total``, which all groups together hold.
    """
    found: list[Result] = []
    with closing(map_layers(function, groups, workers=workers, cancel=cancel)) as results:
        for group in results:
            for one in group:
                found.append(one)
                if progress is not None:
                    progress(len(found), total)
    return found


def out_of(total: int, progress: Callable[[int, int], None] | None) -> Callable[[int], None] | None:
    """A ``progress`` for :func:`map_layers` from one that also wants the number of items in all; None from None."""
    return None if progress is None else lambda done: progress(done, total)


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: respects taskset and container pinning
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    progress: Callable[[int], None],
    cancel: Callable[[], bool],
) -> Generator[Result, None, None]:
    source = iter(items)
    pending: deque[Future[Result]] = deque()
    done = 0
    with single_threaded_blas(), ThreadPoolExecutor(workers, thread_name_prefix="layer") as pool:
        try:
            pending.extend(pool.submit(function, item) for item in islice(source, workers * _AHEAD))
            while pending:
                _wait(pending[0], cancel)
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in islice(source, 1))
                done += 1
                progress(done)
                yield result
        finally:
            for future in pending:
                future.cancel()


def _wait(future: Future[Result], cancel: Callable[[], bool]) -> None:
    while True:
        if cancel():
            raise CancelledError("stopped on request")
        if future.done():
            return
        # In short steps: on Windows an endless wait for a lock cannot be interrupted from the keyboard.
        with suppress(TimeoutError):
            future.exception(_POLL_SECONDS)


def _ignore(done: int) -> None: ...


def _never() -> bool:
    return False


class _SharedLimit:
    """The process's BLAS limited to one thread for as long as anyone needs it.

    BLAS has one thread count per process. Two runs that each saved and restored it would undo one another: the
    first to end would free the second's threads, the last would restore the limit itself. So they are counted.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._restore: Callable[[], object] = lambda: None

    def acquire(self) -> None:
        with self._lock:
            if self._users == 0:
                self._restore = ThreadpoolController().limit(limits=1, user_api="blas").restore_original_limits
            self._users += 1

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._restore()


_blas_limit = _SharedLimit()  # mirrors a setting that is itself one per process


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Linear algebra on one thread per caller, in the whole process, until the last caller leaves."""
    _blas_limit.acquire()
    try:
        yield
    finally:
        _blas_limit.release()
