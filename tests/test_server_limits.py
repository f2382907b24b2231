"""What one client can cost: promises S6 and S7, over real connections."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from lora_analysis.server.jobs.store import QueueFullError
from serving import BEARER, LIMITS, TOKEN, command, patience, settings_for, standing, threaded

SLOW = 1.0  # seconds, where the command has 60
UPLOAD = 3_000_000  # bytes, where the command has 2 GB
BIG = int(os.environ.get("LORA_BIG_UPLOAD", "64_000_000"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def url(state: Path) -> Iterator[str]:
    limits = replace(LIMITS, slow_seconds=SLOW, upload_bytes=UPLOAD)
    with threaded(settings_for(state, limits=limits)) as url:
        yield url


def partial_files(state: Path) -> list[Path]:
    return [path for path in (state / "uploads").iterdir() if path.name.startswith(".upload-")]


def wait_for_none(state: Path) -> None:
    deadline = time.monotonic() + 1
    while partial_files(state):
        assert time.monotonic() < deadline, "a partial upload stays"
        time.sleep(0.02)


def chunks(total: int, size: int = 65_536) -> Iterator[bytes]:
    for start in range(0, total, size):
        yield b"x" * min(size, total - start)


# -- how much ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [True, False], ids=["without-length", "with-length"])
def test_an_upload_is_counted(url: str, state: Path, chunked: bool) -> None:
    for size, status in ((UPLOAD, 201), (UPLOAD + 1, 413), (UPLOAD * 3, 413)):
        content = chunks(size) if chunked else b"x" * size
        try:
            found = httpx2.post(
                f"{url}/api/v1/uploads?name=big.safetensors", content=content, headers=BEARER, timeout=30
            )
        except httpx2.WriteError:  # the server answered and closed before all was sent
            assert status == 413
        else:
            assert found.status_code == status
            if status == 413:
                assert found.json()["error"]["code"] == "too-large"
        wait_for_none(state)


def test_a_length_that_lies_is_not_believed(url: str, state: Path) -> None:
    head = f"POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    for length in ("99999999999999999999", "-5", "0x10", "10, 20", str(UPLOAD + 1)):
        answer = exchange(url, f"{head}Content-Length: {length}\r\n\r\n".encode())
        assert answer.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400")), (length, answer)
    wait_for_none(state)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_json_body_is_a_megabyte_at_most(url: str, chunked: bool) -> None:
    body = json.dumps({"roots": ["x" * 1_000_100]}).encode()
    content = iter([body[:1_000_000], body[1_000_000:]]) if chunked else body
    headers = {**BEARER, "content-type": "application/json"}
    found = httpx2.post(f"{url}/api/v1/scans", content=content, headers=headers)
    assert found.status_code == 413
    assert found.json()["error"]["code"] == "too-large"


def test_an_upload_that_breaks_off_leaves_nothing(url: str, state: Path) -> None:
    connection = connect(url)
    head = f"POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    connection.sendall(f"{head}Content-Length: 2000000\r\n\r\n".encode() + b"x" * 1_500_000)
    deadline = time.monotonic() + 5
    while not partial_files(state) and time.monotonic() < deadline:
        time.sleep(0.01)
    connection.close()
    wait_for_none(state)
    assert "x.pt" not in os.listdir(state / "uploads")


def test_a_refused_upload_is_not_read(url: str) -> None:
    head = "POST /api/v1/uploads?name=x.pt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
    assert exchange(url, head.encode()).startswith(b"HTTP/1.1 401")


# -- how fast ------------------------------------------------------------------------------------------


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=20)


def exchange(url: str, data: bytes) -> bytes:
    with connect(url) as connection:
        connection.sendall(data)
        return connection.recv(65_536)


def drip(connection: socket.socket, data: bytes, seconds: float) -> float | None:
    """Send a byte every now and then. Returns: after how many seconds the server answered or closed; None if never."""
    began = time.monotonic()
    connection.settimeout(0.05)
    for byte in data:
        if time.monotonic() - began > seconds:
            return None
        try:
            connection.sendall(bytes([byte]))
            connection.recv(4_096)
        except TimeoutError:
            continue
        except OSError:
            pass
        return time.monotonic() - began
    return None


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",  # a second request, after an answered one
    ],
    ids=["first-line", "headers", "second-request"],
)
def test_a_request_head_that_drips_is_cut(url: str, head: bytes) -> None:
    with connect(url) as connection:
        connection.sendall(head)
        if head.endswith(b"GET /"):
            answer = b""
            while not answer.endswith(b"}}"):
                answer += connection.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 200")
        elapsed = drip(connection, b"a" * 1_000, SLOW * 5)
    assert elapsed is not None
    assert SLOW * 0.5 < elapsed < SLOW * 3


@pytest.mark.parametrize("path", ["/api/v1/scans", "/api/v1/uploads?name=slow.pt"])
def test_a_body_that_drips_is_cut(url: str, state: Path, path: str) -> None:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n"
    )
    with connect(url) as connection:
        connection.sendall(head.encode())
        elapsed = drip(connection, b" " * 1_000, SLOW * 5)
    assert elapsed is not None
    assert elapsed < SLOW * 3
    wait_for_none(state)


def test_a_client_that_takes_nothing_of_a_reply_is_cut(url: str, state: Path) -> None:
    big = b"x" * UPLOAD
    row = httpx2.post(f"{url}/api/v1/uploads?name=fat.pt", content=big, headers=BEARER, timeout=30).json()
    parts = urlsplit(url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.settimeout(20)
    connection.connect((parts.hostname, parts.port))
    request = (
        f"GET /api/v1/adapters/{row['id']}/file HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    )
    with connection:
        connection.sendall(request.encode() * 8)  # more than the kernel's buffers hold
        time.sleep(SLOW * 3)
        received = 0
        try:
            while data := connection.recv(1 << 20):
                received += len(data)
        except OSError:
            pass
    assert received < 8 * UPLOAD


def test_others_are_served_meanwhile(url: str) -> None:
    slow = [connect(url) for _ in range(50)]
    for connection in slow:
        connection.sendall(b"GET /api/v1/health HTTP/1.1\r\nX: ")
    times = []
    for _ in range(20):
        began = time.perf_counter()
        assert httpx2.get(f"{url}/api/v1/health").status_code == 200
        times.append(time.perf_counter() - began)
    for connection in slow:
        connection.close()
    assert sorted(times)[10] < 0.25 * patience()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not say how much memory is used")
def test_a_large_upload_needs_little_memory_and_blocks_nobody(tmp_path: Path) -> None:
    """S6 with 64 MB; LORA_BIG_UPLOAD=1_000_000_000 is the promise's size."""
    with command(tmp_path / "state") as server, server.client() as client:
        time.sleep(1)
        before, most, waits = resident(server.process.pid), 0, []
        done = threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.is_set():
                began = time.perf_counter()
                assert watching.get("/api/v1/health").status_code == 200
                waits.append(time.perf_counter() - began)
                most = max(most, resident(server.process.pid))
                time.sleep(0.02)

        watching = server.client()
        watching.get("/api/v1/health")
        watcher = threading.Thread(target=watch)
        watcher.start()
        found = client.post("/api/v1/uploads?name=big.safetensors", content=chunks(BIG, 1 << 20), timeout=300)
        done.set()
        watcher.join()
        watching.close()
        assert found.status_code == 201
        assert most - before < 64_000_000
        assert sorted(waits)[int(len(waits) * 0.95)] < 0.25 * patience()


