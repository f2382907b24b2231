"""Who gets in: promises S1 to S3. The routes come from the application itself, so a new one is tested at once."""

from __future__ import annotations

import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute
from starlette.testclient import TestClient

from lora_analysis.errors import FileAccessError, OptionError
from lora_analysis.server.auth.credentials import Credentials
from lora_analysis.server.auth.hosts import allowed_hosts, host_name
from lora_analysis.server.serving import find_token, serve, token_file
from serving import BASE, BEARER, LIMITS, TOKEN, Limits, settings_for, standing

OPEN = {("GET", "/api/v1/health"), ("POST", "/api/v1/session")}  # and whatever is outside of /api: the pages
COOKIE = "lora-session-8777"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """No credentials at all."""
    with standing(settings_for(tmp_path_factory.mktemp("state")), bearer=False) as client:
        yield client


@pytest.fixture
def browser(client: TestClient) -> Iterator[TestClient]:
    """Logged in by the URL."""
    client.get("/", params={"token": TOKEN})
    assert COOKIE in client.cookies
    yield client
    client.cookies.clear()


def all_routes(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    for route in routes:
        inner = getattr(route, "routes", None)
        if inner and not isinstance(route, APIRoute):
            yield from all_routes(inner)
        for method in getattr(route, "methods", None) or ():
            yield method, str(getattr(route, "path", ""))


def routes_of(client: TestClient) -> list[tuple[str, str]]:
    """(method, path with its parameters filled in) of every route of the API."""
    found = set()
    application: Any = client.app
    documented = {
        (method.upper(), path)
        for path, methods in client.get("/api/v1/openapi.json", headers=BEARER).json()["paths"].items()
        for method in methods
    }
    for method, path in {*documented, *all_routes(application.routes)}:
        filled = path.replace("{id}", "0" * 20).replace("{rest:path}", "nothing").replace("{name}", "x")
        if filled.startswith("/api"):
            found.add((method, filled))
    assert {("GET", "/api/docs"), ("GET", "/api/v1/openapi.json"), ("PUT", "/api/nothing")} <= found
    return sorted(found)


def test_every_route_is_closed_without_a_token(client: TestClient) -> None:
    routes = routes_of(client)
    assert len(routes) > 30
    wrong = {}
    for method, path in routes:
        found = client.request(method, path)
        if (method, path) in OPEN:
            assert found.status_code in (200, 422), path
        elif found.status_code != 401:
            wrong[method, path] = found.status_code
    assert not wrong


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer wrong"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN}, Bearer {TOKEN}"},
        {"cookie": f"{COOKIE}=wrong"},
        {"cookie": f"{COOKIE}={TOKEN}"},  # the token is no session
        {"cookie": f"lora-session-1={TOKEN}"},
        {"x-token": TOKEN},
    ],
)
def test_every_route_is_closed_with_a_wrong_token(client: TestClient, headers: dict[str, str]) -> None:
    for method, path in routes_of(client):
        if (method, path) not in OPEN:
            assert client.request(method, path, headers=headers).status_code == 401, (method, path)


def test_a_token_in_the_query_opens_nothing_of_the_api(client: TestClient) -> None:
    assert client.get("/api/v1/roots", params={"token": TOKEN}).status_code == 401


def test_an_expired_session_is_closed(tmp_path: Path) -> None:
    now = [1_000.0]
    credentials = Credentials(settings_for(tmp_path, limits=Limits(session_seconds=10)), clock=lambda: now[0])
    session = credentials.open_session()
    now[0] += 9
    assert credentials.is_session(session)
    now[0] += 9
    assert credentials.is_session(session), "each use counts from new"
    now[0] += 11
    assert not credentials.is_session(session)
    assert not credentials.is_session(session)


def test_the_open_routes_say_nothing_about_the_library(client: TestClient) -> None:
    assert client.get("/api/v1/health").json() == {"status": "ok", "login": {"token": True, "password": False}}
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "<h1>LoRA Analysis</h1>" in page.text


