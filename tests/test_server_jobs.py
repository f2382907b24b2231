"""Jobs end in one of their states, whatever happens to workers and server: promises S9 and S10."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import lora_analysis as la
from lora_analysis.errors import OutputError
from lora_analysis.server.jobs import process, runner
from lora_analysis.server.jobs.events import Events
from lora_analysis.server.jobs.store import JobRecord, JobStore, QueueFullError
from lora_analysis.server.state import Server
from lora_analysis.server.work.kinds import KINDS
from misbehaving import BOOT, SLOW_WRITE, TRIAL
from serving import LIMITS, Running, finished, id_of, patience, running, scanned, settings_for

KILLS = int(os.environ.get("LORA_SERVER_KILLS", "25"))
LORA = "sdxl-character-kohya"
CANCEL_SECONDS = 2.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, demo_library: Path) -> Iterator[TestClient]:
    limits = replace(LIMITS, workers=1, memory_bytes=400_000_000, analysis_seconds=3.0, idle_seconds=0.5)
    settings = settings_for(tmp_path_factory.mktemp("state"), demo_library, limits=limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_BOOT", BOOT)
        for kind in (TRIAL, SLOW_WRITE):
            patch.setitem(KINDS, kind.name, kind)
        with running(settings) as client:
            scanned(client)
            yield client


def server_of(client: TestClient) -> Server:
    server: Server = client.app.state.server  # type: ignore[attr-defined]
    return server


def submit(client: TestClient, deed: str, kind: str = "trial") -> str:
    return server_of(client).runner.submit(kind, deed, {"do": deed}).id


def started(client: TestClient, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (found := client.get(f"/api/v1/jobs/{job}").json())["state"] == "queued":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


# -- one job goes wrong ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "state", "code"),
    [
        ("well", "succeeded", None),
        ("refuse", "failed", "option"),
        ("break", "failed", "internal"),
        ("ask", "failed", "memory"),
        ("hoard", "failed", "memory"),
        ("exit", "failed", "worker-died"),
        ("crash", "failed", "worker-died"),
        ("sleep", "failed", "time"),
        ("print", "succeeded", None),
    ],
)
def test_a_job_fails_alone(client: TestClient, deed: str, state: str, code: str | None) -> None:
    job = submit(client, deed)
    after = submit(client, "well")
    found = finished(client, job)
    assert (found["state"], (found["error"] or {}).get("code")) == (state, code)
    if code is not None:
        assert "\x1b" not in found["error"]["message"]
        assert found["log"][-1]["text"].startswith(f"{state}: ")
    assert finished(client, after)["state"] == "succeeded", "the next job runs"
    assert client.get("/api/v1/health").status_code == 200


@pytest.mark.parametrize("deed", ["obey", "sleep", "hoard"])
def test_cancelling_takes_two_seconds_at_most(client: TestClient, deed: str) -> None:
    job = submit(client, deed, kind="slow-write")
    started(client, job)
    time.sleep(0.2)
    began = time.monotonic()
    assert client.post(f"/api/v1/jobs/{job}/cancel").status_code == 200
    found = finished(client, job)
    assert found["state"] == "cancelled" or (deed == "hoard" and found["error"]["code"] == "memory")
    assert time.monotonic() - began < CANCEL_SECONDS
    again = client.post(f"/api/v1/jobs/{job}/cancel")
    assert again.json()["state"] == found["state"], "a finished job stays as it is"


def test_a_waiting_job_is_cancelled_at_once(client: TestClient) -> None:
    first, second = submit(client, "obey", kind="slow-write"), submit(client, "well", kind="slow-write")
    started(client, first)
    assert client.post(f"/api/v1/jobs/{second}/cancel").json()["state"] == "cancelled"
    client.post(f"/api/v1/jobs/{first}/cancel")
    finished(client, first)
    assert client.get(f"/api/v1/jobs/{second}").json()["started_at"] is None, "it never ran"


def test_progress_is_told(client: TestClient) -> None:
    job = submit(client, "obey", kind="slow-write")
    started(client, job)
    deadline = time.monotonic() + 30
    while (found := client.get(f"/api/v1/jobs/{job}").json()["progress"])["done"] < 20:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found["done"] < 1_000
    assert found["fraction"] == found["done"] / 1_000
    client.post(f"/api/v1/jobs/{job}/cancel")
    finished(client, job)


def test_a_worker_is_reused_and_ends_when_idle(client: TestClient) -> None:
    jobs = [submit(client, "well") for _ in range(3)]  # all wait from the start: no idle time between them
    pids = {finished(client, job)["summary"]["pid"] for job in jobs}
    assert len(pids) == 1
    [pid] = pids
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert finished(client, submit(client, "well"))["summary"]["pid"] != pid


def test_a_job_that_comes_while_a_worker_looks_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds nothing, the job is queued, and only then does the worker go to rest: for a minute, once."""
    monkeypatch.setattr(process, "_BOOT", BOOT)
    monkeypatch.setitem(KINDS, TRIAL.name, TRIAL)
    settings = settings_for(tmp_path / "state", limits=replace(LIMITS, workers=1, idle_seconds=60.0))
    with running(settings) as client:
        server = server_of(client)
        finished(client, submit(client, "well"))  # from here on the worker's process lives, and rests for long
        take, late = server.jobs.take, []

        def take_too_early() -> JobRecord | None:
            found = take()
            if found is None and not late:
                late.append(submit(client, "well"))
            return found

        monkeypatch.setattr(server.jobs, "take", take_too_early)
        finished(client, submit(client, "well"))
        assert finished(client, late[0], 20)["state"] == "succeeded"


