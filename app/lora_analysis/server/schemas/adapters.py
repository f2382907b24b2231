"""Adapters as the catalog knows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .common import ErrorInfo, Model, Reply

RootKindName = Literal["library", "uploads", "outputs"]
SortName = Literal[
    "name", "size", "modified", "added", "rank", "alpha", "parameters", "layers", "base_model", "algorithm", "problems"
]
ProblemName = Literal["error", "warning", "none", "duplicate"]


class RootInfo(Reply):
    """A folder that is served, and what is in it."""

    id: str
    label: str
    kind: RootKindName
    items: int
    broken: int
    size_bytes: int
    scanned_at: str | None


class SkippedFile(Reply):
    """Something in a root that is no adapter and was not opened."""

    root: str
    path: str
    reason: str


class RankSpread(Reply):
    """Ranks over the layers that have one."""

    min: int
    max: int
    mode: int


class TagCount(Reply):
    tag: str
    count: int


class AdapterRow(Reply):
    """One adapter, or one file that could not be read (``error``)."""

    id: str
    revision: str = Field(description="Changes whenever the file does.")
    root: str
    name: str
    folder: str = Field(description="Within the root; empty at its top.")
    kind: Literal["file", "folder"]
    size_bytes: int
    modified_at: str
    added_at: str
    base_model: str | None
    base_model_label: str | None
    algorithm: str | None
    dialect: str | None
    container: str | None
    trainer: str | None
    title: str | None
    trigger: str | None
    rank: RankSpread | None
    alpha: float | None
    parameters: int | None
    layers: int | None
    dtype: str | None
    dora: bool
    checkpoint: bool = Field(description="It holds base weights and no adapter: a base for those who need one.")
    autov3: str | None
    duplicates: int = Field(description="Other adapters whose header states the same hash of the weights.")
    errors: int
    warnings: int
    error: ErrorInfo | None
    top_tags: list[TagCount]
    removable: bool = Field(description="Whether DELETE removes it: uploads and outputs only.")


class FacetValue(Reply):
    value: str | None
    count: int


class AdapterPage(Reply):
    """One page of a search."""

    items: list[AdapterRow]
    total: int
    offset: int
    limit: int
    facets: dict[str, list[FacetValue]] = Field(
        description="By root, base_model, algorithm, dialect, trainer, dtype, container, problems; all tags."
    )
    rank_min: int | None
    rank_max: int | None
    milliseconds: float


class FindingInfo(Reply):
    severity: Literal["error", "warning", "info"]
    code: str
    message: str
    layer: str | None


class ValidationInfo(Reply):
    is_valid: bool
    errors: list[str]
    warnings: list[str]
    findings: list[FindingInfo]


class Inspection(Reply):
    """Everything found out about an adapter, from headers; docs/cli.md explains the blocks."""

    file_info: dict[str, Any]
    model_info: dict[str, Any]
    training_info: dict[str, Any]
    architecture_info: dict[str, Any]
    validation_info: ValidationInfo
    adapter: dict[str, Any]
    extraction_time: str | None


class LayerInfo(Reply):
    """One layer, as the header describes it."""

    name: str
    kind: str
    component: str
    shape: list[int] | None
    rank: int | None
    alpha: float | None
    scale: float | None
    scale_origin: str
    magnitude_axis: str | None
    opaque: str | None
    parameters: int
    dtypes: list[str]
    keys: dict[str, str]


class LayerList(Reply):
    adapter: str
    layers: list[LayerInfo]


class SkippedLayerInfo(Reply):
    """A layer without a spectrum, and why."""

    name: str
    code: str
    reason: str
    is_error: bool


class SpectrumMeasures(Reply):
    """What a spectrum says; docs/spectrum.md defines every number."""

    name: str
    expert: int | None
    component: str
    block: str | None
    kind: str
    shape: list[int]
    rank: int | None
    scale: float
    has_magnitude: bool
    count: int
    numerical_rank: int
    largest: float
    smallest_relative: float
    frobenius_norm: float
    nuclear_norm: float
    effective_rank: float
    energy_effective_rank: float
    stable_rank: float
    participation_ratio: float
    rank_90: int
    rank_95: int
    rank_99: int
    offset: int = Field(description="Where this layer's singular values begin among all, in values.")


class Spectra(Reply):
    """The header of the binary form; in the JSON form ``singular_values`` follows, largest first, per layer."""

    schema_: str = Field(alias="schema")
    adapter: str
    frobenius_norm: float
    vector_norm: float = 0.0
    components: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    layers: list[SpectrumMeasures]
    skipped: list[SkippedLayerInfo]
    values: int = Field(description="Singular values in all.")
    singular_values: list[list[float]] = Field(
        default=[], description="JSON form only: one list per layer, as float32."
    )


class ScanRequest(Model):
    """Which roots to scan; all where none is named."""

    roots: list[str] = Field(default=[], max_length=100)


class Comparison(Reply):
    """Two to eight adapters beside each other; docs/compare.md defines every figure."""

    adapters: list[dict[str, Any]]
    layers: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    differences: list[dict[str, Any]] | dict[str, Any]
    skipped: list[dict[str, Any]]


class CompareRequest(Model):
    adapters: list[str] = Field(min_length=2, max_length=8)
    layers: list[str] = Field(
        default=[], max_length=50, description="Patterns of layer names; all where there is none."
    )


class AdapterFile(Reply):
    """One file of an adapter."""

    name: str
    size_bytes: int
