"""Memory is given back once, after a busy time, and threads that are idle take their connections along."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from lora_analysis.server import quiet
from lora_analysis.server.database import Database
from lora_analysis.server.quiet import QuietTimes


def looks(requests: list[int], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    async def nothing() -> None: ...

    async def all_of_them() -> list[bool]:
        times = QuietTimes()
        return [await times.look(number) for number in requests]

    monkeypatch.setattr(quiet, "give_memory_back", nothing)
    return anyio.run(all_of_them)


@pytest.mark.parametrize(
    ("requests", "given_back"),
    [
        ([0, 0, 0], [True, False, False]),  # what starting took
        ([900, 1800, 1802, 1804, 1805], [False, False, True, False, False]),
        ([3, 500, 501, 503, 900, 901], [True, False, True, False, False, True]),
    ],
)
def test_it_is_given_back_once_after_every_busy_time(
    requests: list[int], given_back: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert looks(requests, monkeypatch) == given_back


def test_idle_threads_end_and_their_connections_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "x.sqlite3", ["CREATE TABLE a (b)"])
    monkeypatch.setattr("anyio._backends._asyncio.WorkerThread.MAX_IDLE_TIME", 0.2)

    def ask() -> None:
        with database.read() as connection:
            assert isinstance(connection, sqlite3.Connection)
            time.sleep(0.05)

    def workers() -> int:
        return sum("AnyIO" in thread.name for thread in threading.enumerate())

    async def busy() -> tuple[int, int]:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(anyio.to_thread.run_sync, ask)
        most = workers()
        await anyio.sleep(0.4)
        await quiet.give_memory_back()
        return most, workers()

    most, left = anyio.run(busy)
    assert most >= 4
    assert left <= 1
