"""Jobs: submit, list, look, cancel, run again, forget; and the stream of events about all of them."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from ...json_ready import encodable
from ..asking import ServerDep, locate_all, result_of, title_of
from ..jobs.store import JobRecord
from ..naming import report_name
from ..outputs import check_free, free_name
from ..problems import NotFoundError, reply
from ..rendering import event_data, job_reply, shown_path
from ..schemas.common import Document, JobPath
from ..schemas.jobs import (
    BakeJobRequest,
    Events,
    ExtractJobRequest,
    ForgottenJobs,
    Job,
    JobFamily,
    JobPage,
    JobRequest,
    JobState,
    ReportJobRequest,
    VerifyJobRequest,
)
from ..state import Server

router = APIRouter(tags=["jobs"])
_DOING = {
    "resize": "Resize", "merge": "Merge", "convert": "Convert", "bake": "Bake into", "extract": "Extract from",
    "verify": "Verify", "report": "Report on",
}  # fmt: skip
_NEWEST = 50


@router.post("/jobs", status_code=202)
def submit(request: JobRequest, server: ServerDep) -> Job:
    """Queue a job that writes, or reads a whole file. 409 where the output's name is taken, 429 where too many wait."""
    params: dict[str, Any] = request.model_dump(exclude_none=True, exclude={"kind"}, by_alias=True)
    adapters, bases = locate_all(server, params)
    places = [*bases, *adapters] if isinstance(request, BakeJobRequest | ExtractJobRequest) else adapters
    if not isinstance(request, VerifyJobRequest | ReportJobRequest):
        if request.output is None:
            params["output"] = free_name(server, request.kind, params["options"], places[0])
        check_free(server, params["output"])
    return job_reply(server, server.runner.submit(request.kind, title_of(_DOING[request.kind], places), params))


@router.get("/jobs")
def jobs(
    server: ServerDep,
    state: Annotated[list[JobState], Query(max_length=10)] = [],  # noqa: B006  # never changed
    family: Annotated[list[JobFamily], Query(max_length=3, description="All where none is named.")] = [],  # noqa: B006
    kind: Annotated[list[Annotated[str, Query(max_length=40)]], Query(max_length=20)] = [],  # noqa: B006
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=0, le=200)] = 50,
) -> JobPage:
    """Jobs, newest first."""
    found, total = server.jobs.page(states=state, families=family, kinds=kind, offset=offset, limit=limit)
    return JobPage(items=[job_reply(server, job) for job in found], total=total, **server.jobs.counts())


@router.get("/jobs/{id}")
def job(id: JobPath, server: ServerDep) -> Job:  # noqa: A002  # the name in the path
    """One job as it stands."""
    return job_reply(server, _find(server, id))


@router.get("/jobs/{id}/result", response_model=Document)
async def result(id: JobPath, server: ServerDep) -> Response:  # noqa: A002
    """The whole result of a job that succeeded: what was done, an analysis; of ``report`` the page, to save."""
    found = await asyncio.to_thread(_find, server, id)
    if found.state != "succeeded":
        raise NotFoundError("result")
    data = await result_of(server, found)
    if server.runner.result_path(found).endswith(".json"):
        return Response(data, media_type="application/json")
    return Response(data, media_type="application/octet-stream", headers=_as_attachment(server, found))


def _as_attachment(server: Server, job: JobRecord) -> dict[str, str]:
    """The name under which a browser saves a report, and that it does not show it."""
    if job.kind != "report":
        return {}
    name = report_name(posixpath.basename(shown_path(server, job.params["adapter"])))
    return {"content-disposition": f"attachment; filename*=utf-8''{quote(encodable(name), safe='')}"}


@router.post("/jobs/{id}/cancel")
def cancel(id: JobPath, server: ServerDep) -> Job:  # noqa: A002
    """Stop a job; one that runs is stopped within two seconds. A finished one stays as it is."""
    found = server.runner.cancel(id)
    if found is None:
        raise NotFoundError("job")
    return job_reply(server, found)


@router.post("/jobs/{id}/retry", status_code=202)
def retry(id: JobPath, server: ServerDep) -> Job:  # noqa: A002
    """Run a finished job again, as a new one."""
    found = _find(server, id)
    if not found.is_finished:
        return job_reply(server, found)
    locate_all(server, found.params)
    if "output" in found.params:
        check_free(server, found.params["output"])
    again = server.runner.submit(found.kind, found.title, found.params, key=found.key, retry_of=found.id)
    return job_reply(server, again)


@router.delete("/jobs/{id}", status_code=204)
def forget(id: JobPath, server: ServerDep) -> Response:  # noqa: A002
    """Remove a finished job from the list, its result with it. What it wrote stays."""
    found = _find(server, id)
    if not server.runner.forget(found.id):
        return reply(409, "Conflict", "conflict", "the job has not finished; cancel it first")
    return Response(status_code=204)


@router.delete("/jobs")
def forget_finished(server: ServerDep, family: JobFamily = "write") -> ForgottenJobs:
    """Remove all finished jobs of a family from the list. What they wrote stays."""
    return ForgottenJobs(forgotten=server.runner.forget_finished(family))


@router.get("/events", response_class=EventSourceResponse, responses={200: {"model": Events}})
async def events(
    server: ServerDep, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> AsyncIterable[ServerSentEvent]:
    """One stream for all jobs: ``snapshot``, ``job``, ``progress`` and ``removed`` events.

    A client that reconnects with ``Last-Event-ID`` hears what it missed, or a snapshot where that is not known.
    """
    async for event in server.events.listen(last_event_id):
        if event is None:
            last, jobs = server.events.last_id(), await asyncio.to_thread(_snapshot, server)
            yield ServerSentEvent(event="snapshot", id=last, data={"jobs": jobs})
        else:
            data = await asyncio.to_thread(event_data, server, event)
            yield ServerSentEvent(event=event.name, id=event.id, data=data)


def _snapshot(server: Server) -> list[dict[str, Any]]:
    active, _ = server.jobs.page(states=("queued", "running"), limit=200)
    newest, _ = server.jobs.page(limit=_NEWEST)
    every = {job.id: job for job in [*active, *newest]}
    ordered = sorted(every.values(), key=lambda job: -job.number)
    return [job_reply(server, job).model_dump() for job in ordered]


def _find(server: Server, wanted: str) -> JobRecord:
    found = server.jobs.get(wanted)
    if found is None:
        raise NotFoundError("job")
    return found
