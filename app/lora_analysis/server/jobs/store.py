"""The queue in SQLite. A job that was accepted is in it before the client hears of it, and stays over any crash."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import OutputError
from ..database import Database

FILE_NAME = "jobs.sqlite3"
State = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
Family = Literal["scan", "analysis", "write"]
FINISHED: tuple[State, ...] = ("succeeded", "failed", "cancelled", "interrupted")
_MOST_LOG_LINES = 200
_KEPT_FINISHED = 5_000  # jobs; the oldest finished ones are forgotten beyond that

_SCHEMA = (
    """
    CREATE TABLE jobs (
      number INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      kind TEXT NOT NULL,
      family TEXT NOT NULL,
      title TEXT NOT NULL,
      params TEXT NOT NULL,
      key TEXT,
      state TEXT NOT NULL,
      created REAL NOT NULL,
      started REAL,
      finished REAL,
      done INTEGER NOT NULL DEFAULT 0,
      total INTEGER,
      unit TEXT,
      cancel INTEGER NOT NULL DEFAULT 0,
      error TEXT,
      summary TEXT,
      outputs TEXT NOT NULL DEFAULT '[]',
      log TEXT NOT NULL DEFAULT '[]',
      retry_of TEXT
    );
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE INDEX jobs_by_key ON jobs (key)
    """,
)


class QueueFullError(Exception):
    """As many jobs wait as may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """One job as it stands now."""

    number: int
    id: str
    kind: str
    family: Family
    title: str
    params: Mapping[str, Any]
    key: str | None
    state: State
    created: float
    started: float | None
    finished: float | None
    done: int
    total: int | None
    unit: str | None
    cancel: bool
    error: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None
    outputs: Sequence[str]
    log: Sequence[Mapping[str, Any]]
    retry_of: str | None

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED


