"""Jobs: what can be asked for, and how one stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .common import AdapterId, ErrorInfo, Model, OutputName, Reply

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
JobFamily = Literal["scan", "analysis", "write"]
StoredType = Literal["keep", "fp32", "fp16", "bf16", "fp8"]
Fraction = Annotated[float, Field(ge=0, le=1)]
RankNumber = Annotated[int, Field(ge=1, le=1_000_000)]
Amount = Annotated[float, Field(ge=0, le=1e18)]


class RankOptions(Model):
    """Ways to choose ranks; docs/resize.md explains each. Null counts as not asked for."""

    rank: RankNumber | None = None
    energy: Fraction | None = None
    norm: Fraction | None = None
    sum: Fraction | None = None
    ratio: Amount | None = None
    absolute: Amount | None = None
    layer_error: Fraction | None = None
    knee: bool | None = None
    sv_ratio: Amount | None = None
    sv_fro: Fraction | None = None
    sv_cumulative: Fraction | None = None
    size: Amount | None = Field(default=None, description="Bytes of the whole file.")
    parameters: Amount | None = None
    error: Fraction | None = None
    conv_rank: RankNumber | None = None
    rank_for: dict[str, RankNumber] | None = Field(
        default=None, max_length=2_000, description="Ranks by pattern of layer names."
    )
    min_rank: RankNumber | None = None
    max_rank: RankNumber | None = None


class ResizeOptions(RankOptions):
    """Exactly one way to choose ranks, and how the result is stored."""

    recipe: Annotated[str, Field(max_length=500)] | None = None
    method: Literal["svd", "pad_truncate"] = "svd"
    dtype: StoredType = "keep"
    alpha: Literal["keep-scale", "rank", "baked"] = "keep-scale"
    keep_structure: bool = False


class MergeOptions(RankOptions):
    """Without a way to choose ranks the sum is exact."""

    normalize: bool = True
    dtype: StoredType = "keep"
    allow_disjoint: bool = False
    drop_unsupported: bool = False


class MergeInput(Model):
    adapter: AdapterId
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0


MergeInputs = Annotated[list[MergeInput], Field(min_length=1, max_length=32)]


class ResizePlanRequest(Model):
    """``predict`` false skips the errors where no rank depends on them; the sizes are exact all the same."""

    adapter: AdapterId
    options: ResizeOptions
    predict: bool = True


class MergePlanRequest(Model):
    inputs: MergeInputs
    options: MergeOptions = MergeOptions()
    predict: bool = True


class ResizeJobRequest(Model):
    """Write a resized copy; without ``output`` a free name is made from the input's."""

    kind: Literal["resize"]
    adapter: AdapterId
    options: ResizeOptions
    output: OutputName | None = None


class MergeJobRequest(Model):
    """Write the weighted sum; without ``output`` a free name is made from the first input's."""

    kind: Literal["merge"]
    inputs: MergeInputs
    options: MergeOptions = MergeOptions()
    output: OutputName | None = None


class VerifyJobRequest(Model):
    """Read the whole file: its digests, and every value for NaN and infinity."""

    kind: Literal["verify"]
    adapter: AdapterId


JobRequest = Annotated[ResizeJobRequest | MergeJobRequest | VerifyJobRequest, Field(discriminator="kind")]


class Progress(Reply):
    done: int
    total: int | None
    unit: str | None = Field(description="What is counted: bytes, layers or adapters.")
    fraction: float | None


class LogLine(Reply):
    time: str
    text: str


class Job(Reply):
    """A job as it stands."""

    id: str
    kind: str
    family: JobFamily
    title: str
    state: JobState
    cancelling: bool
    adapters: list[str] = Field(description="Adapters it reads.")
    params: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str | None
    progress: Progress
    error: ErrorInfo | None
    summary: dict[str, Any] | None = Field(description="The main figures of the result.")
    outputs: list[str] = Field(description="Adapters it wrote.")
    command: str | None = Field(description="The lora command that does the same, run in the folder above the roots.")
    log: list[LogLine]
    retry_of: str | None
    has_result: bool


class JobPage(Reply):
    items: list[Job]
    total: int
    queued: int
    running: int


class JobEvent(Reply):
    """Data of ``job`` events: the job as it stands now."""

    job: Job


class ProgressEvent(Reply):
    """Data of ``progress`` events."""

    id: str
    done: int
    total: int | None
    unit: str | None


class RemovedEvent(Reply):
    """Data of ``removed`` events."""

    id: str


class SnapshotEvent(Reply):
    """Data of the ``snapshot`` event, first on a new connection: everything that waits or runs, and the newest ends."""

    jobs: list[Job]


class Events(Reply):
    """The data of each event of the stream, by the event's name; served as ``text/event-stream``."""

    snapshot: SnapshotEvent | None
    job: JobEvent | None
    progress: ProgressEvent | None
    removed: RemovedEvent | None


class LayerPlanInfo(Reply):
    """One layer's fate."""

    layer: str
    kind: str
    action: Literal["truncate", "cut", "pad", "cast", "keep"]
    old_rank: int | None
    new_rank: int | None
    relative_error: float | None
    bytes: int
    reason: str | None


class ResizePlan(Reply):
    """What a resize would do to every layer, before anything is written."""

    adapter: str
    operation: str
    options: dict[str, Any]
    layers_total: int
    layers_changed: int
    rank_distribution_before: dict[str, int]
    rank_distribution: dict[str, int]
    relative_error: float | None
    size_before: int
    size_after: int
    notes: list[str]
    layers: list[LayerPlanInfo]


class MergePlan(Reply):
    """What a merge would make."""

    operation: str
    options: dict[str, Any]
    inputs: list[dict[str, Any]]
    layers_total: int
    rank_distribution: dict[str, int]
    relative_error: float | None
    size_before: int
    size_after: int
    notes: list[str]
    dropped: list[dict[str, Any]]
    layers: list[dict[str, Any]]
