"""An opened adapter in numbers: what its layers have in common and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..adapter import Adapter, BaseModel
from .modules import target_modules

_NO_BASE = BaseModel("unknown", None, None, "no file was read")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSummary:
    """Counts over the layers of one adapter. Distributions map a value to a number of layers, by value."""

    container: str | None = None
    dialect: str | None = None
    algorithm: str | None = None
    base_model: BaseModel = _NO_BASE
    layers: int = 0
    convolutions: int = 0  # of them with a kernel larger than one element
    parameters: int = 0
    ranks: Mapping[int, int] = field(default_factory=dict)
    alphas: Mapping[float, int] = field(default_factory=dict)
    scales: Mapping[float, int] = field(default_factory=dict)
    scale_origins: Mapping[str, int] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    components: Mapping[str, int] = field(default_factory=dict)
    dtypes: Mapping[str, int] = field(default_factory=dict)
    target_modules: Mapping[str, int] = field(default_factory=dict)
    dora_layers: int = 0
    opaque: Mapping[str, int] = field(default_factory=dict)  # why there is no delta -> layers
    extras: Mapping[str, int] = field(default_factory=dict)  # category -> tensors
    unrecognised_keys: tuple[str, ...] = ()

    @property
    def rank(self) -> dict[str, int] | None:
        """``{"min", "max", "mode"}`` over the layers that have a rank."""
        return _spread(self.ranks)

    @property
    def alpha(self) -> float | None:
        """The alpha of most layers."""
        alpha: float | None = _mode(self.alphas)
        return alpha

    @property
    def text_encoders(self) -> tuple[str, ...]:
        return tuple(name for name in self.components if name.startswith("text_encoder"))

    def to_dict(self) -> dict[str, Any]:
        """The short form, which ``lora inspect --json`` prints as ``adapter``."""
        return {
            "algorithm": self.algorithm,
            "dialect": self.dialect,
            "container": self.container,
            "base_model": self.base_model.family,
            "layers": self.layers,
            "parameters": self.parameters,
            "rank": self.rank,
            "alpha": self.alpha,
            "dtypes": list(self.dtypes),
            "dora": self.dora_layers > 0,
            "opaque": sum(self.opaque.values()),
            "unrecognised_keys": list(self.unrecognised_keys),
            "unrecognised_count": len(self.unrecognised_keys),
        }


def summarise(adapter: Adapter) -> AdapterSummary:
    """Count what the layers are. Reads no tensor."""
    layers = list(adapter.layers.values())
    return AdapterSummary(
        container=adapter.source.container,
        dialect=adapter.dialect,
        algorithm=adapter.algorithm,
        base_model=adapter.base_model,
        layers=len(layers),
        convolutions=sum(layer.is_conv for layer in layers),
        parameters=adapter.parameters,
        ranks=_distribution(layer.rank for layer in layers),
        alphas=_distribution(layer.alpha for layer in layers),
        scales=_distribution(layer.scale for layer in layers if layer.scale_origin != "none"),
        scale_origins=_by_count(layer.scale_origin for layer in layers),
        kinds=_by_count(layer.kind for layer in layers),
        components=_by_count(layer.component for layer in layers),
        dtypes=_by_count(dtype for layer in layers for dtype in layer.dtypes) or _tensor_dtypes(adapter),
        target_modules=target_modules(adapter.layers),
        dora_layers=sum(layer.magnitude_axis is not None for layer in layers),
        opaque=_by_count(layer.opaque for layer in layers if layer.opaque),
        extras=_by_count(extra.category for extra in adapter.extras),
        unrecognised_keys=adapter.unrecognised_keys,
    )


def _tensor_dtypes(adapter: Adapter) -> dict[str, int]:
    return _by_count(info.dtype for info in adapter.source.tensors.values())


def _by_count(items: Iterable[str]) -> dict[str, int]:
    """Most frequent first; equals keep the file's order."""
    return dict(Counter(items).most_common())


def _distribution(items: Iterable[Any]) -> dict[Any, int]:
    """By value. NaN, which has no place in an order and is reported by itself, is left out."""
    counts = Counter(item for item in items if item is not None and item == item)
    return dict(sorted(counts.items()))


def _mode(distribution: Mapping[Any, int]) -> Any:
    """The most frequent value; of equals the largest."""
    return max(distribution, key=lambda value: (distribution[value], value), default=None)


def _spread(distribution: Mapping[int, int]) -> dict[str, int] | None:
    if not distribution:
        return None
    return {"min": min(distribution), "max": max(distribution), "mode": _mode(distribution)}
