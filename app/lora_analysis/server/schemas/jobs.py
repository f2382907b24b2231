"""Jobs: what can be asked for, and how one stands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .common import AdapterId, CheckpointId, ErrorInfo, Model, OutputName, Reply

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
    """How deltas are merged, the method's own numbers, and how the result is stored; docs/merge.md explains each.

    Without a way to choose ranks a sum is exact. ``GET /merge-methods`` says which numbers a method takes.
    """

    method: Annotated[str, Field(max_length=60)] = "weighted_sum"
    normalize: bool | None = Field(default=None, description="Null leaves it to the method.")
    dtype: StoredType = "keep"
    metadata: Literal["fresh", "first", "union", "full"] = "fresh"
    density: Fraction | None = None
    epsilon: Fraction | None = None
    threshold: Literal["layer", "global"] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    lambda_: Annotated[float, Field(ge=-1e6, le=1e6)] | None = Field(default=None, alias="lambda")
    alpha: Amount | None = None
    beta: Fraction | None = None
    common: Fraction | None = None
    core_rule: Literal["ties", "dare_linear", "sum"] | None = None
    pico: bool | None = None
    svc: bool | None = None
    svc_floor: Amount | None = None
    allow_disjoint: bool = False
    drop_unsupported: bool = False


class MergeInput(Model):
    adapter: AdapterId
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    layer_weights: Annotated[str, Field(max_length=10_000)] | None = Field(
        default=None, description="12, 17, 20 or 26 block weights, or PATTERN=FACTOR,... as of --layer-weights."
    )


MergeInputs = Annotated[list[MergeInput], Field(min_length=1, max_length=32)]


class ResizePlanRequest(Model):
    """``predict`` false skips the errors where no rank depends on them; the sizes are exact all the same."""

    adapter: AdapterId
    options: ResizeOptions
    base: CheckpointId | None = Field(default=None, description="For the scores spn_ckpt and fro_ckpt of a recipe.")
    predict: bool = True


class MergePlanRequest(Model):
    inputs: MergeInputs
    options: MergeOptions = Field(default_factory=MergeOptions)
    base: CheckpointId | None = Field(default=None, description="The base weights of DoRA inputs.")
    predict: bool = True


class ResizeJobRequest(Model):
    """Write a resized copy; without ``output`` a free name is made from the input's."""

    kind: Literal["resize"]
    adapter: AdapterId
    options: ResizeOptions
    base: CheckpointId | None = Field(default=None, description="For the scores spn_ckpt and fro_ckpt of a recipe.")
    output: OutputName | None = None


class MergeJobRequest(Model):
    """Write the weighted sum; without ``output`` a free name is made from the first input's."""

    kind: Literal["merge"]
    inputs: MergeInputs
    options: MergeOptions = Field(default_factory=MergeOptions)
    base: CheckpointId | None = Field(default=None, description="The base weights of DoRA inputs.")
    output: OutputName | None = None


class ConvertOptions(Model):
    """The dialect to write, and how; docs/convert.md explains each."""

    to: Literal["kohya", "peft", "diffusers", "comfyui"]
    rank: RankNumber | None = Field(
        default=None, description="Of layers that become LoRA from another kind; else exact."
    )
    plain: bool = False
    uniform_rank: RankNumber | None = None
    bake_scale: bool = False
    dtype: StoredType = "keep"
    component: Annotated[str, Field(max_length=60)] | None = None
    family: Annotated[str, Field(max_length=60)] | None = Field(
        default=None, description="Where the file does not say."
    )
    drop: bool = Field(default=False, description="Leave out what the dialect cannot express.")


class ConvertPlanRequest(Model):
    adapter: AdapterId
    options: ConvertOptions


class ConvertJobRequest(Model):
    """Write the same deltas under another dialect's names; without ``output`` a free name is made from the input's."""

    kind: Literal["convert"]
    adapter: AdapterId
    options: ConvertOptions
    output: OutputName | None = None


class BakeInput(Model):
    adapter: AdapterId
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0


class BakeOptions(Model):
    """docs/bake.md explains each."""

    family: Annotated[str, Field(max_length=60)] | None = Field(
        default=None, description="Where the file does not say."
    )
    drop: bool = Field(default=False, description="Leave out what has no weight in the checkpoint, or is no delta.")


