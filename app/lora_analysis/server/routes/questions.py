"""Questions about several adapters, and what a write would do."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response

from ..asking import ServerDep, Wait, answer
from ..schemas.adapters import CompareRequest, Comparison
from ..schemas.common import AdapterPath
from ..schemas.jobs import (
    Job,
    MergeMethod,
    MergePlan,
    MergePlanRequest,
    Pca,
    PcaRequest,
    ResizePlan,
    ResizePlanRequest,
    SizeModel,
    StoredType,
)

router = APIRouter(tags=["plans"])
_PENDING: dict[int | str, dict[str, Any]] = {202: {"model": Job, "description": "The job that will have the answer."}}


@router.post("/comparisons", response_model=Comparison, responses=_PENDING, tags=["comparisons"])
async def compare(request: CompareRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """Two to eight adapters beside each other: cosines, subspaces, interference, lineage, differing metadata."""
    params: dict[str, Any] = {"adapters": request.adapters}
    if request.layers:
        params["layers"] = request.layers
    return await answer(server, "compare", "Compare", params, wait)


@router.post("/pca", response_model=Pca, responses=_PENDING, tags=["adapters"])
async def pca(request: PcaRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """Principal components of an adapter's factors or deltas, and its layers as points by their spectra."""
    return await answer(server, "pca", "Components of", request.model_dump(), wait)


@router.get("/adapters/{id}/size-model", response_model=SizeModel, responses=_PENDING)
async def size_model(
    id: AdapterPath,  # noqa: A002  # the name in the path
    server: ServerDep,
    dtype: StoredType = "keep",
    alpha: Literal["keep-scale", "rank", "baked"] = "keep-scale",
    wait: Wait = 20,
) -> Response:
    """What a page needs to predict the size of a resized file at any ranks, to the byte."""
    params = {"adapter": id, "options": {"dtype": dtype, "alpha": alpha}}
    return await answer(server, "size-model", "Sizes of", params, wait)


@router.get("/merge-methods")
def merge_methods() -> list[MergeMethod]:
    """Every way to merge, and the numbers it takes."""
    from ...merging.methods import METHODS

    return [MergeMethod.model_validate(method.to_dict()) for method in METHODS.values()]


@router.post("/plans/resize", response_model=ResizePlan, responses=_PENDING)
async def plan_resize(request: ResizePlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """What a resize would do to every layer, with the exact size of the file. Nothing is written."""
    params = request.model_dump(exclude_none=True, by_alias=True)
    return await answer(server, "plan-resize", "Plan a resize of", params, wait)


@router.post("/plans/merge", response_model=MergePlan, responses=_PENDING)
async def plan_merge(request: MergePlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """What a merge would make, with the exact size of the file. Nothing is written."""
    params = request.model_dump(exclude_none=True, by_alias=True)
    return await answer(server, "plan-merge", "Plan a merge of", params, wait)