def test_whoever_waits_for_a_job_hears_that_it_was_cancelled_before_it_began(tmp_path: Path) -> None:
    server = Server(settings_for(tmp_path, scan_at_start=False))  # nothing takes jobs from its queue
    job = server.runner.submit("scan", "x", {"roots": []})

    async def wait() -> tuple[JobRecord | None, bool]:
        waiting = asyncio.create_task(server.runner.wait(job.id, 60))
        while job.id not in server.runner._waiters:
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)  # it has looked by now, and found a job that waits
        assert not waiting.done()
        await asyncio.to_thread(server.runner.cancel, job.id)
        done, _ = await asyncio.wait([waiting], timeout=10)
        return (await waiting, True) if done else (None, False)

    found, is_heard = asyncio.run(wait())
    server.stop()
    assert is_heard
    assert found is not None
    assert found.state == "cancelled"


def test_the_last_that_is_told_of_a_job_is_how_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who queues a job, and who cancels it, may come to tell of it only after a worker has ended it."""
    server = Server(settings_for(tmp_path, scan_at_start=False))
    told: list[JobRecord] = []
    monkeypatch.setattr(server.events, "publish", lambda name, data: told.append(data))
    store = server.jobs
    add, ask_to_stop = store.add, store.ask_to_stop

    def added_and_taken(*arguments: Any, **options: Any) -> JobRecord:
        job = add(*arguments, **options)
        assert store.take() is not None
        return job

    def asked_and_ended(job: str) -> JobRecord | None:
        found = ask_to_stop(job)
        store.finish(job, "cancelled")
        return found

    monkeypatch.setattr(store, "add", added_and_taken)
    monkeypatch.setattr(store, "ask_to_stop", asked_and_ended)
    job = server.runner.submit("scan", "x", {"roots": []})
    assert (job.state, told[-1].state) == ("queued", "running")
    server.runner.cancel(job.id)
    assert told[-1].state == "cancelled"
    count = len(told)
    store.forget(job.id)
    server.runner._tell(job.id)
    assert len(told) == count, "what was removed does not come back"
    server.stop()


def test_a_job_whose_end_cannot_be_noted_ends_when_it_can(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full for a while."""
    monkeypatch.setattr(runner, "_AGAIN_SECONDS", 0.05)
    store = server_of(client).jobs
    finish, refused = store.finish, []

    def full(job: str, state: Any, **what: Any) -> JobRecord | None:
        if len(refused) < 3:
            refused.append(state)
            raise sqlite3.OperationalError("database or disk is full")
        return finish(job, state, **what)

    monkeypatch.setattr(store, "finish", full)
    job = submit(client, "well")
    found = finished(client, job)
    assert refused == ["succeeded", "failed", "failed"]
    assert (found["state"], found["error"]["code"]) == ("failed", "internal")
    monkeypatch.undo()
    assert finished(client, submit(client, "well"))["state"] == "succeeded"


