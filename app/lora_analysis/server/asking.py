"""Ask a worker a question, and give its answer or the job that will have it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from fastapi.responses import JSONResponse, Response

from .. import __version__
from ..errors import OptionError
from .catalog.store import Location
from .jobs.store import JobRecord
from .problems import JobFailedError, NotFoundError
from .rendering import adapters_of, checkpoints_of, job_reply
from .state import Server

MOST_WAIT = 30.0


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


ServerDep = Annotated[Server, Depends(server_of)]
Wait = Annotated[
    float,
    Query(ge=0, le=MOST_WAIT, description="Seconds to wait for the answer; then 202 and the job that will have it."),
]


def locate(server: Server, adapter: str) -> Location:
    """Where an id leads. Raises: NotFoundError."""
    found = server.catalog.location(adapter)
    if found is None or server.root(found.root) is None:
        raise NotFoundError("adapter")
    return found


def locate_checkpoint(server: Server, checkpoint: str) -> Location:
    """Where an id of base weights leads. Raises: NotFoundError; OptionError where it is something else."""
    found = locate(server, checkpoint)
    if not found.is_checkpoint:
        raise OptionError(f"{found.name} is no checkpoint; GET /checkpoints lists those of the library")
    return found


def locate_all(server: Server, params: Mapping[str, Any]) -> tuple[list[Location], list[Location]]:
    """The adapters, and the checkpoints, that a request names. Raises: NotFoundError, OptionError."""
    return (
        [locate(server, adapter) for adapter in adapters_of(params)],
        [locate_checkpoint(server, checkpoint) for checkpoint in checkpoints_of(params)],
    )


def title_of(doing: str, places: list[Location]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{doing} {places[0].name}{more}" if places else doing


async def ask(server: Server, kind: str, doing: str, params: Mapping[str, Any], wait: float) -> JobRecord:
    """The job with the answer: finished, or as it stands after ``wait`` seconds.

    The same question about the same files is answered once. Raises: NotFoundError; JobFailedError where there is no
    answer; QueueFullError.
    """
    job = await asyncio.to_thread(_begin, server, kind, doing, params)
    if not job.is_finished and wait > 0:
        job = await server.runner.wait(job.id, wait) or job
    if job.is_finished and job.state != "succeeded":
        raise JobFailedError(
            job.error or {"type": "Cancelled", "code": "cancelled", "message": "the job was cancelled"}
        )
    return job


def _begin(server: Server, kind: str, doing: str, params: Mapping[str, Any]) -> JobRecord:
    places, bases = locate_all(server, params)
    text = json.dumps([__version__, kind, params, [place.stamp for place in (*places, *bases)]], sort_keys=True)
    key = f"{kind}:{hashlib.sha256(text.encode()).hexdigest()}"
    return server.runner.answer(kind, title_of(doing, places), params, key)


async def answer(server: Server, kind: str, doing: str, params: Mapping[str, Any], wait: float) -> Response:
    """The answer as JSON, or 202 with the job."""
    job = await ask(server, kind, doing, params, wait)
    if job.state != "succeeded":
        return pending(server, job)
    return Response(await result_of(server, job), media_type="application/json")


async def result_of(server: Server, job: JobRecord) -> bytes:
    """The file that a job left. Raises: NotFoundError where it has been dropped."""
    try:
        return await asyncio.to_thread(_read, server.runner.result_path(job))
    except OSError as error:
        raise NotFoundError("result any more; ask again") from error


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def pending(server: Server, job: JobRecord) -> JSONResponse:
    return JSONResponse(job_reply(server, job).model_dump(), 202)
