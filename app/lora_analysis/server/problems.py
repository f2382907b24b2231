"""The one table from errors to HTTP statuses, and the shape in which every error leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ..errors import (
    CancelledError,
    FileAccessError,
    FormatError,
    LoraAnalysisError,
    MissingExtraError,
    OptionError,
    OutputError,
)
from ..json_ready import encodable
from ..text import printable
from .auth.gate import SECURITY_HEADERS, code_of
from .jobs.store import QueueFullError

logger = logging.getLogger(__name__)
_MOST_FIELDS = 20

# First match wins, so the most specific types come first.
STATUSES: tuple[tuple[type[LoraAnalysisError], int], ...] = (
    (MissingExtraError, 501),
    (OptionError, 400),
    (FileAccessError, 404),
    (OutputError, 409),
    (CancelledError, 409),
    (FormatError, 422),
    (LoraAnalysisError, 422),
)
# An error that a job ended with, by its code; the rest are the file's or the request's own: 422.
_JOB_STATUSES: Mapping[str, int] = {
    "option": 400, "file-access": 404, "output": 409, "cancelled": 409, "missing-extra": 501, "internal": 500,
    "memory": 507, "time": 504, "worker-died": 502, "interrupted": 503,
}  # fmt: skip


class NotFoundError(HTTPException):
    """No adapter, job or root has the id. The same for what is outside of the roots: there is nothing to tell apart."""

    def __init__(self, what: str) -> None:
        super().__init__(404, f"there is no such {what}")


class JobFailedError(Exception):
    """An analysis that was asked for ended with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error.get("message", ""))
        self.error = error


def add_handlers(app: FastAPI) -> None:
    """Answer every exception in the shape of ``ErrorReply``."""

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> Response:
        return reply(error.status_code, "HTTP", code_of(error.status_code), str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        fields = [
            {
                "field": printable(".".join(map(str, one["loc"][1:] or one["loc"])), limit=200),
                "message": printable(one["msg"], limit=300),
            }
            for one in found[:_MOST_FIELDS]
        ]
        first = f"{fields[0]['field']}: {fields[0]['message']}" if fields else "the request is not valid"
        return reply(422, "ValidationError", "invalid", first, fields=fields)

    @app.exception_handler(LoraAnalysisError)
    def on_ours(request: Request, error: LoraAnalysisError) -> Response:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        install = error.install if isinstance(error, MissingExtraError) else None
        return reply(status, type(error).__name__, error.code, error.message, install=install)

    @app.exception_handler(QueueFullError)
    def on_full(request: Request, error: QueueFullError) -> Response:
        message = "as many jobs wait as may; try again when some have finished"
        return reply(429, "QueueFull", "queue-full", message, headers={"retry-after": "10"})

    @app.exception_handler(JobFailedError)
    def on_failed(request: Request, error: JobFailedError) -> Response:
        found = error.error
        status = _JOB_STATUSES.get(found["code"], 422)
        return reply(status, found["type"], found["code"], found["message"], install=found.get("install"))

    @app.exception_handler(Exception)
    def on_defect(request: Request, error: Exception) -> Response:
        logger.error("%s %s failed", request.method, printable(request.url.path, limit=200), exc_info=error)
        message = "the server failed; its log says why"
        return reply(500, "ServerError", "internal", message, headers=SECURITY_HEADERS)


def reply(
    status: int,
    kind: str,
    code: str,
    message: str,
    *,
    fields: list[dict[str, str]] | None = None,
    install: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    body = {"type": kind, "code": code, "message": encodable(message), "fields": fields or [], "install": install}
    return JSONResponse({"error": body}, status, dict(headers or {}))