def test_a_full_queue_is_no_reason_not_to_start(tmp_path: Path) -> None:
    server = Server(settings_for(tmp_path, limits=replace(LIMITS, workers=0, queued_jobs=2)))
    for name in ("a", "b"):
        server.runner.submit("convert", name, {"output": name})
    with pytest.raises(QueueFullError):
        server.runner.submit("convert", "c", {"output": "c"})
    server.start()
    assert [job.kind for job in server.jobs.page()[0]] == ["scan", "convert", "convert"]
    server.stop()


def test_a_running_job_is_not_forgotten(client: TestClient) -> None:
    job = submit(client, "obey", kind="slow-write")
    started(client, job)
    assert client.delete(f"/api/v1/jobs/{job}").status_code == 409
    assert client.post(f"/api/v1/jobs/{job}/retry").json()["id"] == job, "it runs already"
    client.post(f"/api/v1/jobs/{job}/cancel")
    finished(client, job)
    assert client.delete("/api/v1/jobs", params={"family": "write"}).json()["forgotten"] >= 1
    assert client.get(f"/api/v1/jobs/{job}").status_code == 404


def test_stopping_the_server_interrupts_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_BOOT", BOOT)
    for kind in (TRIAL, SLOW_WRITE):
        monkeypatch.setitem(KINDS, kind.name, kind)
    with running(settings_for(tmp_path, scan_at_start=False)) as client:
        job = submit(client, "sleep", kind="slow-write")
        waiting = submit(client, "well", kind="slow-write")
        started(client, job)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    store = JobStore(tmp_path)
    found, later = store.get(job), store.get(waiting)
    assert found is not None
    assert found.state == "interrupted"
    assert later is not None
    assert later.state == "queued", "what waited waits for the next start"
    with running(settings_for(tmp_path, scan_at_start=False)) as client:
        assert finished(client, waiting)["state"] == "succeeded"


def test_one_server_at_a_time_uses_a_state_folder(tmp_path: Path) -> None:
    with (
        running(settings_for(tmp_path, scan_at_start=False)),
        pytest.raises(OutputError, match="another server"),
    ):
        Server(settings_for(tmp_path))
    Server(settings_for(tmp_path)).stop()


# -- the server dies -----------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.timeout(300 + 30 * KILLS)
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the test finds workers in /proc")
def test_a_killed_server_loses_no_job_and_leaves_no_worker(tmp_path: Path, demo_library: Path) -> None:
    state, chance = tmp_path / "state", random.Random(6)
    server = Running(state, demo_library)
    accepted: dict[str, str] = {}
    expected = tmp_path / "expected.safetensors"
    la.resize(demo_library / f"{LORA}.safetensors", expected, rank=2)
    for kill in range(KILLS):
        with server.client() as client:
            if not kill:
                scanned(client)
                adapter = id_of(client, LORA)
            for number in range(2):
                name = f"out-{kill}-{number}.safetensors"
                asked = {"kind": "resize", "adapter": adapter, "options": {"rank": 2}, "output": name}
                found = client.post("/api/v1/jobs", json=asked)
                assert found.status_code == 202
                accepted[found.json()["id"]] = name
            time.sleep(chance.uniform(0, 1.0))
        workers = server.workers()
        server.kill()
        deadline = time.monotonic() + 2 * patience()
        while any(map(is_alive, workers)):
            assert time.monotonic() < deadline, "a worker outlives its server"
            time.sleep(0.02)
        began = time.monotonic()
        server = Running(state, demo_library)
        took = time.monotonic() - began
        if took >= 5 * patience():
            server.kill()
            pytest.fail(f"the server took {took:.1f} s to start again")
    with server.client() as client:
        states = {}
        for job, name in accepted.items():
            states[name] = finished(client, job)["state"]
        assert set(states.values()) <= {"succeeded", "interrupted"}
        written = {path.name for path in (state / "outputs").iterdir() if not path.name.startswith(".")}
        for name, ended in states.items():
            if ended == "succeeded":
                assert name in written
        for name in written:
            assert (state / "outputs" / name).read_bytes() == expected.read_bytes(), "whole or not at all"
        interrupted = next((job for job, name in accepted.items() if states[name] == "interrupted"), None)
        if interrupted is not None and accepted[interrupted] not in written:
            again = client.post(f"/api/v1/jobs/{interrupted}/retry").json()
            assert finished(client, again["id"])["state"] == "succeeded"
    server.stop()
    assert "succeeded" in states.values()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="the test finds workers in /proc")
