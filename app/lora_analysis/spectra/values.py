"""Spectra as values: one per matrix, all of an adapter together, and what was skipped with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import hypot
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..json_ready import encodable, json_ready
from .order import Order

if TYPE_CHECKING:
    from ..linalg.against_base import BaseFigures
    from ..linalg.floats import Float64Array
    from ..linalg.spectrum import SpectrumSummary
    from .groups import Group

NOTEBOOK_ROWS = 20


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: arrays have no single truth value
class LayerSpectrum:
    """The spectrum of one layer's delta as a matrix ``(out, in * k)``, or of one expert's in a stack of them."""

    name: str  # the module as the file spells it
    expert: int | None  # place in the stack; None for an ordinary weight
    component: str
    block: str | None  # None for what stands outside of blocks
    kind: str
    shape: tuple[int, ...]  # of this delta: (out, in, *kernel)
    rank: int | None  # stored rank; None where the kind has none
    scale: float  # included in the singular values
    has_magnitude: bool  # DoRA: these are the singular values of the delta before it
    singular_values: Float64Array  # largest first, read-only
    summary: SpectrumSummary
    role: str = "other"  # attention, mlp, conv, ...: see formats.roles
    stage: str | None = None  # down, mid, up, or the kind of block; None for what stands outside of blocks
    noise_floor: float = (
        0.0  # heuristic, in the units of the singular values; 0 where no tail is flat: see linalg.floors
    )
    above_noise: int = 0  # singular values above the plateau
    rounding_floor: float | None = None  # estimate; None where the kind is not two plain factors
    above_rounding: int | None = None
    down_energy: float | None = None  # ‖down‖², as stored
    down_moved: float | None = None  # ‖down‖² / (rank / 3): 1 where down has the size of its usual initialisation
    down_moved_chance: float | None = None  # standard deviation of that ratio at the initialisation
    base: BaseFigures | None = None  # beside the base weight, where a checkpoint was given

    @property
    def is_dead(self) -> bool:
        """The delta is zero: the layer was never trained, or was zeroed."""
        return self.summary.frobenius_norm == 0.0

    @property
    def label(self) -> str:
        """The name, with the number of the expert where there is one: ``mlp.experts[3]``."""
        return self.name if self.expert is None else f"{self.name}[{self.expert}]"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, every measure and every singular value among them."""
        return {
            "name": encodable(self.name),
            "expert": self.expert,
            "component": self.component,
            "block": self.block,
            "kind": self.kind,
            "shape": list(self.shape),
            "rank": self.rank,
            "scale": self.scale,
            "has_magnitude": self.has_magnitude,
            "role": self.role,
            "stage": self.stage,
            "is_dead": self.is_dead,
            **self.summary.to_dict(),
            **{name: getattr(self, name) for name in EXTRA_MEASURES},
            "base": None if self.base is None else self.base.to_dict(),
            "singular_values": self.singular_values.tolist(),
        }


EXTRA_MEASURES = (
    "noise_floor",
    "above_noise",
    "rounding_floor",
    "above_rounding",
    "down_energy",
    "down_moved",
    "down_moved_chance",
)


