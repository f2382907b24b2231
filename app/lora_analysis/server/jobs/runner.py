"""Take jobs from the queue and see each through: progress, cancelling, limits, and what became of it.

One thread per worker process. A job ends in exactly one of: succeeded, failed, cancelled, interrupted; whatever the
process does, even where it is killed from outside.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..roots import Root
from ..settings import Settings
from ..work.kinds import KINDS
from .events import Events
from .process import WorkerProcess
from .store import FINISHED, Family, JobRecord, JobStore, QueueFullError, State

logger = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1  # between looks at a running job
_GRACE_SECONDS = 1.0  # a job that should stop may take this long before its process is killed
_TELL_SECONDS = 0.25  # between two events about the progress of one job
_SAVE_SECONDS = 1.0  # between two writes of progress to the queue's file
_WATCH_SECONDS = 0.5  # between looks at a job's memory
_WORTH_A_RETRY = frozenset({"memory", "time", "worker-died", "internal", "file-access", "missing-extra"})
_MOST_FORGOTTEN = 10_000
_AGAIN_SECONDS = 1.0  # after an error that may pass, such as a full disk
_JOBS_PER_PROCESS = 50  # then a fresh one, which has leaked nothing


class JobRunner:
    """The queue with its workers. ``start`` and ``stop`` once each."""

    def __init__(self, settings: Settings, roots: tuple[Root, ...], store: JobStore, events: Events) -> None:
        self._settings, self._roots, self._store, self._events = settings, roots, store, events
        self._wake = threading.Condition()
        self._asked = 0  # counts what may need a worker, so that none rests over what came while it was looking
        self._stopping = False
        self._threads: list[threading.Thread] = []
        self._telling = threading.Lock()
        self._waiters: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._waiters_lock = threading.Lock()
        self._progress: dict[str, tuple[int, int | None, str | None]] = {}

    # -- for the routes --------------------------------------------------------------------------------

    def submit(
        self,
        kind: str,
        title: str,
        params: Mapping[str, Any],
        *,
        key: str | None = None,
        retry_of: str | None = None,
        even_if_full: bool = False,
    ) -> JobRecord:
        """Queue a job.

        Raises: QueueFullError; OutputError where a job that has not ended will write an output of the same name.
        """
        family = KINDS[kind].family
        most = None if even_if_full else self._settings.limits.queued_jobs
        job = self._store.add(kind, family, title, params, most=most, key=key, retry_of=retry_of)
        self._tell(job.id)
        self._call_workers()
        return job

    def answer(self, kind: str, title: str, params: Mapping[str, Any], key: str) -> JobRecord:
        """The job that has answered, or will answer, the question ``key``; a new one where there is none.

        One that failed by the question's own fault (an option, a broken file) would fail again, and is not run again.
        """
        known = self._store.latest_with(key)
        if known is not None:
            if known.state == "succeeded" and os.path.exists(self.result_path(known)):
                with suppress(OSError):
                    os.utime(self.result_path(known))  # used now: the last to be dropped
                return known
            if known.state in ("queued", "running") and not known.cancel:
                return known
            if known.state == "failed" and known.error is not None and known.error["code"] not in _WORTH_A_RETRY:
                return known
        return self.submit(kind, title, params, key=key)

    def cancel(self, job: str) -> JobRecord | None:
        """Stop a job, at the latest in two seconds; None where it is unknown."""
        found = self._store.ask_to_stop(job)
        if found is not None:
            self._tell(job)
            if found.is_finished:  # it waited, so no worker will say that it has ended
                self._wake_waiters(job)
            self._call_workers()
        return found

    def forget(self, job: str) -> bool:
        """Remove a finished job and its result."""
        found = self._store.get(job)
        if found is None or not self._store.forget(job):
            return False
        with suppress(OSError):
            os.unlink(self.result_path(found))
        self._tell_removed(job)
        return True

    def forget_finished(self, family: Family) -> int:
        """Remove every finished job of a family. Returns: how many."""
        found, _ = self._store.page(states=FINISHED, families=[family], limit=_MOST_FORGOTTEN)
        return sum(self.forget(job.id) for job in found)

    def live(self, job: JobRecord) -> JobRecord:
        """The record with its newest progress, which the file gets only now and then."""
        newest = self._progress.get(job.id)
        if newest is None or job.state != "running":
            return job
        return replace(job, done=newest[0], total=newest[1], unit=newest[2])

    def result_path(self, job: JobRecord) -> str:
        """The file that holds, or will hold, a job's result."""
        return os.path.join(self._settings.results_folder, job.id + KINDS[job.kind].suffix)

    async def wait(self, job: str, seconds: float) -> JobRecord | None:
        """The job at its end, or as it stands after that time. Holds no thread meanwhile."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._waiters_lock:
            self._waiters.setdefault(job, []).append(waiter)
        try:
            found = await asyncio.to_thread(self._store.get, job)
            if found is None or found.is_finished:
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter[1].wait(), seconds)
            return await asyncio.to_thread(self._store.get, job)
        finally:
            with self._waiters_lock:
                self._waiters[job].remove(waiter)
                if not self._waiters[job]:
                    del self._waiters[job]

    # -- life --------------------------------------------------------------------------------------

    def start(self) -> None:
        os.makedirs(self._settings.results_folder, mode=0o700, exist_ok=True)
        self._store.interrupt_running()
        self._drop_results()
        for number in range(self._settings.limits.workers):
            thread = threading.Thread(target=self._serve, name=f"worker-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Stop running jobs, which become interrupted, and end the processes."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def _call_workers(self) -> None:
        with self._wake:
            self._asked += 1
            self._wake.notify_all()

    # -- one thread per process ------------------------------------------------------------------------

    def _serve(self) -> None:
        worker: WorkerProcess | None = None
        while not self._stopping:
            asked = self._asked
            try:
                job = self._store.take()
                if job is None:
                    worker = self._rest(worker, asked)
                    continue
                worker = self._run(worker, job)
            except Exception:  # the queue must go on, whatever it was: a full disk, a broken file
                logger.exception("a worker's thread failed")
                time.sleep(_AGAIN_SECONDS)
        if worker is not None:
            worker.end()

    def _run(self, worker: WorkerProcess | None, job: JobRecord) -> WorkerProcess | None:
        try:
            self._tell(job.id)
            if worker is None or not worker.is_alive or worker.jobs >= _JOBS_PER_PROCESS:
                if worker is not None:
                    worker.end()
                worker = WorkerProcess(self._settings, self._roots)
            return self._see_through(worker, job)
        except Exception:
            logger.exception("the job %s could not be run", job.id)
            if worker is not None:
                worker.kill()
            self._end_at_last(job)
            return None

    def _end_at_last(self, job: JobRecord) -> None:
        """Fail a job that nothing runs any more: now, or when the queue's file takes it (a full disk, a locked file).

        Without that it would be shown as running until the server's end, and nobody could stop or remove it.
        """
        error = {"type": "ServerError", "code": "internal", "message": "the server could not run the job; see its log"}
        while not self._stopping:  # after that, the next start finds it
            try:
                self._end(job, "failed", error=error)
                return
            except Exception as again:
                logger.error("the end of the job %s could not be noted yet: %s", job.id, again)
            with self._wake:
                self._wake.wait_for(lambda: self._stopping, _AGAIN_SECONDS)

    def _rest(self, worker: WorkerProcess | None, asked: int) -> WorkerProcess | None:
        """Wait for work asked for after the count ``asked``; end the process where none comes for long."""
        seconds = self._settings.limits.idle_seconds if worker is not None else 5.0
        with self._wake:
            woken = self._wake.wait_for(lambda: self._stopping or self._asked != asked, seconds)
        if woken or worker is None:
            return worker
        worker.end()
        return None

    def _see_through(self, worker: WorkerProcess, job: JobRecord) -> WorkerProcess | None:
        """Run one job to its end. Returns: the process, where it can run another."""
        worker.jobs += 1
        worker.send({"job": job.id, "kind": job.kind, "params": job.params, "result": self.result_path(job)})
        limits = self._settings.limits
        seconds = limits.analysis_seconds if job.family == "analysis" else limits.write_seconds
        deadline = time.monotonic() + seconds
        stop_by: float | None = None
        told = saved = watched = 0.0
        try:
            while True:
                message = worker.next(_LOOK_SECONDS)
                now = time.monotonic()
                if message is not None and self._is_end(job, message, stopping=stop_by is not None):
                    if "died" not in message:
                        return worker
                    worker.kill()  # only its pipe is left to close
                    return None
                if message is not None and "progress" in message:
                    self._progress[job.id] = tuple(message["progress"])
                    if now - told >= _TELL_SECONDS:
                        told = now
                        self._events.publish("progress", self._progress_event(job.id))
                    if now - saved >= _SAVE_SECONDS:
                        saved = now
                        self._store.progress(job.id, *self._progress[job.id])
                if message is not None and "note" in message:
                    self._store.note(job.id, message["note"])
                if stop_by is None and (self._stopping or self._store.is_to_stop(job.id)):
                    stop_by = now + _GRACE_SECONDS
                    worker.send({"cancel": job.id})
                if stop_by is not None and now >= stop_by:
                    return self._kill(worker, job, "interrupted" if self._stopping else "cancelled", None)
                if now >= deadline:
                    return self._kill(worker, job, "failed", _time_error(seconds))
                if now - watched >= _WATCH_SECONDS:
                    watched = now
                    if worker.resident_bytes() > limits.memory_bytes:
                        return self._kill(worker, job, "failed", _memory_error(limits.memory_bytes))
        finally:
            self._progress.pop(job.id, None)

    def _is_end(self, job: JobRecord, message: Mapping[str, Any], *, stopping: bool) -> bool:
        """Whether the message ends the job; if so, it has ended."""
        if "died" in message:
            if stopping:
                self._end(job, "interrupted" if self._stopping else "cancelled")
            else:
                self._end(job, "failed", error=_death_error(message["died"]))
            return True
        if message.get("job") != job.id:
            return False
        if "done" in message:
            self._end(job, "succeeded", summary=message["done"], outputs=message["outputs"])
        elif "failed" in message:
            self._end(job, "failed", error=message["failed"])
        elif "cancelled" in message:
            self._end(job, "interrupted" if self._stopping else "cancelled")
        else:
            return False
        return True

    def _kill(
        self, worker: WorkerProcess, job: JobRecord, state: State, error: Mapping[str, Any] | None
    ) -> WorkerProcess | None:
        worker.kill()
        self._end(job, state, error=error)
        return None

    def _end(self, job: JobRecord, state: State, **what: Any) -> None:
        newest = self._progress.get(job.id)
        if newest is not None:
            self._store.progress(job.id, *newest)
        ended = self._store.finish(job.id, state, **what)
        if ended is not None:
            self._tell(job.id)
        self._wake_waiters(job.id)
        if KINDS[job.kind].family != "scan":
            self._drop_results()

    def _wake_waiters(self, job: str) -> None:
        with self._waiters_lock:
            for loop, event in self._waiters.get(job, ()):
                with suppress(RuntimeError):  # the loop has closed
                    loop.call_soon_threadsafe(event.set)

    def _tell(self, job: str) -> None:
        """Tell the listeners how the job stands now.

        Several threads change one job: who queues it, who cancels it, who runs it. Each tells what it finds when its
        turn comes, not what it did: so the last that is heard of a job is never older than what was heard before.
        """
        with self._telling:
            newest = self._store.get(job)
            if newest is not None:
                self._events.publish("job", newest)

    def _tell_removed(self, job: str) -> None:
        with self._telling:
            self._events.publish("removed", {"id": job})

    def _progress_event(self, job: str) -> dict[str, Any]:
        done, total, unit = self._progress[job]
        return {"id": job, "done": done, "total": total, "unit": unit}

    def _drop_results(self) -> None:
        """Keep the newest results up to the limit. A dropped one is calculated again where it is asked for."""
        for job in self._store.forget_old():
            self._tell_removed(job)
        found = []
        with suppress(OSError), os.scandir(self._settings.results_folder) as entries:
            for entry in entries:
                with suppress(OSError):
                    stats = entry.stat()
                    found.append((stats.st_mtime, stats.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._settings.limits.results_bytes:
                break
            with suppress(OSError):
                os.unlink(path)
            total -= size


def _time_error(seconds: float) -> dict[str, str]:
    return {"type": "TimeLimit", "code": "time", "message": f"the job took longer than the {seconds:g} s it may take"}


def _memory_error(limit: int) -> dict[str, str]:
    message = f"the job used more than the {limit / 1e9:.3g} GB of memory it may use"
    return {"type": "MemoryLimit", "code": "memory", "message": message}


def _death_error(code: int) -> dict[str, str]:
    reason = f"signal {-code}" if code < 0 else f"exit code {code}"
    message = f"the worker process ended by {reason}; it may have been killed from outside, for want of memory perhaps"
    return {"type": "WorkerDied", "code": "worker-died", "message": message}


__all__ = ["JobRunner", "QueueFullError"]
