"""One adapter: its metadata, layers, singular values and files."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from array import array
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import FileResponse, Response

from ..asking import ServerDep, Wait, answer, ask, locate, pending, result_of
from ..catalog.rows import unpacked
from ..problems import NotFoundError
from ..roots import resolve_within
from ..schemas.adapters import AdapterFile, Inspection, LayerList, Spectra
from ..schemas.common import AdapterPath
from ..schemas.jobs import Job

router = APIRouter(tags=["adapters"])
_PENDING: dict[int | str, dict[str, Any]] = {202: {"model": Job, "description": "The job that will have the answer."}}
BINARY = "application/octet-stream"


@router.get("/adapters/{id}/metadata", response_model=Inspection, responses=_PENDING)
async def metadata(id: AdapterPath, server: ServerDep, wait: Wait = 20) -> Response:  # noqa: A002  # name in the path
    """Everything the headers say: the blocks of ``lora inspect --json``."""
    await asyncio.to_thread(locate, server, id)
    packed = await asyncio.to_thread(server.catalog.document, id)
    if packed is not None:
        return Response(await asyncio.to_thread(unpacked, packed), media_type="application/json")
    return await answer(server, "inspect", "Read headers of", {"adapter": id}, wait)


@router.get("/adapters/{id}/layers", response_model=LayerList, responses=_PENDING)
async def layers(id: AdapterPath, server: ServerDep, wait: Wait = 20) -> Response:  # noqa: A002
    """Every layer, as the header describes it."""
    return await answer(server, "layers", "List layers of", {"adapter": id}, wait)


@router.get(
    "/adapters/{id}/spectra",
    response_model=Spectra,
    responses={**_PENDING, 200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def spectra(
    id: AdapterPath,  # noqa: A002
    server: ServerDep,
    wait: Wait = 0,
    accept: Annotated[str, Header(max_length=500)] = "*/*",
) -> Response:
    """Every singular value. ``Accept: application/json`` for JSON; else binary.

    Binary: 8 bytes length of the header (unsigned, little-endian), the header as JSON, then all values as
    little-endian float32, each layer's from its ``offset`` on.
    """
    job = await ask(server, "spectra", "Singular values of", {"adapter": id}, wait)
    if job.state != "succeeded":
        return pending(server, job)
    data = await result_of(server, job)
    if "application/json" not in accept:
        return Response(data, media_type=BINARY)
    return Response(await asyncio.to_thread(spectra_as_json, data), media_type="application/json")


def spectra_as_json(data: bytes) -> bytes:
    """The binary form as one JSON document."""
    length = int.from_bytes(data[:8], "little")
    document = json.loads(data[8 : 8 + length])
    values = array("f")
    values.frombytes(data[8 + length :])
    if values.itemsize == 4 and sys.byteorder == "big":
        values.byteswap()
    document["singular_values"] = [
        values[layer["offset"] : layer["offset"] + layer["count"]].tolist() for layer in document["layers"]
    ]
    return json.dumps(document, allow_nan=False).encode()


@router.get("/adapters/{id}/files")
def files(id: AdapterPath, server: ServerDep) -> list[AdapterFile]:  # noqa: A002
    """The files an adapter consists of, which can be downloaded one by one."""
    place = locate(server, id)
    root = server.root(place.root)
    assert root is not None  # locate looked
    path = resolve_within(root, place.path)
    if place.kind == "file":
        return [AdapterFile(name=place.name, size_bytes=os.stat(path).st_size)]
    return [AdapterFile(name=name, size_bytes=size) for name, size in _regular_files(path)]


@router.get(
    "/adapters/{id}/file",
    response_class=FileResponse,
    responses={200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
)
def file(
    id: AdapterPath,  # noqa: A002
    server: ServerDep,
    name: Annotated[str, Query(max_length=300, description="Of an adapter in a folder: which of its files.")] = "",
) -> FileResponse:
    """Download an adapter's file, as an attachment that no browser shows."""
    place = locate(server, id)
    root = server.root(place.root)
    assert root is not None  # locate looked
    path = resolve_within(root, place.path)
    if place.kind == "folder":
        # Looked up, not joined: a name is one that is there, whatever it holds.
        found = next((one for one, _ in _regular_files(path) if one == name), None)
        if found is None:
            raise NotFoundError("file in this folder")
        return FileResponse(os.path.join(path, found), media_type=BINARY, filename=found)
    if name not in ("", place.name):
        raise NotFoundError("file")
    return FileResponse(path, media_type=BINARY, filename=place.name)


def _regular_files(folder: str) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    return sorted((name, stats.st_size) for name, stats in found if stat.S_ISREG(stats.st_mode))
