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
    from ..linalg.floats import Float64Array
    from ..linalg.spectrum import SpectrumSummary
    from .groups import Group


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
            **self.summary.to_dict(),
            "singular_values": self.singular_values.tolist(),
        }


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

    @property
    def frobenius_norm(self) -> float:
        """Norm of all deltas together: ``√Σ‖Δ‖²``."""
        return hypot(*(layer.summary.frobenius_norm for layer in self.layers))

    @property
    def errors(self) -> tuple[SkippedLayer, ...]:
        """Layers that should have a spectrum and have none: NaN, infinity, factors that do not fit."""
        return tuple(layer for layer in self.skipped if layer.is_error)

    @property
    def is_complete(self) -> bool:
        """Whether there is a spectrum at all, and one for every layer that should have it."""
        return bool(self.layers) and not self.errors

    def components(self) -> tuple[Group, ...]:
        """Summaries of the parts of the pipeline (``unet``, ``text_encoder``, ...), in the order of the file."""
        from .groups import group_layers

        return group_layers(self.layers, lambda layer: (layer.component, None))

    def blocks(self) -> tuple[Group, ...]:
        """Summaries of the blocks of every component; layers outside of blocks are one group per component."""
        from .groups import group_layers

        return group_layers(self.layers, lambda layer: (layer.component, layer.block))

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
            "components": [group.to_dict() for group in self.components()],
            "blocks": [group.to_dict() for group in self.blocks()],
            "layers": [layer.to_dict() for layer in self.ordered(order, top)],
            "skipped": [layer.to_dict() for layer in self.skipped],
        }
        ready: dict[str, Any] = json_ready(document)
        return ready


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