BakeInputs = Annotated[list[BakeInput], Field(min_length=1, max_length=32)]


class BakePlanRequest(Model):
    base: CheckpointId
    inputs: BakeInputs
    options: BakeOptions = Field(default_factory=BakeOptions)


class BakeJobRequest(Model):
    """Write a checkpoint with the deltas of adapters added; without ``output`` a free name is made from the base's."""

    kind: Literal["bake"]
    base: CheckpointId
    inputs: BakeInputs
    options: BakeOptions = Field(default_factory=BakeOptions)
    output: OutputName | None = None


class ExtractOptions(Model):
    """Exactly one of rank, energy, error and size; docs/bake.md explains each."""

    to: Literal["kohya", "peft", "diffusers", "comfyui"] = "kohya"
    rank: RankNumber | None = None
    energy: Fraction | None = None
    error: Fraction | None = None
    size: Annotated[int, Field(ge=1, le=10**15)] | None = Field(default=None, description="Bytes of the whole file.")
    max_rank: RankNumber = 256
    dtype: Literal["fp32", "fp16", "bf16"] = "fp16"
    full_norms: bool = Field(default=False, description="Also differences of norms and biases, whole.")
    seed: Annotated[int, Field(ge=0, lt=2**53)] = 0
    power: Annotated[int, Field(ge=0, le=20)] = Field(default=3, description="Iterations of the range finder.")
    component: Annotated[str, Field(max_length=60)] | None = None
    family: Annotated[str, Field(max_length=60)] | None = Field(default=None, description="Where the names do not say.")


class ExtractPlanRequest(Model):
    tuned: CheckpointId
    base: CheckpointId
    options: ExtractOptions


class ExtractJobRequest(Model):
    """Write the adapter between two checkpoints; without ``output`` a free name is made from the tuned one's."""

    kind: Literal["extract"]
    tuned: CheckpointId
    base: CheckpointId
    options: ExtractOptions
    output: OutputName | None = None


class VerifyJobRequest(Model):
    """Read the whole file: its digests, and every value for NaN and infinity."""

    kind: Literal["verify"]
    adapter: AdapterId


class ReportJobRequest(Model):
    """Metadata, findings, spectra, figures and a recommended rank on one HTML page, which is the job's result."""

    kind: Literal["report"]
    adapter: AdapterId


JobRequest = Annotated[
    ResizeJobRequest
    | MergeJobRequest
    | ConvertJobRequest
    | BakeJobRequest
    | ExtractJobRequest
    | VerifyJobRequest
    | ReportJobRequest,
    Field(discriminator="kind"),
]


class Progress(Reply):
    done: int
    total: int | None
    unit: str | None = Field(description="What is counted: bytes, layers, weights or adapters.")
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
    checkpoints: list[str] = Field(description="Checkpoints it reads.")
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


class ForgottenJobs(Reply):
    """How many jobs were removed from the list."""

    forgotten: int


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
    command: str = Field(description="The lora command that does the same, run in the folder above the roots.")
    output: str = Field(description="A name for the output, which the command has.")
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
    """What a merge would make. ``inputs`` are in the order of the request, each with its ``id``."""

    operation: str
    method: str
    command: str | None = Field(description="The lora command that does the same; null where only the API can ask so.")
    output: str = Field(description="A name for the output, which the command has.")
    interference: Any
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


class SizeModel(Reply):
    """What a page needs to predict a resized file's size by itself, to the byte: every tensor with the rank left open.

    ``tensors[].kept`` and ``changed`` are ``[bits per value, shape, length of the type's name]``, null where the tensor
    is absent; a negative size in a shape is that many times the rank. ``metadata_bytes[k - 1]``: length of the header's
    metadata at rank k.
    """

    adapter: str
    schema_: str = Field(alias="schema")
    layers: list[dict[str, Any]]
    tensors: list[dict[str, Any]]
    metadata_bytes: list[int]
    size_before: int


class MergeMethod(Reply):
    """A way to merge, and the numbers it takes with their defaults."""

    name: str
    says: str
    parameters: dict[str, Any]
    most_inputs: int | None
    wrong: str | None = Field(description="What a tool that is reproduced gets wrong.")


