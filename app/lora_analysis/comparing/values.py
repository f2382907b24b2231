"""A comparison as values: one per base weight, one per pair of adapters, and what was left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import nan, sqrt
from typing import TYPE_CHECKING, Any

from ..json_ready import encodable, json_ready

if TYPE_CHECKING:
    from ..linalg.angles import AngleSummary
    from ..linalg.floats import Float64Array
    from .lineage import Lineage

Pair = tuple[int, int]  # numbers of two adapters, the smaller first


@dataclass(frozen=True, slots=True)
class ComparedAdapter:
    """One of the adapters, by what its header says."""

    path: str
    name: str  # of the file, or of its folder where every such file has the same name
    dialect: str
    algorithm: str
    family: str
    layers: int
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": encodable(self.path), "name": encodable(self.name)}


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A layer of one adapter that has no part in the comparison, and why."""

    adapter: int
    name: str
    code: str  # opaque, non-finite, shape, ...: stable
    reason: str
    is_error: bool

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "name": encodable(self.name), "reason": encodable(self.reason)}


@dataclass(frozen=True, slots=True, eq=False)
class SideOverlap:
    """Two subspaces of one layer: what both deltas write to (left) or read from (right)."""

    angles: Float64Array  # principal angles, smallest first, radians, read-only
    summary: AngleSummary
    rows: tuple[int, ...]  # i of φ(i, j): leading directions of the first
    columns: tuple[int, ...]  # j: of the second
    overlap: Float64Array  # φ(i, j), (rows, columns)

    @property
    def chance(self) -> list[list[float]]:
        """``max(i, j) / n`` for every entry of ``overlap``."""
        n = self.summary.dimension
        return [[max(i, j) / n for j in self.columns] for i in self.rows]

    def to_dict(self, *, grids: bool = True) -> dict[str, Any]:
        found: dict[str, Any] = asdict(self.summary)
        if grids:
            found |= {"rows": list(self.rows), "columns": list(self.columns), "overlap": self.overlap.tolist()}
            found |= {"chance_overlap": self.chance, "angles": self.angles.tolist()}
        return found


@dataclass(frozen=True, slots=True, eq=False)
class LayerPair:
    """Two adapters in one layer. Figures of subspaces are None for vectors and for deltas that are zero."""

    cosine: float | None  # None where one of the deltas is zero
    chance_cosine: float  # standard deviation of the cosine of independent deltas: 1 / √(out · in · k)
    relative_difference: float | None  # ‖Δ₂ − Δ₁‖ / ‖Δ₁‖
    interference: float | None  # ‖Δ₁ + Δ₂‖² / (‖Δ₁‖² + ‖Δ₂‖²): 1 for unrelated deltas
    coefficient: float | None  # c of the closest c · Δ₁ to Δ₂
    second_within_first: float | None = None  # share of Δ₂'s energy within Δ₁'s span
    first_within_second: float | None = None
    chance_within_first: float | None = None  # r₁² / (out · in · k)
    chance_within_second: float | None = None
    tail_first: float | None = None  # share of Δ₁'s energy beyond its rank(Δ₂) largest singular values
    tail_second: float | None = None
    ranks: tuple[int, int] | None = None  # dimensions of the spans
    left: SideOverlap | None = None
    right: SideOverlap | None = None

    def to_dict(self, *, grids: bool = True) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in _PAIR_FIELDS}
        found["left"] = None if self.left is None else self.left.to_dict(grids=grids)
        found["right"] = None if self.right is None else self.right.to_dict(grids=grids)
        return found


_PAIR_FIELDS = tuple(name for name in LayerPair.__dataclass_fields__ if name not in ("left", "right"))


@dataclass(frozen=True, slots=True, eq=False)
class LayerComparison:
    """One base weight and what each adapter adds to it."""

    name: str  # of the base weight where the module table knows it, else as the first holder spells it
    names: tuple[str | None, ...]  # as each file spells it; None where it has nothing
    component: str
    block: str | None
    shape: tuple[int, int]  # (out, in * k)
    stored_ranks: tuple[int | None, ...]
    products: Float64Array  # (N, N) ⟨Δᵢ, Δⱼ⟩, 0 where an adapter has nothing, read-only
    pairs: Mapping[Pair, LayerPair]

    @property
    def holders(self) -> tuple[int, ...]:
        return tuple(number for number, name in enumerate(self.names) if name is not None)

    @property
    def norms(self) -> list[float]:
        """‖Δ‖ of every adapter, 0 where it has nothing."""
        return [sqrt(max(self.products[i, i], 0.0)) for i in range(len(self.names))]

    @property
    def interference(self) -> float | None:
        """``‖ΣΔ‖² / Σ‖Δ‖²`` over all holders."""
        return interference(self.products)

    def to_dict(self, *, grids: bool = False) -> dict[str, Any]:
        return {
            "name": encodable(self.name),
            "names": [None if name is None else encodable(name) for name in self.names],
            "component": self.component,
            "block": self.block,
            "shape": list(self.shape),
            "stored_ranks": list(self.stored_ranks),
            "norms": self.norms,
            "interference": self.interference,
            "pairs": [{"first": i, "second": j, **pair.to_dict(grids=grids)} for (i, j), pair in self.pairs.items()],
        }


