"""Many layers in one line: what a component or a block of the network has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from math import hypot
from statistics import median
from typing import Any

from ..formats.blocks import number_of, stage_in_network
from .values import LayerSpectrum

Key = tuple[str, str | None]  # component, block


@dataclass(frozen=True, slots=True)
class Group:
    """Layers of one component, or of one of its blocks."""

    component: str
    block: str | None  # or stage, or role; None for a whole component, and for its layers outside of blocks
    layers: int
    frobenius_norm: float  # √Σ‖Δ‖²
    energy_share: float  # of Σ‖Δ‖² over all layers with a spectrum, 0 to 1
    largest: float  # the largest σ₁
    effective_rank_median: float
    stable_rank_median: float
    participation_ratio_median: float
    relative_entropy_median: float
    rank_95_median: float
    rank_95_largest: int
    dead: int  # layers whose delta is zero

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def group_layers(layers: Sequence[LayerSpectrum], key: Callable[[LayerSpectrum], Key]) -> tuple[Group, ...]:
    """One summary per key, in the order in which keys appear."""
    members: dict[Key, list[LayerSpectrum]] = {}
    for layer in layers:
        members.setdefault(key(layer), []).append(layer)
    whole = _norm(layers)
    return tuple(_summary(found, of, whole) for found, of in members.items())


def in_network_order(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Components and kinds of blocks as they appear, blocks by stage and number: ``layers.2`` before ``layers.10``."""
    components = {name: n for n, name in enumerate(dict.fromkeys(group.component for group in groups))}
    kinds = {name: n for n, name in enumerate(dict.fromkeys(_kind_of(group) for group in groups))}

    def key(group: Group) -> tuple[int, int, int, int]:
        stage = stage_in_network(group.block)
        return components[group.component], stage, kinds[_kind_of(group)], number_of(group.block)

    return tuple(sorted(groups, key=key))


def _kind_of(group: Group) -> str:
    return (group.block or "").partition(".")[0]


def _summary(key: Key, layers: Sequence[LayerSpectrum], whole: float) -> Group:
    summaries = [layer.summary for layer in layers]
    norm = _norm(layers)
    return Group(
        component=key[0],
        block=key[1],
        layers=len(layers),
        frobenius_norm=norm,
        energy_share=(norm / whole) ** 2 if whole else 0.0,
        largest=max(summary.largest for summary in summaries),
        effective_rank_median=median(summary.effective_rank for summary in summaries),
        stable_rank_median=median(summary.stable_rank for summary in summaries),
        participation_ratio_median=median(summary.participation_ratio for summary in summaries),
        relative_entropy_median=median(summary.relative_entropy for summary in summaries),
        rank_95_median=float(median(summary.rank_95 for summary in summaries)),
        rank_95_largest=max(summary.rank_95 for summary in summaries),
        dead=sum(layer.is_dead for layer in layers),
    )


def _norm(layers: Iterable[LayerSpectrum]) -> float:
    return hypot(*(layer.summary.frobenius_norm for layer in layers))  # hypot: squares of large norms overflow
