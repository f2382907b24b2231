"""The library: roots, search, one adapter, scans, removing."""

from __future__ import annotations

import json
import os
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from ...timestamps import utc_time
from ..asking import ServerDep, locate
from ..catalog.query import FACETS, Page
from ..catalog.query import Query as CatalogQuery
from ..problems import NotFoundError, reply
from ..rendering import adapter_row, job_reply, plain_row
from ..roots import resolve_within
from ..schemas.adapters import (
    AdapterPage,
    AdapterRow,
    ProblemName,
    RootInfo,
    ScanRequest,
    SkippedFile,
    SortName,
)
from ..schemas.common import AdapterPath
from ..schemas.jobs import Job
from ..state import Server
from ..trash import put_away

router = APIRouter(tags=["library"])
_MOST_SKIPPED = 1_000
_MOST_CHECKPOINTS = 1_000
_Values = Annotated[list[Annotated[str, Query(max_length=200)]], Query(max_length=50)]


@router.get("/roots")
def roots(server: ServerDep) -> list[RootInfo]:
    """The folders that are served, the one of uploads and the one of outputs among them."""
    counts = server.catalog.counts()
    found = []
    for root in server.roots:
        row = counts.get(root.id)
        found.append(
            RootInfo(
                id=root.id,
                label=root.label,
                kind=root.kind,
                items=0 if row is None else row["items"],
                broken=0 if row is None else int(row["broken"]),
                size_bytes=0 if row is None else int(row["bytes"]),
                scanned_at=None if row is None or row["finished"] is None else utc_time(row["finished"]),
            )
        )
    return found


@router.get("/skipped")
def skipped(server: ServerDep) -> list[SkippedFile]:
    """Pipes, sockets, links out of a root and the like, which a scan met and did not open."""
    return [
        SkippedFile(root=row["root"], path=row["path"], reason=row["reason"])
        for row in server.catalog.skipped(_MOST_SKIPPED)
    ]


@router.post("/scans", status_code=202)
def scan(request: ScanRequest, server: ServerDep) -> Job:
    """Bring the catalog up to date; what has not changed is not read again. Progress counts adapters."""
    for wanted in request.roots:
        if server.root(wanted) is None:
            raise NotFoundError("root")
    chosen = sorted(set(request.roots))
    job = server.runner.submit("scan", "Scan the library", {"roots": chosen}, key=f"scan:{','.join(chosen)}")
    return job_reply(server, job)


@router.get("/adapters", response_model=AdapterPage)
def adapters(
    server: ServerDep,
    q: Annotated[str, Query(max_length=300, pattern=r"^[^\x00]*$", description="Words; all have to occur.")] = "",
    root: _Values = [],  # noqa: B006  # never changed
    base_model: _Values = [],  # noqa: B006
    algorithm: _Values = [],  # noqa: B006
    dialect: _Values = [],  # noqa: B006
    trainer: _Values = [],  # noqa: B006
    dtype: _Values = [],  # noqa: B006
    container: _Values = [],  # noqa: B006
    tag: _Values = [],  # noqa: B006
    all_tags: Annotated[bool, Query(description="Adapters with all tags named, not any.")] = False,
    rank_min: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    rank_max: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    problems: Annotated[list[ProblemName], Query(max_length=4)] = [],  # noqa: B006
    sort: SortName = "name",
    descending: bool = False,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=0, le=500)] = 100,
) -> Response:
    """Search the library. Several values of one facet mean any of them; an empty value means none is stated."""
    began = time.perf_counter()
    chosen = {
        "root": root, "base_model": base_model, "algorithm": algorithm, "dialect": dialect, "trainer": trainer,
        "dtype": dtype, "container": container,
    }  # fmt: skip
    query = CatalogQuery(
        text=q,
        facets=tuple((name, tuple(chosen[name])) for name in FACETS if chosen[name]),
        tags=tuple(tag),
        all_tags=all_tags,
        rank_min=rank_min,
        rank_max=rank_max,
        problems=tuple(problems),
        sort=sort,
        descending=descending,
        offset=offset,
        limit=limit,
    )
    page = _page(server, query, server.library.find(query), began)
    return Response(json.dumps(page, allow_nan=False), media_type="application/json")


def _page(server: Server, query: CatalogQuery, found: Page, began: float) -> dict[str, Any]:
    """The fields of an ``AdapterPage``, unchecked; a test holds them to it."""
    return {
        "items": [plain_row(server, row) for row in found.rows],
        "total": found.total,
        "offset": query.offset,
        "limit": query.limit,
        "facets": {
            name: [{"value": value, "count": count} for value, count in values] for name, values in found.facets.items()
        },
        "rank_min": None if found.ranks is None else found.ranks[0],
        "rank_max": None if found.ranks is None else found.ranks[1],
        "milliseconds": round((time.perf_counter() - began) * 1e3, 2),
    }


@router.get("/checkpoints")
def checkpoints(server: ServerDep) -> list[AdapterRow]:
    """Base weights found in the roots: single files, and folders of several with their index. By name."""
    return [adapter_row(server, row) for row in server.library.checkpoints(_MOST_CHECKPOINTS)]


@router.get("/adapters/{id}")
def adapter(id: AdapterPath, server: ServerDep) -> AdapterRow:  # noqa: A002  # the name in the path
    """One adapter's row."""
    row = server.library.row(id)
    if row is None:
        raise NotFoundError("adapter")
    return adapter_row(server, row)


@router.delete("/adapters/{id}", status_code=204)
def remove(id: AdapterPath, server: ServerDep) -> Response:  # noqa: A002
    """Take back an upload or an output. Files of the library are never removed."""
    place = locate(server, id)
    root = server.root(place.root)
    if root is None or root.kind == "library":
        return reply(403, "Forbidden", "forbidden", "only uploads and outputs can be removed")
    resolve_within(root, place.path)
    try:
        put_away(server.settings, root, place.path)
    except FileNotFoundError as error:  # somebody else was quicker
        raise NotFoundError("adapter any more") from error
    finally:
        if not os.path.lexists(os.path.join(root.path, place.path)):
            server.catalog.forget(id)
    return Response(status_code=204)
