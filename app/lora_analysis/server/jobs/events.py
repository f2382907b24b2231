"""One stream of events about all jobs, for any number of listeners, that a listener can take up again where it was."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from threading import Lock
from typing import Any, NamedTuple

_KEPT = 1_000  # events for listeners that come back
_QUEUED = 500  # events for one listener that does not keep up; then it is told to start over


class Event(NamedTuple):
    """``id`` is of this run of the server; after a restart no id is known and everything is told again."""

    id: str
    name: str
    data: Any


class _Listener:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUED)

    def put(self, event: Event | None) -> None:
        try:
            self.queue.put_nowait(event)
        except asyncio.QueueFull:
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(None)  # ends the stream; the client reconnects and hears the state of everything


class Events:
    """Threads publish, coroutines listen."""

    def __init__(self) -> None:
        self._run = secrets.token_hex(4)
        self._count = 0
        self._kept: deque[Event] = deque(maxlen=_KEPT)
        self._listeners: set[_Listener] = set()
        self._lock = Lock()
        self._is_closed = False

    def publish(self, name: str, data: Any) -> None:
        with self._lock:
            self._count += 1
            event = Event(f"{self._run}-{self._count}", name, data)
            self._kept.append(event)
            for listener in self._listeners:
                with suppress(RuntimeError):  # its loop has closed
                    listener.loop.call_soon_threadsafe(listener.put, event)

    def last_id(self) -> str:
        with self._lock:
            return f"{self._run}-{self._count}"

    def close(self) -> None:
        """End every stream, and those that begin from now on: the server stops."""
        with self._lock:
            self._is_closed = True
            for listener in self._listeners:
                with suppress(RuntimeError):
                    listener.loop.call_soon_threadsafe(listener.put, None)

    def missed_since(self, last: str | None) -> list[Event] | None:
        """What was published after the event ``last``; None where that is not known any more."""
        with self._lock:
            return self._missed(last)

    def _missed(self, last: str | None) -> list[Event] | None:
        run, _, number = (last or "").partition("-")
        if run != self._run or not number.isascii() or not number.isdigit() or len(number) > 15:
            return None
        after = int(number)
        if after > self._count or (after < self._count and (not self._kept or _number(self._kept[0]) > after + 1)):
            return None
        return [event for event in self._kept if _number(event) > after]

    async def listen(self, last: str | None) -> AsyncIterator[Event | None]:
        """Events after ``last``, and on. First of all None where these are not known: tell the state of everything."""
        listener = _Listener(asyncio.get_running_loop())
        with self._lock:
            missed = self._missed(last)
            self._listeners.add(listener)
            if self._is_closed:
                listener.put(None)
        try:
            if missed is None:
                yield None
            for event in missed or ():
                yield event
            while (event_or_end := await listener.queue.get()) is not None:
                yield event_or_end
        finally:
            with self._lock:
                self._listeners.discard(listener)


def _number(event: Event) -> int:
    return int(event.id.rpartition("-")[2])
