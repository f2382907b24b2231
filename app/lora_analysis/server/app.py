"""Build the application. Running it is :mod:`.serving`'s part."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from .. import __version__
from .auth.gate import Gate
from .documentation import add_documentation
from .problems import add_handlers
from .routes import adapters, jobs, library, questions, session, uploads
from .schemas.common import ErrorReply
from .settings import Settings
from .state import Server
from .ui import add_ui

PREFIX = "/api/v1"
_DESCRIPTION = """Everything `lora` does, over HTTP. Adapters are addressed by id. A question whose answer takes long is
answered with status 202 and the job that will have it; ask again, or listen to `/api/v1/events`."""
_ROUTES = (session, library, adapters, uploads, questions, jobs)


def create_app(settings: Settings) -> FastAPI:
    """The application with its parts; they start with its lifespan.

    Raises: FileAccessError, OptionError for roots that cannot be served; OutputError where the state folder is in use.
    """
    server = Server(settings)
    app = _bare(server)
    app.state.server = server
    app.add_middleware(Gate, settings=settings, credentials=server.credentials)
    add_ui(app, settings.ui)
    return app


def documented_app() -> FastAPI:
    """The routes alone, for the OpenAPI document: it serves nothing."""
    return _bare(None)


def _bare(server: Server | None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        assert server is not None  # a documented app is not run
        await anyio.to_thread.run_sync(server.start)
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(server.stop)

    app = FastAPI(
        title="LoRA Analysis",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,  # served by our own route: the built-in pages load their scripts from elsewhere
        lifespan=lifespan,
        **_without_telemetry(),
    )
    add_handlers(app)
    api = APIRouter(prefix=PREFIX, responses={"4XX": {"model": ErrorReply}, "5XX": {"model": ErrorReply}})
    for routes in _ROUTES:
        api.include_router(routes.router)
    app.include_router(api, generate_unique_id_function=_operation_id)
    add_documentation(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def _without_telemetry() -> dict[str, Any]:
    """FastAPI from 0.142 on sends traces where the environment says so; this program sends nothing anywhere."""
    known = inspect.signature(FastAPI.__init__).parameters
    off = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
    return {"telemetry": off} if "telemetry" in known else {}