@dataclass(frozen=True, slots=True)
class MeanOverlap:
    """φ(i, j) averaged over the layers that reach both indices, and the average of its chance level."""

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    overlap: tuple[tuple[float | None, ...], ...]
    chance: tuple[tuple[float | None, ...], ...]
    layers: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class PairComparison:
    """Two adapters as wholes. What one of them has not counts as a delta of zero."""

    first: int
    second: int
    layers_compared: int  # both hold a delta
    only_first: tuple[str, ...]  # layers that the other has not, as the file spells them
    only_second: tuple[str, ...]
    cosine: float | None
    chance_cosine: float | None  # standard deviation for independent deltas of these norms in these layers
    common_cosine: float | None  # over the common layers alone
    relative_difference: float | None  # ‖Δ₂ − Δ₁‖ / ‖Δ₁‖ over everything
    interference: float | None
    chance_interference: float | None  # standard deviation around 1
    coefficient: float | None
    norm_ratio: float | None  # ‖Δ₂‖ / ‖Δ₁‖
    second_within_first: float | None  # shares of energy over the common layers
    first_within_second: float | None
    chance_within_first: float | None
    chance_within_second: float | None
    left: MeanOverlap | None
    right: MeanOverlap | None
    lineage: tuple[Lineage, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {name: getattr(self, name) for name in _WHOLE_FIELDS}
        found["only_first"] = [encodable(name) for name in self.only_first]
        found["only_second"] = [encodable(name) for name in self.only_second]
        found["left"] = None if self.left is None else self.left.to_dict()
        found["right"] = None if self.right is None else self.right.to_dict()
        found["lineage"] = [hint.to_dict() for hint in self.lineage]
        return found


_NESTED = ("left", "right", "lineage", "only_first", "only_second")
_WHOLE_FIELDS = tuple(name for name in PairComparison.__dataclass_fields__ if name not in _NESTED)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that headers, configurations or structures say differently."""

    field: str
    values: tuple[Any, ...]  # by adapter; None where nothing is said

    def to_dict(self) -> dict[str, Any]:
        return {"field": encodable(self.field), "values": list(self.values)}


@dataclass(frozen=True, slots=True, eq=False)
class PartComparison:
    """The layers of one component, or of one of its blocks, together."""

    component: str
    block: str | None
    layers: int
    norms: tuple[float, ...]
    cosines: tuple[tuple[float | None, ...], ...]  # (N, N)
    interference: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several adapters of one base model, compared. It holds no open file."""

    adapters: tuple[ComparedAdapter, ...]
    layers: tuple[LayerComparison, ...]
    pairs: tuple[PairComparison, ...]
    differences: tuple[Difference, ...]
    skipped: tuple[NotCompared, ...] = ()
    notes: tuple[str, ...] = ()

    @cached_property
    def products(self) -> Float64Array:
        """(N, N) ``⟨Δᵢ, Δⱼ⟩`` over all layers, those of one adapter alone included."""
        return sum_of_products(self.layers, len(self.adapters))

    @property
    def cosines(self) -> list[list[float | None]]:
        """(N, N) cosine of the whole deltas; what an adapter has not counts as zero."""
        return cosines_of(self.products)

    @property
    def norms(self) -> list[float]:
        """‖Δ‖ of every adapter."""
        return [sqrt(max(self.products[i, i], 0.0)) for i in range(len(self.adapters))]

    @property
    def interference(self) -> float | None:
        """``‖ΣΔ‖² / Σ‖Δ‖²`` of all adapters: 1 for unrelated ones, N for equal ones, below 1 where they cancel."""
        return interference(self.products)

    @property
    def errors(self) -> tuple[NotCompared, ...]:
        """Layers that should have been compared and could not be."""
        return tuple(layer for layer in self.skipped if layer.is_error)

    @property
    def is_complete(self) -> bool:
        return not self.errors

    def pair(self, first: int, second: int) -> PairComparison:
        """The comparison of two adapters by number, in either order. Raises: KeyError."""
        for found in self.pairs:
            if {found.first, found.second} == {first, second}:
                return found
        raise KeyError((first, second))

    def components(self) -> tuple[PartComparison, ...]:
        """Sums over the parts of the pipeline, in the order of the files."""
        return self._parts(by_block=False)

    def blocks(self) -> tuple[PartComparison, ...]:
        """Sums over the blocks of every component."""
        return self._parts(by_block=True)

    def _parts(self, *, by_block: bool) -> tuple[PartComparison, ...]:
        members: dict[tuple[str, str | None], list[LayerComparison]] = {}
        for layer in self.layers:
            members.setdefault((layer.component, layer.block if by_block else None), []).append(layer)
        return tuple(self._part(key, of) for key, of in members.items())

    def _part(self, key: tuple[str, str | None], layers: Sequence[LayerComparison]) -> PartComparison:
        products = sum_of_products(layers, len(self.adapters))
        return PartComparison(
            component=key[0],
            block=key[1],
            layers=len(layers),
            norms=tuple(sqrt(max(products[i, i], 0.0)) for i in range(len(self.adapters))),
            cosines=tuple(tuple(row) for row in cosines_of(products)),
            interference=interference(products),
        )

    def to_dict(self, *, layers: bool = True, grids: bool = False) -> dict[str, Any]:
        """One strict JSON document. ``grids``: φ grids and angles of every layer too, not of the pairs alone."""
        document = {
            "adapters": [adapter.to_dict() for adapter in self.adapters],
            "norms": self.norms,
            "cosines": self.cosines,
            "interference": self.interference,
            "pairs": [pair.to_dict() for pair in self.pairs],
            "components": [part.to_dict() for part in self.components()],
            "blocks": [part.to_dict() for part in self.blocks()],
            "differences": [difference.to_dict() for difference in self.differences],
            "layers": [layer.to_dict(grids=grids) for layer in self.layers] if layers else [],
            "skipped": [layer.to_dict() for layer in self.skipped],
            "notes": [encodable(note) for note in self.notes],
        }
        ready: dict[str, Any] = json_ready(document)
        return ready

    def to_pandas(self) -> Any:
        """One row per layer and pair, with stable column names. Raises: MissingExtraError without pandas."""
        from ..tables import data_frame

        return data_frame(self._rows())

    def _rows(self) -> Iterable[dict[str, Any]]:
        for layer in self.layers:
            for (i, j), pair in layer.pairs.items():
                yield {
                    "layer": layer.name,
                    "component": layer.component,
                    "block": layer.block,
                    "first": self.adapters[i].name,
                    "second": self.adapters[j].name,
                    "norm_first": layer.norms[i],
                    "norm_second": layer.norms[j],
                    **{name: getattr(pair, name) for name in _PAIR_FIELDS if name != "ranks"},
                    "left_overlap": nan if pair.left is None else pair.left.summary.mean_squared_cosine,
                    "right_overlap": nan if pair.right is None else pair.right.summary.mean_squared_cosine,
                }

    def _repr_html_(self) -> str:
        from ..tables import html_table

        names = [adapter.name for adapter in self.adapters]
        rows = [
            [name, *("" if value is None else f"{value:.3f}" for value in row)]
            for name, row in zip(names, self.cosines, strict=True)
        ]
        return html_table(["cosine of ΔW", *names], rows)


# -- figures of a matrix of inner products ---------------------------------------------------------------


def sum_of_products(layers: Sequence[LayerComparison], count: int) -> Float64Array:
    import numpy as np

    return np.sum([layer.products for layer in layers], axis=0) if layers else np.zeros((count, count))


def cosines_of(products: Float64Array) -> list[list[float | None]]:
    """(N, N); None where one of the two is zero."""
    count = len(products)
    return [[cosine(products, i, j) for j in range(count)] for i in range(count)]


def cosine(products: Float64Array, i: int, j: int) -> float | None:
    """``⟨Δᵢ, Δⱼ⟩ / ‖Δᵢ‖‖Δⱼ‖``, within ±1; None where one of the two is zero."""
    norms = sqrt(max(products[i, i], 0.0)) * sqrt(max(products[j, j], 0.0))
    return max(-1.0, min(1.0, float(products[i, j]) / norms)) if norms else None


def interference(products: Float64Array) -> float | None:
    """``‖ΣΔ‖² / Σ‖Δ‖²``; None where all are zero."""
    energy = float(products.trace())
    return float(products.sum()) / energy if energy else None