class PcaRequest(Model):
    """Principal components of every stored factor, or the singular directions of every delta."""

    adapter: AdapterId
    components: Annotated[int, Field(ge=1, le=64)] = 8
    target: Literal["factors", "delta"] = "factors"
    layers: Annotated[list[Annotated[str, Field(max_length=500)]], Field(max_length=50)] = Field(default_factory=list)
    arrays: bool = Field(default=False, description="With components and scores: for a few layers, by ``layers``.")


class BesideBase(Reply):
    """One layer's delta beside the weight it is added to; docs/spectrum.md defines every figure."""

    name: str
    expert: int | None
    component: str
    block: str | None
    frobenius_norm: float
    base_norm: float
    relative_norm: float | None
    amplification: float | None
    chance_amplification: float | None
    top: int
    alignment_left: float | None
    alignment_right: float | None
    chance_left: float | None
    chance_right: float | None
    intruders: int | None
    most_foreign: float | None
    most_foreign_at_most: float | None
    compared_with: int
    is_exact: bool
    residual: float | None


class BaseSpectrum(Reply):
    """Every delta of an adapter beside its base weight, and the layers for which there are no figures."""

    adapter: str
    base: str
    command: str = Field(description="The lora command that does the same, run in the folder above the roots.")
    layers: list[BesideBase]
    without: list[dict[str, Any]]


class MatrixPca(Reply):
    """Of one matrix; docs/pca.md defines every field."""

    explained_variance_ratio: list[float]
    singular_values: list[float]
    cumulative_variance: list[float]
    components: list[list[float]] | None
    transformed_data: list[list[float]] | None
    n_components: int
    total_variance: float
    shape: list[int]
    samples: str
    capped: bool
    constant_columns: int
    note: str | None


class PointOfLayer(Reply):
    """A layer as a point: its place along the principal components of all layers' normalised spectra."""

    name: str
    expert: int | None
    component: str
    block: str | None
    kind: str
    x: list[float]


class LayerMap(Reply):
    """Layers with alike spectra lie close together."""

    explained_variance_ratio: list[float]
    points: list[PointOfLayer]


class Pca(Reply):
    """Components of the matrices of one adapter, and its layers as points."""

    adapter: str
    target: str
    n_components: int
    pca_results: dict[str, MatrixPca]
    total_layers: int
    total_matrices: int
    capped: int
    skipped: list[dict[str, Any]]
    map: LayerMap


class ConvertPlan(Reply):
    """What a conversion would write."""

    adapter: str
    command: str
    output: str = Field(description="A name for the output, which the command has.")
    operation: str
    options: dict[str, Any]
    dialect_before: str
    base_model: str
    layers_before: int
    layers_after: int
    actions: dict[str, int]
    missing: list[dict[str, Any]] = Field(description="What the dialect cannot express.")
    size_before: int
    size_after: int
    notes: list[str]
    layers: list[dict[str, Any]]


class BakePlan(Reply):
    """What a bake would change. ``adapters`` are in the order of the request, each with its ``id``."""

    base: str
    command: str
    output: str = Field(description="A name for the output, which the command has.")
    operation: str
    base_model: str
    adapters: list[dict[str, Any]]
    tensors: int
    tensors_changed: int
    size_before: int
    size_after: int = Field(description="Bytes of the weights; exact but for a header that grows by the record of it.")
    free: int = Field(description="Bytes that are free where outputs are written.")
    skipped: list[dict[str, Any]]
    notes: list[str]
    layers: list[dict[str, Any]] = Field(description="Every tensor that changes.")


class ExtractPlan(Reply):
    """What an extraction would compare, and bounds on what it would write: no value has been read for it."""

    tuned: str
    base: str
    command: str
    output: str = Field(description="A name for the output, which the command has.")
    operation: str
    options: dict[str, Any]
    base_model: str
    layers_compared: int
    size_least: int
    size_after: int = Field(description="Bytes at most, where every weight differs.")
    skipped: list[dict[str, Any]]
    notes: list[str]
    layers: list[dict[str, Any]]
