"""What every request passes before anything else sees it: who is addressed, who asks, from where, and how much.

A list of what is open, not of what is closed: a route that nobody thought of is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ... import __version__
from ..settings import Settings
from .credentials import Credentials
from .hosts import allowed_hosts, host_name, is_own_page

API = "/api/"
SESSION_PATH = "/api/v1/session"
UPLOADS_PATH = "/api/v1/uploads"
OPEN = frozenset({("GET", "/api/v1/health"), ("HEAD", "/api/v1/health"), ("POST", SESSION_PATH)})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_MIN_UPLOAD_RATE = 10_000  # bytes per second over a window; a byte a second would hold a connection for years

_CODES = {
    400: "request", 404: "not-found", 405: "method", 408: "too-slow", 413: "too-large", 415: "media-type",
    422: "invalid",
}  # fmt: skip
_CHALLENGE = {"www-authenticate": "Bearer"}
_PAGE_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; script-src 'self'; "
    "connect-src 'self'; font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'; sandbox"
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class TooLargeError(HTTPException):
    """The body is larger than it may be."""

    def __init__(self) -> None:
        super().__init__(413, "the request is larger than it may be")


class TooSlowError(HTTPException):
    """The body, or the client that takes the reply, is slower than it may be."""

    def __init__(self) -> None:
        super().__init__(408, "the request came too slowly", {"connection": "close"})


def cookie_name(port: int) -> str:
    """By port: two servers on one host would log each other out otherwise."""
    return f"lora-session-{port}"


def code_of(status: int) -> str:
    """The stable code of an error that has no other than its status."""
    return _CODES.get(status, f"http-{status}")


def problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in the shape that every error of the API has."""
    error: dict[str, object] = {"type": "HTTP", "code": code, "message": message, "fields": [], "install": None}
    return JSONResponse({"error": error}, status, dict(headers or {}))


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings, credentials: Credentials) -> None:
        self._app, self._settings, self._credentials = app, settings, credentials
        self._hosts = allowed_hosts(settings.host, settings.hosts)
        self._cookie = cookie_name(settings.port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no route speaks WebSocket
            await send({"type": "websocket.close", "code": 1008})
            return
        guarded = self._with_headers(scope["path"], self._timed(send))
        headers = _headers(scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, guarded)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            if not started and scope["path"].startswith(API):
                # Lets a page that was loaded from an older server offer to reload.
                message = {**message, "headers": [*message["headers"], (b"x-lora-version", __version__.encode())]}
            started = True
            await guarded(message)

        try:
            await self._app(scope, self._bounded(scope, headers, receive), noting)
        except (TooLargeError, TooSlowError) as error:
            if started:
                raise  # the server then closes the connection
            await problem(error.status_code, code_of(error.status_code), str(error.detail), error.headers)(
                scope, receive, guarded
            )
        except ClientDisconnect:
            return

    # -- who ---------------------------------------------------------------------------------------

    def _refusal(self, scope: Scope, headers: Mapping[str, str]) -> Response | None:
        """The answer to a request that gets no further; None for one that does."""
        name = host_name(headers.get("host", ""))
        if name not in self._hosts:
            return problem(400, "host", "this server does not go by the name in the Host header; see --allow-host")
        method, path = scope["method"], scope["path"]
        is_api = path.startswith(API) or path == API.rstrip("/")
        if not is_api and method in _SAFE:
            return self._exchange(scope)
        return self._api_refusal(scope, headers, method, path)

    def _api_refusal(self, scope: Scope, headers: Mapping[str, str], method: str, path: str) -> Response | None:
        bearer = headers.get("authorization")
        if (method, path) in OPEN:
            # Nobody else's page may log a browser in either.
            own = bearer is not None or is_own_page(headers, needs_proof=False)
            return None if own or method in _SAFE else _foreign()
        if bearer is not None:
            return self._bearer_refusal(scope, bearer)
        session = _cookie(headers, self._cookie)
        if session is None or not self._credentials.is_session(session):
            return _unauthorised()
        if not is_own_page(headers, needs_proof=method not in _SAFE):
            return _foreign()
        scope.setdefault("state", {})["session"] = session
        return None

    def _bearer_refusal(self, scope: Scope, header: str) -> Response | None:
        kind, _, token = header.partition(" ")
        if kind.lower() == "bearer" and self._credentials.is_token(token.strip()):
            return None
        return self._failed(scope)

    def _failed(self, scope: Scope) -> Response:
        address = address_of(scope)
        if self._credentials.is_blocked(address):
            return problem(429, "too-many-failures", "too many wrong tokens; wait a minute", {"retry-after": "60"})
        self._credentials.fail(address)
        return _unauthorised()

    def _exchange(self, scope: Scope) -> Response | None:
        """``/?token=``: a cookie, and the same address without the token, so that no history or referrer keeps it."""
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        tokens = [value for name, value in query if name == "token"]
        if not tokens:
            return None
        if not (self._credentials.use_one_time(tokens[0]) or self._credentials.is_token(tokens[0])):
            return self._failed(scope)
        rest = urlencode([(name, value) for name, value in query if name != "token"])
        path = "/" + quote(scope["path"].lstrip("/"))  # two slashes would name another host
        response = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        set_session(response, self._settings.port, self._credentials.open_session())
        return response

    # -- how much, how fast ----------------------------------------------------------------------------

    def _bounded(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Receive:
        """``receive`` that counts: a stated length proves nothing, and a chunked body states none."""
        limits = self._settings.limits
        is_upload = scope["path"] == UPLOADS_PATH
        most = limits.upload_bytes if is_upload else limits.body_bytes
        stated = headers.get("content-length", "")
        too_large = stated.isdigit() and (len(stated) > 18 or int(stated) > most)
        loop = asyncio.get_running_loop()
        window, arrived, total, complete = loop.time(), 0, 0, False

        async def bounded() -> Message:
            nonlocal window, arrived, total, complete
            if complete:
                return await receive()  # waits for the client to leave; that may take as long as the reply
            if too_large:
                raise TooLargeError
            try:
                message = await asyncio.wait_for(receive(), max(0.001, window + limits.slow_seconds - loop.time()))
            except TimeoutError:
                if is_upload and arrived >= _MIN_UPLOAD_RATE * limits.slow_seconds:
                    window, arrived = loop.time(), 0
                    return await bounded()
                raise TooSlowError from None
            size = len(message.get("body", b""))
            arrived, total = arrived + size, total + size
            if total > most:
                raise TooLargeError
            if is_upload and loop.time() - window > limits.slow_seconds / 2:
                if arrived < _MIN_UPLOAD_RATE * limits.slow_seconds / 2 and message.get("more_body", False):
                    raise TooSlowError
                window, arrived = loop.time(), 0
            complete = message["type"] == "http.request" and not message.get("more_body", False)
            return message

        return bounded

    def _timed(self, send: Send) -> Send:
        """``send`` that gives up on a client that takes no piece of the reply for long."""
        seconds = self._settings.limits.slow_seconds

        async def timed(message: Message) -> None:
            try:
                await asyncio.wait_for(send(message), seconds)
            except TimeoutError:
                raise TooSlowError from None

        return timed

    def _with_headers(self, path: str, send: Send) -> Send:
        is_api = path.startswith(API)
        own = {**SECURITY_HEADERS, "content-security-policy": _API_POLICY if is_api else _PAGE_POLICY}
        if is_api:
            own["cache-control"] = "no-store"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [(k.encode(), v.encode()) for k, v in own.items() if k.encode() not in present]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        return with_headers


def set_session(response: Response, port: int, session: str) -> None:
    """Put the session into a cookie that scripts cannot read and other sites cannot use."""
    response.set_cookie(cookie_name(port), session, httponly=True, samesite="strict", path="/")


def address_of(scope: Scope) -> str:
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else "unknown"


def _headers(scope: Scope) -> dict[str, str]:
    """Header values by name; of a name that is there twice, both, so that neither is believed alone."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _cookie(headers: Mapping[str, str], name: str) -> str | None:
    for part in headers.get("cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')
    return None


def _unauthorised() -> Response:
    return problem(401, "unauthorised", "log in with the token this server printed when it started", _CHALLENGE)


def _foreign() -> Response:
    return problem(403, "foreign-page", "this request does not come from a page of this server")
