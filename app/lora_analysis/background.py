"""Run a synchronous use case from a coroutine: in a thread, and stoppable."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(work: Callable[[Callable[[], bool]], Result]) -> Result:
    """``work(cancel)`` in a thread. Cancelling the awaiting task makes ``cancel()`` true.

    A thread cannot be stopped from outside, so the work has to ask; it ends with CancelledError, unseen.
    """
    import asyncio  # 20 ms to load, and the command line never needs it

    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop.is_set)
    except asyncio.CancelledError:
        stop.set()
        raise
