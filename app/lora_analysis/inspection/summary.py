"""An opened adapter in numbers: what its layers have in common and where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

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


class _Alike(NamedTuple):
    """What a summary asks of a layer. Hundreds of layers answer alike, so each answer is counted once."""

    kind: str
    component: str
    rank: int | None
    alpha: float | None
    scale: float
    scale_origin: str
    dtypes: tuple[str, ...]
    is_conv: bool
    magnitude_axis: str | None
    opaque: str | None


_Counted = Iterable[tuple[Any, int]]  # values, and how often each occurs; a value may occur again
_answers = attrgetter(*_Alike._fields)


def summarise(adapter: Adapter) -> AdapterSummary:
    """Count what the layers are. Reads no tensor."""
    alike = [(_Alike(*found), count) for found, count in Counter(map(_answers, adapter.layers.values())).items()]
    return AdapterSummary(
        container=adapter.source.container,
        dialect=adapter.dialect,
        algorithm=adapter.algorithm,
        base_model=adapter.base_model,
        layers=len(adapter.layers),
        convolutions=sum(count for each, count in alike if each.is_conv),
        parameters=adapter.parameters,
        ranks=_distribution((each.rank, count) for each, count in alike),
        alphas=_distribution((each.alpha, count) for each, count in alike),
        scales=_distribution((each.scale, count) for each, count in alike if each.scale_origin != "none"),
        scale_origins=_by_count((each.scale_origin, count) for each, count in alike),
        kinds=_by_count((each.kind, count) for each, count in alike),
        components=_by_count((each.component, count) for each, count in alike),
        dtypes=_by_count((dtype, count) for each, count in alike for dtype in each.dtypes) or _tensor_dtypes(adapter),
        target_modules=target_modules(adapter.layers),
        dora_layers=sum(count for each, count in alike if each.magnitude_axis is not None),
        opaque=_by_count((each.opaque, count) for each, count in alike if each.opaque),
        extras=_by_count((extra.category, 1) for extra in adapter.extras),
        unrecognised_keys=adapter.unrecognised_keys,
    )


def _tensor_dtypes(adapter: Adapter) -> dict[str, int]:
    return _by_count((info.dtype, 1) for info in adapter.source.tensors.values())


def _by_count(counted: _Counted) -> dict[str, int]:
    """Most frequent first; equals keep the file's order."""
    return dict(sorted(_totals(counted).items(), key=lambda item: -item[1]))


def _distribution(counted: _Counted) -> dict[Any, int]:
    """By value. NaN, which has no place in an order and is reported by itself, is left out."""
    return dict(
        sorted(_totals((value, count) for value, count in counted if value is not None and value == value).items())
    )


def _totals(counted: _Counted) -> dict[Any, int]:
    totals: dict[Any, int] = {}
    for value, count in counted:
        totals[value] = totals.get(value, 0) + count
    return totals


def _mode(distribution: Mapping[Any, int]) -> Any:
    """The most frequent value; of equals the largest."""
    return max(distribution, key=lambda value: (distribution[value], value), default=None)


def _spread(distribution: Mapping[int, int]) -> dict[str, int] | None:
    if not distribution:
        return None
    return {"min": min(distribution), "max": max(distribution), "mode": _mode(distribution)}
