"""Uploads: the body is the file, streamed to disk and counted as it comes."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from ...errors import OptionError
from ...formats.discovery import ADAPTER_SUFFIXES
from ..asking import ServerDep, pending
from ..problems import NotFoundError, reply
from ..rendering import adapter_row
from ..schemas.adapters import AdapterRow
from ..schemas.jobs import Job
from ..state import Server

router = APIRouter(tags=["library"])
_PIECE = 1 << 20  # bytes gathered before the disk is asked
_WAIT = 20.0
_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {201: {"model": AdapterRow}, 202: {"model": Job}}


@router.post("/uploads", status_code=201, response_model=AdapterRow, responses=_RESPONSES, openapi_extra=_BODY)
async def upload(
    request: Request,
    server: ServerDep,
    name: Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\.][^\x00-\x1f\x7f/\\]*$")],
) -> Response:
    """Upload one file, the body being its bytes. A taken name gets a number. 202 where reading it takes long."""
    if not name.lower().endswith(ADAPTER_SUFFIXES):
        raise OptionError(f"the name of an upload ends in {', '.join(ADAPTER_SUFFIXES)}")
    folder = server.root_of_kind("uploads").path
    temporary = os.path.join(folder, f".upload-{os.urandom(8).hex()}")
    try:
        await _receive(request, temporary)
        final = await asyncio.to_thread(_publish, temporary, folder, name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return reply(507, "NoSpace", "no-space", "no space left for uploads")
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise OptionError("the file system of this server cannot keep a file of this name") from error
        raise
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return await _catalogued(server, final)


async def _receive(request: Request, path: str) -> None:
    descriptor = await asyncio.to_thread(os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    gathered = bytearray()
    try:
        async for chunk in request.stream():
            gathered += chunk
            if len(gathered) >= _PIECE:
                await asyncio.to_thread(_write, descriptor, bytes(gathered))
                gathered.clear()
        await asyncio.to_thread(_write, descriptor, bytes(gathered))
        await asyncio.to_thread(os.fsync, descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _publish(temporary: str, folder: str, name: str) -> str:
    """Give the file its name, or the name with a number where that is taken."""
    stem, suffix = os.path.splitext(name)
    number = 1
    while True:
        final = name if number == 1 else f"{stem} ({number}){suffix}"
        try:
            _name_it(temporary, os.path.join(folder, final))
        except FileExistsError:
            number += 1
        else:
            return final


def _name_it(temporary: str, final: str) -> None:
    """Raises: FileExistsError, also where two uploads want one name at the same time."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if os.path.lexists(final):  # no hard links here, so nothing better than a look before the step
            raise FileExistsError(final) from error
        os.rename(temporary, final)


async def _catalogued(server: Server, name: str) -> Response:
    try:
        job = await asyncio.to_thread(server.runner.submit, "add", f"Read the upload {name}", {"path": name})
    except Exception:  # QueueFullError above all: who is told to come back would find a second file then
        with suppress(OSError):
            os.unlink(os.path.join(server.root_of_kind("uploads").path, name))
        raise
    found = await server.runner.wait(job.id, _WAIT) or job
    if found.state != "succeeded":
        return pending(server, found)
    row = await asyncio.to_thread(server.library.row, (found.summary or {})["adapter"])
    if row is None:
        raise NotFoundError("adapter any more: it was removed as soon as it was there")
    return JSONResponse(adapter_row(server, row).model_dump(), 201)