# -- how many ------------------------------------------------------------------------------------------


def test_a_hundred_jobs_wait_and_the_next_is_told_to_come_back(tmp_path: Path, demo_library: Path) -> None:
    with standing(settings_for(tmp_path, demo_library)) as client:
        server = client.app.state.server  # type: ignore[attr-defined]
        for _ in range(100):
            server.runner.submit("verify", "x", {"adapter": "0" * 20})
        with pytest.raises(QueueFullError):
            server.runner.submit("verify", "x", {"adapter": "0" * 20})
        refused = client.post("/api/v1/scans", json={"roots": [server.roots[0].id]})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "10"
        assert refused.json()["error"]["code"] == "queue-full"
        upload = client.post("/api/v1/uploads", params={"name": "x.safetensors"}, content=b"x")
        assert upload.status_code == 429
        assert list((tmp_path / "uploads").iterdir()) == [], "so that the next attempt gets the name"


def test_idle_memory(tmp_path: Path, demo_library: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not say how much memory is used")
    with command(tmp_path / "state", demo_library) as server, server.client() as client:
        assert client.get("/api/v1/adapters").status_code == 200
        time.sleep(1)
        whole = resident(server.process.pid) + sum(resident(pid) for pid in server.workers())
        assert whole < 150_000_000, "the server, and a worker that has just scanned"
