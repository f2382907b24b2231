"""Memory that a busy hour took, given back in the quiet one after it.

Fifty clients make forty threads; each has a connection to the catalog with a page cache, and memory of its own from the
C library, which keeps what is freed. None of it goes away by itself while nobody asks for anything.
"""

from __future__ import annotations

import gc
import sys

import anyio.to_thread

LOOK_SECONDS = 11.0  # anyio ends threads that were idle for ten
_FEW = 5  # requests between two looks: a page that is open asks now and then
_ENDING_SECONDS = 0.5


class QuietTimes:
    """Notices when a busy time is over."""

    def __init__(self) -> None:
        self._requests = 0
        self._was_busy = True  # starting and the first scan are work too

    async def look(self, requests: int) -> bool:
        """Call it every ``LOOK_SECONDS`` with the number of requests so far. Returns: whether memory was given back."""
        is_busy = requests - self._requests > _FEW
        self._requests = requests
        if is_busy or not self._was_busy:
            self._was_busy = is_busy or self._was_busy
            return False
        self._was_busy = False
        await give_memory_back()
        return True


async def give_memory_back() -> None:
    """End idle threads, with their connections, and return what the C library keeps."""
    await anyio.to_thread.run_sync(_nothing)  # anyio looks for idle threads when it needs one
    await anyio.sleep(_ENDING_SECONDS)
    await anyio.to_thread.run_sync(_trim)


def _nothing() -> None: ...


def _trim() -> None:
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; other C libraries give back by themselves
    if trim is not None:
        trim(0)


__all__ = ["LOOK_SECONDS", "QuietTimes", "give_memory_back"]
