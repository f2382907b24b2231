"""Questions about several adapters, and what a write would do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from ..asking import ServerDep, Wait, answer, ask, pending, result_of
from ..schemas.adapters import CompareRequest, Comparison
from ..schemas.common import AdapterId, AdapterPath, CheckpointQuery
from ..schemas.jobs import (
    BakePlan,
    BakePlanRequest,
    BaseSpectrum,
    ConvertPlan,
    ConvertPlanRequest,
    ExtractPlan,
    ExtractPlanRequest,
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

FigureName = Literal["heatmap", "distribution", "ranks", "layers", "comparison", "similarity"]
_MEDIA = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": dict.fromkeys(_MEDIA.values(), _BYTES)}}


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


@router.get("/adapters/{id}/base-spectrum", response_model=BaseSpectrum, responses=_PENDING, tags=["adapters"])
async def base_spectrum(
    id: AdapterPath,  # noqa: A002  # the name in the path
    server: ServerDep,
    base: CheckpointQuery,
    wait: Wait = 0,
) -> Response:
    """Every delta beside its base weight: relative size, amplification, alignment, intruder dimensions."""
    return await answer(server, "base-spectrum", "Lay beside its base", {"adapter": id, "base": base}, wait)


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


@router.post("/plans/convert", response_model=ConvertPlan, responses=_PENDING)
async def plan_convert(request: ConvertPlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """What a conversion to another dialect would write, and what it cannot express. Nothing is written."""
    params = request.model_dump(exclude_none=True)
    return await answer(server, "plan-convert", "Plan a conversion of", params, wait)


@router.post("/plans/bake", response_model=BakePlan, responses=_PENDING)
async def plan_bake(request: BakePlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """Which tensors of a checkpoint adapters would change, and what has no place in it. Nothing is written."""
    params = request.model_dump(exclude_none=True)
    return await answer(server, "plan-bake", "Plan a bake of", params, wait)


@router.post("/plans/extract", response_model=ExtractPlan, responses=_PENDING)
async def plan_extract(request: ExtractPlanRequest, server: ServerDep, wait: Wait = 0) -> Response:
    """What an extraction would compare, from both headers; no value is read, and nothing is written."""
    params = request.model_dump(exclude_none=True)
    return await answer(server, "plan-extract", "Plan an extraction", params, wait)


@router.get("/figures/{figure}", response_class=Response, responses={**_PENDING, **_PICTURE}, tags=["figures"])
async def figure(
    figure: FigureName,
    server: ServerDep,
    adapter: Annotated[list[AdapterId], Query(min_length=1, max_length=8)],
    format: Literal["png", "svg", "pdf"] = "png",  # noqa: A002  # the word people know
    layer: Annotated[str | None, Query(max_length=500, description="A layer's name, or a pattern of names.")] = None,
    absolute: Annotated[bool, Query(description="layers: colours in weight units.")] = False,
    wait: Wait = 20,
) -> Response:
    """A figure as ``lora plot`` draws it, to download. 501 without the extra ``plot``."""
    params: dict[str, Any] = {"figure": figure, "adapters": adapter, "format": format, "absolute": absolute}
    if layer is not None:
        params["layer"] = layer
    job = await ask(server, "figure", f"Draw {figure} of", params, wait)
    if job.state != "succeeded":
        return pending(server, job)
    headers = {"content-disposition": f'attachment; filename="{figure}.{format}"'}
    return Response(await result_of(server, job), media_type=_MEDIA[format], headers=headers)
