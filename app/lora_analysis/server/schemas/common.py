"""Types that several groups of routes share."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

AdapterId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{20}$")]
_CHECKPOINT = "Id of a checkpoint: of those that GET /checkpoints lists."
CheckpointId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{20}$"), Field(description=_CHECKPOINT)]
CheckpointQuery = Annotated[str, Query(pattern=r"^[0-9a-f]{20}$", description=_CHECKPOINT)]
AdapterPath = Annotated[
    str, Path(alias="id", description="Id of an adapter in the catalog.", pattern=r"^[0-9a-f]{20}$")
]
JobPath = Annotated[str, Path(alias="id", description="Id of a job.", pattern=r"^[0-9a-f]{20}$")]
OutputName = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f/\\:*?\"<>|.][^\x00-\x1f\x7f/\\:*?\"<>|]*$"
    ),
    Field(description="A file name with suffix; a folder's name where the input is a folder. No path."),
]


class Model(BaseModel):
    """Requests with a field that nobody knows are refused, not half understood."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Reply(BaseModel):
    """Replies name every field, also where it is null, so that clients need no guesses."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class FieldProblem(Reply):
    """What is wrong with one field of a request."""

    field: str
    message: str


class ErrorInfo(Reply):
    """An error: ``code`` is stable, ``message`` is for reading."""

    type: str
    code: str
    message: str
    fields: list[FieldProblem] = []
    install: str | None = Field(default=None, description="The line that installs what is missing.")


class ErrorReply(Reply):
    """The body of every reply with a status from 400 on."""

    error: ErrorInfo


Document = dict[str, Any]