class JobStore:
    """Every method is one transaction."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.database = Database(os.path.join(folder, FILE_NAME), _SCHEMA)

    def add(
        self,
        kind: str,
        family: Family,
        title: str,
        params: Mapping[str, Any],
        *,
        most: int | None,
        key: str | None = None,
        retry_of: str | None = None,
    ) -> JobRecord:
        """Queue a job. One with a ``key`` that waits or runs already is returned instead of a second.

        Raises: QueueFullError where ``most`` jobs wait; OutputError where a job that has not ended will write an
        output of the same name: of two, the second would find out only after all its work.
        """
        job = secrets.token_hex(10)
        with self.database.write() as connection:
            if key is not None:
                same = connection.execute(
                    "SELECT * FROM jobs WHERE key = ? AND state IN ('queued', 'running') AND cancel = 0", (key,)
                ).fetchone()
                if same is not None:
                    return _record(same)
            waiting = connection.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0]
            if most is not None and waiting >= most:
                raise QueueFullError
            if "output" in params and params["output"] in _promised(connection):
                raise OutputError(f"outputs/{params['output']} is what another job will write; choose another name")
            connection.execute(
                "INSERT INTO jobs (id, kind, family, title, params, key, state, created, retry_of, log)"
                " VALUES (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                (job, kind, family, title, json.dumps(params), key, time.time(), retry_of, _line([], "queued")),
            )
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        return _record(row)

    def take(self) -> JobRecord | None:
        """The next job, now running: analyses, for which somebody waits, before writes, writes before scans."""
        with self.database.write() as connection:
            row = connection.execute(
                "SELECT * FROM jobs WHERE state = 'queued' ORDER BY"
                " CASE family WHEN 'analysis' THEN 0 WHEN 'write' THEN 1 ELSE 2 END, number LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            connection.execute(
                "UPDATE jobs SET state = 'running', started = ?, log = ? WHERE id = ?",
                (time.time(), _line(json.loads(row["log"]), "started"), row["id"]),
            )
            return _record(connection.execute("SELECT * FROM jobs WHERE id = ?", (row["id"],)).fetchone())

    def progress(self, job: str, done: int, total: int | None, unit: str | None) -> None:
        with self.database.write() as connection:
            connection.execute(
                "UPDATE jobs SET done = ?, total = ?, unit = ? WHERE id = ? AND state = 'running'",
                (done, total, unit, job),
            )

    def note(self, job: str, text: str) -> None:
        """Add a line to the job's log."""
        with self.database.write() as connection:
            row = connection.execute("SELECT log FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is not None:
                connection.execute("UPDATE jobs SET log = ? WHERE id = ?", (_line(json.loads(row["log"]), text), job))

    def finish(
        self,
        job: str,
        state: State,
        *,
        error: Mapping[str, Any] | None = None,
        summary: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
    ) -> JobRecord | None:
        """The end of a job that waits or runs. Returns: its record; None where it had ended already."""
        with self.database.write() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None or row["state"] not in ("queued", "running"):
                return None
            text = state if error is None else f"{state}: {error.get('message', '')}"
            connection.execute(
                "UPDATE jobs SET state = ?, finished = ?, error = ?, summary = ?, outputs = ?, log = ? WHERE id = ?",
                (
                    state, time.time(), _json(error), _json(summary), json.dumps(list(outputs)),
                    _line(json.loads(row["log"]), text), job,
                ),
            )  # fmt: skip
            return _record(connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone())

    def ask_to_stop(self, job: str) -> JobRecord | None:
        """A job that waits is cancelled at once, one that runs is marked. None where it is unknown."""
        with self.database.write() as connection:
            row = connection.execute("SELECT state, log FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is None:
                return None
            if row["state"] == "queued":
                connection.execute(
                    "UPDATE jobs SET state = 'cancelled', finished = ?, cancel = 1, log = ? WHERE id = ?",
                    (time.time(), _line(json.loads(row["log"]), "cancelled"), job),
                )
            elif row["state"] == "running":
                connection.execute("UPDATE jobs SET cancel = 1 WHERE id = ?", (job,))
            return _record(connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone())

    def is_to_stop(self, job: str) -> bool:
        with self.database.read() as connection:
            row = connection.execute("SELECT cancel FROM jobs WHERE id = ?", (job,)).fetchone()
        return row is None or bool(row["cancel"])

    def interrupt_running(self) -> int:
        """At start: what ran when the last server ended did not finish, and says so. Returns: how many."""
        error = {
            "type": "Interrupted", "code": "interrupted",
            "message": "the server ended while this job ran; nothing half-written was left, run it again",
        }  # fmt: skip
        with self.database.write() as connection:
            rows = connection.execute("SELECT id, log FROM jobs WHERE state = 'running'").fetchall()
            for row in rows:
                connection.execute(
                    "UPDATE jobs SET state = 'interrupted', finished = ?, error = ?, log = ? WHERE id = ?",
                    (time.time(), json.dumps(error), _line(json.loads(row["log"]), "interrupted"), row["id"]),
                )
        return len(rows)

    def forget(self, job: str) -> bool:
        """Remove a finished job. Returns: whether it was one."""
        with self.database.write() as connection:
            marks = ", ".join("?" * len(FINISHED))
            done = connection.execute(f"DELETE FROM jobs WHERE id = ? AND state IN ({marks})", (job, *FINISHED))
        return done.rowcount > 0

    def forget_old(self) -> list[str]:
        """Remove the oldest finished jobs beyond the number that is kept. Returns: their ids."""
        marks = ", ".join("?" * len(FINISHED))
        with self.database.write() as connection:
            rows = connection.execute(
                f"SELECT id FROM jobs WHERE state IN ({marks}) ORDER BY number DESC LIMIT -1 OFFSET ?",
                (*FINISHED, _KEPT_FINISHED),
            ).fetchall()
            connection.executemany("DELETE FROM jobs WHERE id = ?", [(row["id"],) for row in rows])
        return [row["id"] for row in rows]

    def promised_outputs(self) -> set[str]:
        """Names of outputs that jobs which wait or run will write."""
        with self.database.read() as connection:
            return _promised(connection)

    def get(self, job: str) -> JobRecord | None:
        with self.database.read() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        return None if row is None else _record(row)

    def latest_with(self, key: str) -> JobRecord | None:
        """The newest job that answered, or will answer, the same question."""
        with self.database.read() as connection:
            row = connection.execute("SELECT * FROM jobs WHERE key = ? ORDER BY number DESC LIMIT 1", (key,)).fetchone()
        return None if row is None else _record(row)

    def page(
        self, *, states: Sequence[str] = (), kinds: Sequence[str] = (), families: Sequence[str] = (),
        offset: int = 0, limit: int = 100,
    ) -> tuple[list[JobRecord], int]:  # fmt: skip
        """Newest first, and how many there are in all."""
        conditions: list[str] = []
        values: list[str | int] = []
        for column, wanted in (("state", states), ("kind", kinds), ("family", families)):
            if wanted:
                conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        with self.database.read() as connection:
            total = connection.execute(f"SELECT count(*) FROM jobs{where}", values).fetchone()[0]
            rows = connection.execute(
                f"SELECT * FROM jobs{where} ORDER BY number DESC LIMIT ? OFFSET ?",
                [*values, limit, offset],
            ).fetchall()
        return [_record(row) for row in rows], total

    def counts(self) -> dict[str, int]:
        """Jobs that wait, and jobs that run."""
        with self.database.read() as connection:
            rows = connection.execute(
                "SELECT state, count(*) FROM jobs WHERE state IN ('queued', 'running') GROUP BY state"
            ).fetchall()
        return {"queued": 0, "running": 0, **{row[0]: row[1] for row in rows}}


def _promised(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("SELECT params FROM jobs WHERE state IN ('queued', 'running') AND family = 'write'")
    every = (json.loads(row["params"]) for row in rows)
    return {params["output"] for params in every if "output" in params}


def _record(row: sqlite3.Row) -> JobRecord:
    plain = dict(row)
    for name in ("params", "error", "summary", "outputs", "log"):
        plain[name] = None if plain[name] is None else json.loads(plain[name])
    plain["cancel"] = bool(plain["cancel"])
    return JobRecord(**plain)


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value)


def _line(log: list[Any], text: str) -> str:
    """The log with one more line; of a long one the first lines and the newest are kept."""
    log = [*log, {"time": time.time(), "text": text}]
    if len(log) > _MOST_LOG_LINES:
        log = [*log[:10], *log[-(_MOST_LOG_LINES - 10) :]]
    return json.dumps(log)