def test_the_token_is_in_no_log(tmp_path: Path, demo_library: Path) -> None:
    server = Running(tmp_path / "state", demo_library)
    with server.client() as client:
        client.get("/", params={"token": "x" * 40})
        client.get("/", params={"token": client.headers["authorization"].split()[1]})
        client.post("/api/v1/session", json={"token": "wrong"})
        client.get("/api/v1/nothing")
    out, err = server.stop()
    assert "token-for-tests" not in out + err, "the line with the address was read before"
    stored = b"".join(path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file())
    assert b"token-for-tests" not in stored


# -- the parts -----------------------------------------------------------------------------------------


def test_a_job_has_one_end(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.add("verify", "write", "x", {}, most=5)
    assert store.take() is not None
    assert store.finish(job.id, "cancelled") is not None
    assert store.finish(job.id, "succeeded") is None
    found = store.get(job.id)
    assert found is not None
    assert found.state == "cancelled"


def test_the_queue_has_an_order_and_an_end(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for family in ("scan", "write", "analysis", "write"):
        store.add("verify", family, family, {}, most=4)  # type: ignore[arg-type]
    with pytest.raises(QueueFullError):
        store.add("verify", "write", "x", {}, most=4)
    taken = [store.take() for _ in range(5)]
    assert [job and job.title for job in taken] == ["analysis", "write", "write", "scan", None]


def test_the_same_question_waits_once(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first = store.add("layers", "analysis", "x", {}, most=5, key="k")
    assert store.add("layers", "analysis", "x", {}, most=5, key="k").id == first.id
    store.take()
    assert store.add("layers", "analysis", "x", {}, most=5, key="k").id == first.id
    store.finish(first.id, "failed")
    assert store.add("layers", "analysis", "x", {}, most=5, key="k").id != first.id


def test_a_name_is_promised_to_one_job(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first = store.add("resize", "write", "x", {"output": "a"}, most=5)
    with pytest.raises(OutputError, match="outputs/a is what another job will write"):
        store.add("merge", "write", "x", {"output": "a"}, most=5)
    assert store.promised_outputs() == {"a"}
    store.take()
    with pytest.raises(OutputError):
        store.add("merge", "write", "x", {"output": "a"}, most=5)
    store.finish(first.id, "failed")
    assert store.promised_outputs() == set()
    store.add("merge", "write", "x", {"output": "a"}, most=5)


def test_a_long_log_keeps_its_ends(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.add("verify", "write", "x", {}, most=5)
    for number in range(300):
        store.note(job.id, f"line {number}")
    found = store.get(job.id)
    assert found is not None
    assert len(found.log) == 200
    assert (found.log[0]["text"], found.log[-1]["text"]) == ("queued", "line 299")


def test_events_are_taken_up_where_they_were(tmp_path: Path) -> None:
    events = Events()
    for number in range(5):
        events.publish("job", number)
    missed = events.missed_since(None)
    assert missed is None, "a newcomer is told the state of everything"
    last = events.last_id()
    run = last.split("-")[0]
    assert [event.data for event in events.missed_since(f"{run}-3") or ()] == [3, 4]
    assert events.missed_since(last) == []
    for wrong in ("", "x", f"{run}-6", f"{run}-x", f"other-{3}", f"{run}-{10**30}", f"{run}--1", f"{run}-٣"):
        assert events.missed_since(wrong) is None, wrong
    for number in range(2_000):
        events.publish("job", number)
    assert events.missed_since(f"{run}-3") is None, "too long ago"


def test_a_listener_that_does_not_keep_up_is_let_go() -> None:
    async def listen() -> list[Any]:
        events = Events()

        async def collect() -> list[Any]:
            return [event async for event in events.listen(events.last_id())]

        collecting = asyncio.create_task(collect())
        await asyncio.sleep(0)
        for number in range(1_000):
            events.publish("job", number)
        return await asyncio.wait_for(collecting, 5)

    assert len(asyncio.run(listen())) < 1_000, "its stream ends, and it will start over"


def test_a_stream_that_begins_after_the_end_ends() -> None:
    async def listen() -> list[Any]:
        events = Events()
        events.close()
        return [event async for event in events.listen(None)]

    assert asyncio.run(asyncio.wait_for(listen(), 5)) == [None]


def test_signals_are_named() -> None:
    from lora_analysis.server.jobs.runner import _death_error

    assert f"signal {signal.SIGKILL:d}" in _death_error(-9)["message"]
    assert "exit code 3" in _death_error(3)["message"]
