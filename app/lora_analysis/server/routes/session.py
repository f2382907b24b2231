"""Logging in and out, health, and what this server is."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ... import __version__
from ...doctor import EXTRAS, installed_version
from ...formats.adapter_output import OUTPUT_SUFFIXES
from ...formats.discovery import ADAPTER_SUFFIXES
from ..asking import ServerDep
from ..auth.gate import address_of, cookie_name, problem, set_session
from ..schemas.session import ExtraInfo, Health, Login, LoginWays, ServerInfo, ServerLimits, Session
from ..state import Server

router = APIRouter(tags=["session"])


@router.get("/health")
def health(server: ServerDep) -> Health:
    """Whether the server answers. Open to everybody."""
    return Health(status="ok", login=LoginWays(token=True, password=server.credentials.has_password))


@router.get("/session")
def session(request: Request) -> Session:
    """Whether this client is logged in."""
    return Session(via="cookie" if getattr(request.state, "session", None) else "bearer")


@router.post("/session", response_model=Session, responses={401: {}, 429: {}})
def log_in(login: Login, request: Request, server: ServerDep) -> Response:
    """Exchange the token or the password for a session cookie. Open to everybody, five failures a minute."""
    address = address_of(request.scope)
    if not server.credentials.begin(address):
        return problem(429, "too-many-failures", "too many wrong tokens; wait a minute", {"retry-after": "60"})
    if not _is_right(server, login):
        return problem(401, "unauthorised", "this is not the token or password of this server")
    server.credentials.forgive(address)
    response = JSONResponse(Session(via="cookie").model_dump())
    set_session(response, server.settings.port, server.credentials.open_session())
    return response


def _is_right(server: Server, login: Login) -> bool:
    if login.token is not None and server.credentials.is_token(login.token):
        return True
    return login.password is not None and server.credentials.is_password(login.password)


@router.delete("/session", status_code=204)
def log_out(request: Request, server: ServerDep) -> Response:
    """Close this client's session."""
    given = getattr(request.state, "session", None)
    if given is not None:
        server.credentials.close_session(given)
    response = Response(status_code=204)
    response.delete_cookie(cookie_name(server.settings.port), path="/", httponly=True, samesite="strict")
    return response


@router.get("/info")
def info(server: ServerDep) -> ServerInfo:
    """Version, limits, and which optional parts are installed."""
    limits = server.settings.limits
    extras = {}
    for name, parts in EXTRAS.items():
        installed = all(installed_version(part) for part in parts)
        install = None if installed else f"pip install 'lora-analysis[{name}]'"
        extras[name] = ExtraInfo(installed=installed, install=install)
    return ServerInfo(
        version=__version__,
        limits=ServerLimits(
            upload_bytes=limits.upload_bytes, queued_jobs=limits.queued_jobs, body_bytes=limits.body_bytes
        ),
        input_suffixes=list(ADAPTER_SUFFIXES),
        output_suffixes=list(OUTPUT_SUFFIXES),
        extras=extras,
    )
