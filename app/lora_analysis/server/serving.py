"""Run the application: one process, one listening socket, bounds on what a connection may hold."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import secrets
import socket
import stat
import threading
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import FileAccessError, OptionError
from .app import create_app
from .auth.hosts import is_loopback
from .quiet import LOOK_SECONDS, QuietTimes
from .settings import MIN_TOKEN_CHARACTERS, Settings

logger = logging.getLogger(__name__)
_GRACE_SECONDS = 3  # for replies that are under way when the server stops
_BACKLOG = 128
_MOST_CONNECTIONS = 500


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request head does not arrive in time: uvicorn would wait for ever."""

    head_seconds = 60.0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._forget_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._forget_head()
        waiting_since = self.cycle
        self._head_timer = self.loop.call_later(self.head_seconds, self._close_if_waiting, waiting_since)

    def _close_if_waiting(self, waiting_since: Any) -> None:
        if self.cycle is waiting_since and not self.transport.is_closing():
            self.transport.close()

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


_TICKS_BETWEEN_LOOKS = round(LOOK_SECONDS * 10)


class WebServer(uvicorn.Server):
    """Ends the streams of events before it waits for open connections to close, and gives memory back when quiet."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._quiet = QuietTimes()
        self._looking: asyncio.Task[bool] | None = None

    async def on_tick(self, counter: int) -> bool:
        """uvicorn calls this ten times a second."""
        if counter % _TICKS_BETWEEN_LOOKS == 0 and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._quiet.look(self.server_state.total_requests))
        return await super().on_tick(counter)

    def one_time_token(self) -> str:
        """What opens one session, soon."""
        token: str = self._app.state.server.credentials.make_one_time()
        return token

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.server.events.close()
        await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
    """Listen, before anything is started. Raises: OptionError where the address is taken or none of this machine's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(f"cannot listen on {host} port {port}: {reason}; choose another with --port") from error
    return listener


def serve(settings: Settings, *, allow_remote: bool = False, ready: Callable[[Settings, str], None]) -> None:
    """Serve until interrupted. ``ready(settings, one_time_token)`` is called when requests can come.

    Raises: OptionError for an address that needs ``allow_remote``, or that cannot be listened on; as ``create_app``.
    """
    if not is_loopback(settings.host) and not allow_remote:
        raise OptionError(
            f"{settings.host} can be reached by others; everyone with the token may then read the roots and write "
            "outputs, unencrypted. Say --allow-remote if that is wanted"
        )
    listener = bind(settings.host, settings.port)
    try:
        settings = replace(settings, port=listener.getsockname()[1])
        server = web_server(create_app(settings), settings)
        ready(settings, server.one_time_token())
        server.run(sockets=[listener])
    finally:
        listener.close()


def web_server(app: FastAPI, settings: Settings) -> WebServer:
    """uvicorn around the application; run it with a socket that listens."""
    PatientProtocol.head_seconds = settings.limits.slow_seconds
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        access_log=False,  # it would log addresses with their queries, and a token is a query once
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        limit_concurrency=_MOST_CONNECTIONS,
    )
    return WebServer(config, app)


def default_state(roots: tuple[Path, ...]) -> Path:
    """A folder per set of roots, so that servers of different libraries do not meet."""
    key = "\0".join(sorted(os.path.realpath(root) for root in roots))
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return Path(platformdirs.user_data_dir("lora-analysis", appauthor=False)) / "server" / name


def find_token(given: str | None) -> str:
    """The token asked for, that of ``LORA_TOKEN``, that of the configuration file, or a new one.

    Raises: OptionError for one that is too short to be safe; FileAccessError for a file that others can read.
    """
    token = given or os.environ.get("LORA_TOKEN") or _token_of_file()
    if token is None:
        return secrets.token_urlsafe(32)
    if len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise OptionError(
            f"the token has {len(token)} characters; it needs {MIN_TOKEN_CHARACTERS} or more, ASCII and without blanks"
        )
    return token


def token_file() -> Path:
    """Where a token can be kept for every start: its one line, readable by its owner alone."""
    return Path(platformdirs.user_config_dir("lora-analysis", appauthor=False)) / "token"


def _token_of_file() -> str | None:
    path = token_file()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, encoding="utf-8") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_IMODE(mode) & 0o077:
            raise FileAccessError(f"{path}: others can read this token; run: chmod 600 {path}")
        return file.readline().strip() or None


def open_browser(settings: Settings, one_time: str) -> None:
    """Show the page in the user's browser, logged in by a token that works once."""
    # A browser in the terminal would take it over, and the command line is seen by every user: hence one-time.
    threading.Timer(0.5, webbrowser.open, (url_of(settings, one_time),)).start()


def url_of(settings: Settings, token: str) -> str:
    host = settings.host if settings.host not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104  # compared
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/?token={token}"
