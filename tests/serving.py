"""Servers for tests: in this process for one client, or as the real command on a free port."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from lora_analysis.server.app import create_app
from lora_analysis.server.serving import bind, web_server
from lora_analysis.server.settings import Limits, Settings

TOKEN = "t" * 10 + "-token-for-tests-" + "0123456789"
BASE = "http://127.0.0.1:8777"
BEARER = {"authorization": f"Bearer {TOKEN}"}
LIMITS = Limits(workers=1, memory_bytes=2_000_000_000, failures_per_minute=1_000_000)


def settings_for(state: Path, *roots: Path, limits: Limits = LIMITS, **more: Any) -> Settings:
    return Settings(state=state, token=TOKEN, roots=roots, limits=limits, **more)


@contextmanager
def running(settings: Settings, *, bearer: bool = True) -> Iterator[TestClient]:
    """A client of a server whose workers run."""
    app = create_app(settings)
    with TestClient(app, base_url=BASE, headers=BEARER if bearer else {}, follow_redirects=False) as client:
        yield client


@contextmanager
def standing(settings: Settings, *, bearer: bool = True, **options: Any) -> Iterator[TestClient]:
    """A client of a server that takes no job from its queue."""
    app = create_app(settings)
    client = TestClient(app, base_url=BASE, headers=BEARER if bearer else {}, follow_redirects=False, **options)
    try:
        yield client
    finally:
        app.state.server.stop()


def finished(client: Any, job: str, seconds: float = 60.0) -> dict[str, Any]:
    """The job at its end."""
    deadline = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = client.get(f"/api/v1/jobs/{job}").json()
        if found["state"] not in ("queued", "running"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def scanned(client: Any) -> None:
    """Wait until every root has been scanned."""
    job = client.post("/api/v1/scans", json={}).json()
    assert finished(client, job["id"])["state"] == "succeeded"


@contextmanager
def serving(state: Path, library: Path) -> Iterator[TestClient]:
    """A client of a server whose workers run and which knows the library."""
    with running(settings_for(state, library)) as client:
        scanned(client)
        yield client


def ok(found: Any, status: int = 200) -> Any:
    """The answer's document."""
    assert found.status_code == status, found.text
    return found.json()


def id_of(client: Any, name: str) -> str:
    """The id of the adapter of the library whose name begins so. Uploads and outputs may have the same name."""
    roots = [root["id"] for root in client.get("/api/v1/roots").json() if root["kind"] == "library"]
    items = client.get("/api/v1/adapters", params={"limit": 500}).json()["items"]
    return str(next(item["id"] for item in items if item["root"] in roots and item["name"].startswith(name)))


def patience() -> float:
    """How much longer things may take here than on a machine that does nothing else: by work that waits, per core."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Running:
    """The real command on a free port, in a process group of its own."""

    def __init__(self, state: Path, *roots: Path, arguments: tuple[str, ...] = (), token: str = TOKEN) -> None:
        command = [sys.executable, "-m", "lora_analysis", "serve", *map(str, roots), "--no-browser", "--port", "0"]
        environment = {**os.environ, "LORA_TOKEN": token, "HOME": str(state), "XDG_CONFIG_HOME": str(state)}
        environment.pop("PYTHONUNBUFFERED", None)  # as most people have it: the address has to come all the same
        self.process = subprocess.Popen(
            [*command, "--state", str(state), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if "?token=" not in line:
            assert self.process.stderr is not None
            raise AssertionError(f"the server did not start: {line}{self.process.stderr.read()}")
        self.url = line.split("/?token=")[0].strip()
        self.port = int(self.url.rpartition(":")[2])

    def client(self, **options: Any) -> Any:
        import httpx2

        return httpx2.Client(base_url=self.url, headers=BEARER, timeout=30, **options)

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and b"lora_analysis.server.work.main" in words:
                        found.append(int(entry.name))
        return found

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[str, str]:
        """Ask it to end. Returns: what it printed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            return self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def threaded(settings: Settings) -> Iterator[str]:
    """A server on a free port of this machine, in a thread of this process: its address."""
    listener = bind("127.0.0.1", 0)
    settings = replace(settings, port=listener.getsockname()[1])
    app = create_app(settings)
    server = web_server(app, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{settings.port}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def command(state: Path, *roots: Path, **options: Any) -> Iterator[Running]:
    server = Running(state, *roots, **options)
    try:
        yield server
    finally:
        server.stop()