def test_unknown_addresses_of_the_api_are_no_pages(client: TestClient) -> None:
    for path in ("/api", "/api/", "/api/v1", "/api/v2/roots", "/api/v1/nothing", "/api/../api/v1/x"):
        found = client.get(path, headers={**BEARER, "accept": "text/html"})
        assert found.status_code == 404, path
        assert found.json()["error"]["code"] == "not-found"


# -- the way in ----------------------------------------------------------------------------------------


def test_the_url_is_exchanged_for_a_cookie_and_loses_its_token(client: TestClient) -> None:
    found = client.get("/inspect/abc", params={"token": TOKEN, "tab": "tags"})
    client.cookies.clear()
    assert found.status_code == 303
    assert found.headers["location"] == "/inspect/abc?tab=tags"
    cookie = found.headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE)
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert TOKEN not in found.headers["set-cookie"]


def test_the_exchange_leads_nowhere_else(client: TestClient) -> None:
    found = client.get(BASE + "//evil.example/x", params={"token": TOKEN})
    client.cookies.clear()
    assert found.headers["location"].startswith("/evil.example"), "one slash: a path, not a host"


def test_a_wrong_token_in_the_url_is_refused(client: TestClient) -> None:
    found = client.get("/", params={"token": "wrong"})
    assert found.status_code == 401
    assert "set-cookie" not in found.headers


def test_the_cookie_opens_the_api(browser: TestClient) -> None:
    assert browser.get("/api/v1/session").json() == {"via": "cookie"}
    assert browser.get("/api/v1/roots").status_code == 200


def test_a_one_time_token_works_once(client: TestClient) -> None:
    application: Any = client.app
    token = application.state.server.credentials.make_one_time()
    assert client.get("/", params={"token": token}).status_code == 303
    client.cookies.clear()
    assert client.get("/", params={"token": token}).status_code == 401


def test_logging_in_and_out(client: TestClient) -> None:
    assert client.post("/api/v1/session", json={"token": "wrong"}).status_code == 401
    assert client.post("/api/v1/session", json={}).status_code == 401
    assert client.post("/api/v1/session", json={"token": TOKEN}).status_code == 200
    assert client.get("/api/v1/roots").status_code == 200
    kept = dict(client.cookies)
    assert client.delete("/api/v1/session", headers={"sec-fetch-site": "same-origin"}).status_code == 204
    client.cookies.clear()
    client.cookies.update(kept)
    assert client.get("/api/v1/roots").status_code == 401, "the session is closed, not only its cookie forgotten"
    client.cookies.clear()


def test_a_password_opens_a_session(tmp_path: Path) -> None:
    pytest.importorskip("pwdlib")
    from lora_analysis.server.auth.credentials import hash_password

    hashed = hash_password("correct horse")
    assert hashed.startswith("$argon2id$")
    with standing(settings_for(tmp_path, password_hash=hashed), bearer=False) as client:
        assert client.get("/api/v1/health").json()["login"]["password"] is True
        assert client.post("/api/v1/session", json={"password": "wrong"}).status_code == 401
        assert client.post("/api/v1/session", json={"password": "correct horse"}).status_code == 200
        assert client.get("/api/v1/roots").status_code == 200


def test_failures_are_limited_and_the_right_token_still_works(tmp_path: Path) -> None:
    with standing(settings_for(tmp_path, limits=Limits(failures_per_minute=5)), bearer=False) as client:
        wrong = {"authorization": "Bearer wrong"}
        assert [client.get("/api/v1/roots", headers=wrong).status_code for _ in range(7)] == [401] * 5 + [429] * 2
        limited = client.post("/api/v1/session", json={"token": "wrong"})
        assert limited.status_code == 429
        assert limited.headers["retry-after"] == "60"
        assert client.get("/", params={"token": "wrong"}).status_code == 429
        assert client.get("/api/v1/roots", headers=BEARER).status_code == 200