@dataclass(frozen=True, slots=True)
class SkippedLayer:
    """A layer without a spectrum, and why."""

    name: str
    code: str  # opaque, vector, non-finite, shape, orphan-factor, ...: stable
    reason: str  # for reading
    is_error: bool  # something is wrong with the layer; False for what never has a spectrum

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": encodable(self.name),
            "code": self.code,
            "reason": encodable(self.reason),
            "is_error": self.is_error,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The spectra of an adapter's layers, in the order of the file. It holds no open file."""

    path: str
    layers: tuple[LayerSpectrum, ...]
    skipped: tuple[SkippedLayer, ...] = ()
    base: str | None = None  # the checkpoint whose weights the deltas were laid beside
    without_base: tuple[SkippedLayer, ...] = ()  # layers that have a spectrum and no figures beside the base
    vector_norm: float = 0.0  # of all differences that are vectors, those of biases beside a weight among them

    @property
    def frobenius_norm(self) -> float:
        """Norm of all deltas together: ``√Σ‖Δ‖²``."""
        return hypot(*(layer.summary.frobenius_norm for layer in self.layers))

    @property
    def errors(self) -> tuple[SkippedLayer, ...]:
        """Layers that should have a spectrum and have none: NaN, infinity, factors that do not fit."""
        return tuple(layer for layer in self.skipped if layer.is_error)

    @property
    def dead(self) -> tuple[LayerSpectrum, ...]:
        """Layers whose delta is zero."""
        return tuple(layer for layer in self.layers if layer.is_dead)

    @property
    def is_complete(self) -> bool:
        """Whether there is a spectrum at all, and one for every layer that should have it."""
        return bool(self.layers) and not self.errors

    def components(self) -> tuple[Group, ...]:
        """Summaries of the parts of the pipeline (``unet``, ``text_encoder``, ...), in the order of the file."""
        from .groups import group_layers

        return group_layers(self.layers, lambda layer: (layer.component, None))

    def blocks(self) -> tuple[Group, ...]:
        """Summaries of the blocks of every component, in the order of the network (files are in that of names).

        Layers outside of blocks are one group per component, after the others.
        """
        from .groups import group_layers, in_network_order

        return in_network_order(group_layers(self.layers, lambda layer: (layer.component, layer.block)))

    def stages(self) -> tuple[Group, ...]:
        """Summaries of down, mid and up, or of the kinds of blocks, of every component."""
        from .groups import group_layers

        return group_layers(self.layers, lambda layer: (layer.component, layer.stage))

    def roles(self) -> tuple[Group, ...]:
        """Summaries of attention, MLPs, convolutions, ... of every component."""
        from .groups import group_layers

        return group_layers(self.layers, lambda layer: (layer.component, layer.role))

    def ordered(self, order: Order | str = Order.FILE, top: int | None = None) -> tuple[LayerSpectrum, ...]:
        """The layers by name or by a measure, largest first; of equals, the earlier in the file. At most ``top``.

        Raises: OptionError for an unknown order or a negative ``top``.
        """
        if order not in list(Order):
            raise OptionError(f"no order is named {order!r}; there are {', '.join(Order)}")
        if top is not None and top < 0:
            raise OptionError(f"the first {top} layers were asked for; it is a number of at least 0")
        layers = self.layers
        if order == Order.NAME:
            layers = tuple(sorted(layers, key=lambda layer: layer.name))
        elif order != Order.FILE:
            layers = tuple(sorted(layers, key=_MEASURES[Order(order)], reverse=True))
        return layers[:top]

    def to_dict(self, order: Order | str = Order.FILE, top: int | None = None) -> dict[str, Any]:
        """One strict JSON document. ``order`` and ``top`` apply to ``layers``; all else is about every layer."""
        document = {
            "path": encodable(self.path),
            "frobenius_norm": self.frobenius_norm,
            "vector_norm": self.vector_norm,
            "components": [group.to_dict() for group in self.components()],
            "blocks": [group.to_dict() for group in self.blocks()],
            "stages": [group.to_dict() for group in self.stages()],
            "roles": [group.to_dict() for group in self.roles()],
            "dead_layers": len(self.dead),
            "layers": [layer.to_dict() for layer in self.ordered(order, top)],
            "skipped": [layer.to_dict() for layer in self.skipped],
            "base": None if self.base is None else encodable(self.base),
            "without_base": [layer.to_dict() for layer in self.without_base],
        }
        ready: dict[str, Any] = json_ready(document)
        return ready

    def to_pandas(self) -> Any:
        """One row per layer, every measure a column. Raises: MissingExtraError without pandas."""
        from ..tables import data_frame

        return data_frame(_row(layer) for layer in self.layers)

    def _repr_html_(self) -> str:
        """The strongest layers, for notebooks."""
        from ..tables import html_table

        headings = ("layer", "rank", "‖Δ‖", "σ₁", "effective rank", "stable rank", "k99")
        shown = self.ordered(Order.NORM, NOTEBOOK_ROWS)
        rows = [
            (
                layer.label,
                "" if layer.rank is None else layer.rank,
                f"{layer.summary.frobenius_norm:.3g}",
                f"{layer.summary.largest:.3g}",
                f"{layer.summary.effective_rank:.1f}",
                f"{layer.summary.stable_rank:.1f}",
                layer.summary.rank_99,
            )
            for layer in shown
        ]
        caption = f"{len(self.layers)} spectra, ‖Δ‖ {self.frobenius_norm:.3g}; the strongest {len(shown)}"
        return html_table(headings, rows, caption)


def _row(layer: LayerSpectrum) -> dict[str, Any]:
    """One layer as a row of a table: no array in it."""
    row = layer.to_dict()
    del row["singular_values"]
    base = row.pop("base") or {}
    return {**row, "shape": "x".join(map(str, layer.shape)), **{f"base_{name}": value for name, value in base.items()}}


def _stored_rank(layer: LayerSpectrum) -> float:
    """The stored rank, or how many singular values there are where a kind stores none."""
    return layer.summary.count if layer.rank is None else layer.rank


_MEASURES: Mapping[Order, Callable[[LayerSpectrum], float]] = MappingProxyType(
    {
        Order.NORM: lambda layer: layer.summary.frobenius_norm,
        Order.SIGMA: lambda layer: layer.summary.largest,
        Order.RANK: _stored_rank,
        Order.EFFECTIVE: lambda layer: layer.summary.effective_rank,
        Order.ENERGY_EFFECTIVE: lambda layer: layer.summary.energy_effective_rank,
        Order.STABLE: lambda layer: layer.summary.stable_rank,
        Order.K90: lambda layer: layer.summary.rank_90,
        Order.K95: lambda layer: layer.summary.rank_95,
        Order.K99: lambda layer: layer.summary.rank_99,
        Order.SCALE: lambda layer: abs(layer.scale),
    }
)
