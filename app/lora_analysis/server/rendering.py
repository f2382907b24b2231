"""From records to replies."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from ..timestamps import utc_time
from .commands import command_of
from .jobs.events import Event
from .jobs.store import JobRecord
from .schemas.adapters import AdapterRow
from .schemas.common import ErrorInfo
from .schemas.jobs import Job, LogLine, Progress
from .state import Server

_SHOWN_TAGS = 12


_SAME = (
    "id", "root", "name", "folder", "kind", "size_bytes", "base_model", "base_model_label", "algorithm", "dialect",
    "container", "trainer", "title", "trigger", "alpha", "parameters", "layers", "dtype", "autov3", "errors",
    "warnings", "duplicates",
)  # fmt: skip


def adapter_row(server: Server, row: sqlite3.Row) -> AdapterRow:
    return AdapterRow.model_validate(plain_row(server, row))


def plain_row(server: Server, row: sqlite3.Row) -> dict[str, Any]:
    """The fields of an ``AdapterRow``, unchecked: a page has hundreds of them, and checking takes most of its time."""
    root = server.root(row["root"])
    rank = None
    if row["rank"] is not None:
        rank = {"min": row["rank_min"], "max": row["rank_max"], "mode": row["rank"]}
    code = row["error_code"]
    error = {"type": "Error", "code": code, "message": row["error_message"], "fields": [], "install": None}
    return {
        **{name: row[name] for name in _SAME},
        "revision": row["stamp"],
        "modified_at": utc_time(row["mtime_ns"] / 1e9) or "",
        "added_at": utc_time(row["added"]) or "",
        "rank": rank,
        "dora": bool(row["dora"]),
        "checkpoint": bool(row["checkpoint"]),
        "error": None if code is None else error,
        "top_tags": [{"tag": tag, "count": count} for tag, count in json.loads(row["top_tags"])[:_SHOWN_TAGS]],
        "removable": root is not None and root.kind != "library",
    }


def error_info(error: Mapping[str, Any]) -> ErrorInfo:
    return ErrorInfo(
        type=error["type"], code=error["code"], message=error["message"], install=error.get("install"), fields=[]
    )


def job_reply(server: Server, found: JobRecord) -> Job:
    job = server.runner.live(found)
    fraction = None
    if job.state == "succeeded":
        fraction = 1.0
    elif job.total:
        fraction = min(1.0, job.done / job.total)
    return Job(
        id=job.id,
        kind=job.kind,
        family=job.family,
        title=job.title,
        state=job.state,
        cancelling=job.cancel and job.state == "running",
        adapters=adapters_of(job.params),
        checkpoints=checkpoints_of(job.params),
        params=dict(job.params),
        created_at=utc_time(job.created) or "",
        started_at=None if job.started is None else utc_time(job.started),
        finished_at=None if job.finished is None else utc_time(job.finished),
        progress=Progress(done=job.done, total=job.total, unit=job.unit, fraction=fraction),
        error=None if job.error is None else error_info(job.error),
        summary=None if job.summary is None else dict(job.summary),
        outputs=list(job.outputs),
        command=command_of(job.kind, job.params, lambda adapter: shown_path(server, adapter)),
        log=[LogLine(time=utc_time(line["time"]) or "", text=line["text"]) for line in job.log],
        retry_of=job.retry_of,
        has_result=job.state == "succeeded",
    )


def event_data(server: Server, event: Event) -> Any:
    """What travels in an event: the reply's form of what was published."""
    if isinstance(event.data, JobRecord):
        return {"job": job_reply(server, event.data).model_dump()}
    return event.data


def adapters_of(params: Mapping[str, Any]) -> list[str]:
    """Ids of the adapters that a job reads."""
    if "adapter" in params:
        return [params["adapter"]]
    if "inputs" in params:
        return [one["adapter"] for one in params["inputs"]]
    return list(params.get("adapters", ()))


def checkpoints_of(params: Mapping[str, Any]) -> list[str]:
    """Ids of the base weights that a job reads."""
    return [params[name] for name in ("tuned", "base") if name in params]


def shown_path(server: Server, adapter: str) -> str:
    """``label/inside/the/root``; the id where the adapter is gone."""
    found = server.catalog.location(adapter)
    root = None if found is None else server.root(found.root)
    return f"{root.label}/{found.path}" if found is not None and root is not None else adapter