def test_attempts_made_at_once_are_limited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password takes a while to check; so each counts before it is checked, not after."""
    checked, enough = [], threading.Event()

    def slow(self: Credentials, given: str) -> bool:
        checked.append(given)
        assert enough.wait(30)
        return given == "right"

    monkeypatch.setattr(Credentials, "is_password", slow)
    settings = settings_for(tmp_path, password_hash="x", limits=Limits(failures_per_minute=3))
    with standing(settings, bearer=False) as client, ThreadPoolExecutor(8) as threads:

        def attempt(number: int) -> int:
            return client.post("/api/v1/session", json={"password": f"guess {number}"}).status_code

        attempts = [threads.submit(attempt, number) for number in range(8)]
        for _, refused in zip(range(5), as_completed(attempts, timeout=30), strict=False):
            assert refused.result() == 429, "while the others are checked"
        enough.set()
        assert sorted(one.result() for one in attempts) == [401] * 3 + [429] * 5
        assert len(checked) == 3


def test_who_is_right_has_not_failed(tmp_path: Path) -> None:
    with standing(settings_for(tmp_path, limits=Limits(failures_per_minute=2)), bearer=False) as client:
        for _ in range(5):
            assert client.post("/api/v1/session", json={"token": TOKEN}).status_code == 200
        wrong = [client.post("/api/v1/session", json={"token": "wrong"}).status_code for _ in range(3)]
        assert wrong == [401, 401, 429]


def test_failures_are_forgotten_after_a_minute(tmp_path: Path) -> None:
    now = [0.0]
    credentials = Credentials(settings_for(tmp_path, limits=Limits(failures_per_minute=2)), clock=lambda: now[0])
    credentials.fail("a")
    credentials.fail("a")
    assert credentials.is_blocked("a")
    assert not credentials.is_blocked("b")
    now[0] += 61
    assert not credentials.is_blocked("a")


# -- from where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1:8777", "localhost:8777", "localhost", "[::1]:8777", "LOCALHOST:1"])
def test_own_names_are_allowed(client: TestClient, host: str) -> None:
    assert client.get("/api/v1/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8777", "127.0.0.1.evil.example", "", "localhost@evil.example", "127.0.0.2", "a/b",
     "localhost:x", "[::1", "localhost, evil.example"],
)  # fmt: skip
def test_foreign_names_are_refused_everywhere(client: TestClient, host: str) -> None:
    for path in ("/", "/api/v1/health", "/api/v1/roots", f"/?token={TOKEN}"):
        found = client.get(path, headers={**BEARER, "host": host})
        assert found.status_code == 400, path
        assert "set-cookie" not in found.headers


def test_an_added_name_is_allowed() -> None:
    assert "models.example" in allowed_hosts("127.0.0.1", ["Models.example"])
    assert host_name("models.example.:80") == "models.example"


UNSAFE_ORIGINS: list[dict[str, str]] = [
    {},  # a browser says where from
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:9999"},  # another program on this machine
    {"origin": "https://127.0.0.1:8778"},
    {"origin": "http://127.0.0.1:8777.evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},  # another port
    {"sec-fetch-site": "same-origin", "origin": "http://evil.example"},
]


@pytest.mark.parametrize("headers", UNSAFE_ORIGINS)
def test_other_pages_change_nothing_with_the_cookie(browser: TestClient, headers: dict[str, str]) -> None:
    for method, path in routes_of(browser):
        if method in ("POST", "PUT", "PATCH", "DELETE") and (method, path) not in OPEN:
            assert browser.request(method, path, headers=headers).status_code == 403, (method, path)


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": BASE},
        {"origin": BASE.replace("http:", "https:")},  # behind a proxy with TLS
    ],
)
def test_own_pages_may(browser: TestClient, headers: dict[str, str]) -> None:
    found = browser.post("/api/v1/scans", json={}, headers=headers)
    assert found.status_code == 202


def test_other_pages_cannot_log_a_browser_in(client: TestClient) -> None:
    for headers in UNSAFE_ORIGINS[1:]:
        found = client.post("/api/v1/session", json={"token": TOKEN}, headers=headers)
        assert found.status_code == 403


def test_other_pages_read_nothing_with_the_cookie(browser: TestClient) -> None:
    for site in ("cross-site", "same-site"):
        assert browser.get("/api/v1/roots", headers={"sec-fetch-site": site}).status_code == 403


def test_programs_with_the_token_need_no_page(client: TestClient) -> None:
    assert client.post("/api/v1/scans", json={}, headers=BEARER).status_code == 202


def test_the_version_is_told_to_who_is_logged_in(client: TestClient) -> None:
    assert client.get("/api/v1/roots", headers=BEARER).headers["x-lora-version"]
    assert "x-lora-version" not in client.get("/api/v1/roots").headers


def test_there_is_no_cors(client: TestClient) -> None:
    headers = {**BEARER, "origin": "http://evil.example", "access-control-request-method": "GET"}
    for method in ("GET", "OPTIONS"):
        found = client.request(method, "/api/v1/roots", headers=headers)
        assert not [name for name in found.headers if name.startswith("access-control-")]


def test_every_answer_has_the_headers_that_protect_a_page(client: TestClient) -> None:
    for path in ("/", "/api/v1/health", "/api/v1/roots", "/api/docs", "/nothing.js"):
        found = client.get(path, headers=BEARER)
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in found.headers["content-security-policy"]
        assert "unsafe-eval" not in found.headers["content-security-policy"]
    page = client.get("/", headers={"accept": "text/html"}).headers["content-security-policy"]
    assert "script-src 'self';" in page
    assert "default-src 'self'" in page


def test_the_documentation_loads_nothing(client: TestClient) -> None:
    page = client.get("/api/docs", headers=BEARER).text
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "/api/v1/adapters/{id}/spectra" in page


# -- the token -----------------------------------------------------------------------------------------


def test_a_random_token_has_128_bits_or_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LORA_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    tokens = {find_token(None) for _ in range(50)}
    assert len(tokens) == 50
    assert min(map(len, tokens)) >= 43  # 256 bits, six to a character


def test_a_weak_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("short", "é" * 30, "a b" * 10):
        with pytest.raises(OptionError, match="token has"):
            find_token(token)
        monkeypatch.setenv("LORA_TOKEN", token)
        with pytest.raises(OptionError, match="token has"):
            find_token(None)


def test_a_kept_token_has_to_be_private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LORA_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = token_file()
    path.parent.mkdir(parents=True)
    path.write_text(TOKEN + "\n")
    path.chmod(0o644)
    with pytest.raises(FileAccessError, match="chmod 600"):
        find_token(None)
    path.chmod(0o600)
    assert find_token(None) == TOKEN


def test_the_token_is_in_no_representation(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, password_hash="$argon2id$secret")
    assert TOKEN not in repr(settings)
    assert "argon2id" not in repr(settings)


def test_others_may_connect_only_where_that_is_said(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(OptionError, match="--allow-remote"):
            serve(settings_for(tmp_path, host=host), ready=lambda *_: None)


def test_the_state_is_private(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with standing(settings_for(state)):
        for folder in (state, state / "uploads", state / "outputs", state / "names"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_comparing_takes_no_hint_from_the_first_characters(tmp_path: Path) -> None:
    """Not a proof of constant time, which hmac.compare_digest gives; that a far guess is no faster than a near one."""
    credentials = Credentials(settings_for(tmp_path, limits=LIMITS))
    near, far = TOKEN[:-1] + "x", "x" + TOKEN[1:]

    def seconds(guess: str) -> float:
        began = time.perf_counter()
        for _ in range(2_000):
            assert not credentials.is_token(guess)
        return time.perf_counter() - began

    times = [(seconds(near), seconds(far)) for _ in range(9)]
    ratio = sorted(a / b for a, b in times)[4]
    assert 0.5 < ratio < 2
