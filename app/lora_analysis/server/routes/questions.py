"""Questions about several adapters, and what a write would do."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from ..asking import ServerDep, Wait, answer
from ..schemas.adapters import CompareRequest, Comparison
from ..schemas.jobs import Job, MergePlan, MergePlanRequest, ResizePlan, ResizePlanRequest

router = APIRouter(tags=["plans"])
_PENDING: dict[int | str, dict[str, Any]] = {202: {"model": Job, "description": "The job that will have the answer."}}


@router.post("/comparisons", response_model=Comparison, responses=_PENDING, tags=["comparisons"])
async def compare(request: CompareRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """Two to eight adapters beside each other: cosines, subspaces, interference, lineage, differing metadata."""
    params: dict[str, Any] = {"adapters": request.adapters}
    if request.layers:
        params["layers"] = request.layers
    return await answer(server, "compare", "Compare", params, wait)


@router.post("/plans/resize", response_model=ResizePlan, responses=_PENDING)
async def plan_resize(request: ResizePlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """What a resize would do to every layer, with the exact size of the file. Nothing is written."""
    params = request.model_dump(exclude_none=True)
    return await answer(server, "plan-resize", "Plan a resize of", params, wait)


@router.post("/plans/merge", response_model=MergePlan, responses=_PENDING)
async def plan_merge(request: MergePlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """What a merge would make, with the exact size of the file. Nothing is written."""
    params = request.model_dump(exclude_none=True)
    return await answer(server, "plan-merge", "Plan a merge of", params, wait)
