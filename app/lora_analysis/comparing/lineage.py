"""Where two adapters come from one another: rules with their evidence, never a verdict from looks alone.

What each rule asks of a layer's pair ``(A, B)``, with ``within`` the share of B's energy within A's span, ``c`` the
best coefficient and ``cos`` the cosine:

==============  =====================================================================================
rule            in at least 95 % of the layers both hold
==============  =====================================================================================
``equal``       ‖B − A‖ ≤ 0.5 % of ‖A‖: rounding to another stored type leaves less
``scaled``      1 − cos² ≤ 2.5e-5, and c the same in every layer within 1 %
``resized``     within ≥ 0.999, rank(B) < rank(A), and B is as close to A as its rank allows
``within``      within ≥ 0.999, though not the closest: cut, filtered, or trained further inside the span
``shared-down`` the read subspaces agree (φ ≥ 0.999) and the written ones do not: one start, or a frozen ``down``
==============  =====================================================================================

They are evidence about weights. Two files can share a base by agreement (an initialisation, a frozen factor) without
one being made from the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .values import LayerPair

_MOST = 0.95  # of the common layers
_EQUAL = 0.005  # relative difference: bf16 rounds factors by at most 0.4 %
_PARALLEL = 2.5e-5  # 1 - cos²: the same 0.5 %
_WITHIN = 0.999
_SLACK = 1e-4  # share of energy that rounding may add to the tail of a best approximation
_SPREAD = 0.01
_APART = 0.9


@dataclass(frozen=True, slots=True)
class Lineage:
    """A rule that holds for a pair: ``derived`` seems to be made from ``origin`` (numbers of adapters)."""

    kind: str  # equal, scaled, resized, within, shared-down, same-run
    origin: int
    derived: int
    layers: int  # that meet the rule
    layers_compared: int
    coefficient: float | None  # derived ≈ coefficient · (part of) origin
    statement: str
    evidence: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "evidence": list(self.evidence)}


@dataclass(frozen=True, slots=True)
class _View:
    """One layer's pair, seen from the origin to the derived adapter."""

    cosine: float
    difference: float  # ‖B − A‖ / ‖A‖
    coefficient: float  # of A in B
    coefficient_of_kept: float  # c where B = c times a part of A
    within: float
    chance: float
    tail: float  # of A beyond B's rank
    ranks: tuple[int, int]
    overlap_left: float
    overlap_right: float
    fills: bool  # A's span is a large part of the space: lying within it says nothing


def lineage_of(
    pairs: Sequence[LayerPair], numbers: tuple[int, int], names: tuple[str, str], same_run: str | None = None
) -> tuple[Lineage, ...]:
    """What holds for two adapters, strongest first. ``same_run``: the session id that both headers state."""
    hints = []
    forward = [view for pair in pairs if (view := _view(pair)) is not None]
    if forward:
        backward = [view for pair in pairs if (view := _view(_swapped(pair))) is not None]
        hints = _symmetric(forward, numbers, names)
        if not hints:
            hints = _directed(forward, numbers, names) or _directed(backward, numbers[::-1], names[::-1])
        hints = hints or _shared(forward, numbers, names)
    if same_run is not None:
        statement = f"{names[0]} and {names[1]} were saved by one training run"
        evidence = (f"both headers state the session {same_run}",)
        hints.append(Lineage("same-run", *numbers, len(pairs), len(pairs), None, statement, evidence))
    return tuple(hints)


def _symmetric(views: Sequence[_View], numbers: tuple[int, int], names: tuple[str, str]) -> list[Lineage]:
    a, b = names
    equal = _meeting(views, lambda view: view.difference <= _EQUAL)
    if equal:
        worst = max(view.difference for view in equal)
        evidence = (f"relative difference at most {worst:.2g} in {len(equal)} of {len(views)} layers",)
        statement = f"{b} holds the same deltas as {a}, up to rounding"
        return [Lineage("equal", *numbers, len(equal), len(views), 1.0, statement, evidence)]
    middle = median(view.coefficient for view in views)
    scaled = _meeting(
        views,
        lambda view: 1 - view.cosine**2 <= _PARALLEL and abs(view.coefficient - middle) <= _SPREAD * abs(middle),
    )
    if scaled and middle:
        low, high = min(view.coefficient for view in scaled), max(view.coefficient for view in scaled)
        grounds = (
            f"cosine at least {min(abs(view.cosine) for view in scaled):.6f} in {len(scaled)} of {len(views)} layers",
            f"the closest multiple is {low:.4g} to {high:.4g} in all of them",
        )
        statement = f"{b} is {a} scaled by {middle:.4g}"
        return [Lineage("scaled", *numbers, len(scaled), len(views), middle, statement, grounds)]
    return []


def _directed(views: Sequence[_View], numbers: tuple[int, int], names: tuple[str, str]) -> list[Lineage]:
    a, b = names
    inside = _meeting(views, lambda view: view.within >= _WITHIN and not view.fills)
    if not inside:
        return []
    span = (
        f"{min(view.within for view in inside):.2%} or more of {b}'s energy lies within {a}'s span in {len(inside)} of "
        f"{len(views)} layers; by chance {max(view.chance for view in inside):.2%} at most"
    )
    middle = median(view.coefficient_of_kept for view in views)
    closest = _meeting(views, _is_best_approximation)
    if closest and any(view.ranks[1] < view.ranks[0] for view in closest):
        evidence = (span, f"{b} is as close to {a} as its rank allows in {len(closest)} of {len(views)} layers")
        scale = "" if abs(middle - 1) <= _SPREAD else f" and scaled by {middle:.4g}"
        ranks = f"rank {_most(view.ranks[0] for view in closest)} to {_most(view.ranks[1] for view in closest)}"
        statement = f"{b} is {a} resized from {ranks}{scale}"
        return [Lineage("resized", *numbers, len(closest), len(views), middle, statement, evidence)]
    statement = f"{b}'s deltas lie within {a}'s span: cut, filtered or merged from it, or trained further inside it"
    return [Lineage("within", *numbers, len(inside), len(views), None, statement, (span,))]


def _is_best_approximation(view: _View) -> bool:
    """B, times the best factor, misses A by no more than the singular values beyond B's rank do."""
    return (
        view.within >= _WITHIN
        and not view.fills
        and view.ranks[1] <= view.ranks[0]
        and 1 - view.cosine**2 <= 1.01 * view.tail + _SLACK
    )


def _shared(views: Sequence[_View], numbers: tuple[int, int], names: tuple[str, str]) -> list[Lineage]:
    found = _meeting(views, lambda view: view.overlap_right >= _WITHIN and view.overlap_left < _APART)
    if not found:
        return []
    statement = f"{names[0]} and {names[1]} read the same input directions and write different ones"
    evidence = (
        f"overlap of the read subspaces at least {min(view.overlap_right for view in found):.4f}, "
        f"of the written ones at most {max(view.overlap_left for view in found):.2f}, "
        f"in {len(found)} of {len(views)} layers: "
        "one frozen down factor, or one start that training hardly moved",
    )
    return [Lineage("shared-down", *numbers, len(found), len(views), None, statement, evidence)]


def _meeting(views: Sequence[_View], rule: Callable[[_View], bool]) -> list[_View]:
    """The layers that meet a rule, where nearly all do; none of them otherwise."""
    found = [view for view in views if rule(view)]
    return found if found and len(found) >= _MOST * len(views) else []


def _most(values: Any) -> Any:
    found = list(values)
    return max(set(found), key=lambda value: (found.count(value), value))


def _view(pair: LayerPair) -> _View | None:
    """None for vectors and zeros, which have no subspaces."""
    if pair.left is None or pair.right is None or pair.ranks is None or pair.cosine is None:
        return None
    assert pair.relative_difference is not None
    assert pair.coefficient is not None
    assert pair.second_within_first is not None
    assert pair.chance_within_first is not None
    assert pair.tail_first is not None
    return _View(
        cosine=pair.cosine,
        difference=pair.relative_difference,
        coefficient=pair.coefficient,
        # ⟨A, B⟩ = c ‖A_k‖² and ‖B‖² = c² ‖A_k‖², so c = ‖B‖² / ⟨A, B⟩ = coefficient / cos².
        coefficient_of_kept=pair.coefficient / pair.cosine**2 if pair.cosine else 0.0,
        within=pair.second_within_first,
        chance=pair.chance_within_first,
        tail=pair.tail_first,
        ranks=pair.ranks,
        overlap_left=pair.left.summary.mean_squared_cosine,
        overlap_right=pair.right.summary.mean_squared_cosine,
        fills=pair.chance_within_first > 0.25,
    )


def _swapped(pair: LayerPair) -> LayerPair:
    """The same pair, seen from the other adapter."""
    if pair.cosine is None or not pair.coefficient or pair.relative_difference is None:
        return pair
    ratio = pair.coefficient / pair.cosine if pair.cosine else 0.0  # ‖B‖ / ‖A‖
    return LayerPair(
        cosine=pair.cosine,
        chance_cosine=pair.chance_cosine,
        relative_difference=pair.relative_difference / ratio if ratio else None,
        interference=pair.interference,
        coefficient=pair.cosine / ratio if ratio else None,
        second_within_first=pair.first_within_second,
        first_within_second=pair.second_within_first,
        chance_within_first=pair.chance_within_second,
        chance_within_second=pair.chance_within_first,
        tail_first=pair.tail_second,
        tail_second=pair.tail_first,
        ranks=None if pair.ranks is None or not ratio else (pair.ranks[1], pair.ranks[0]),
        left=pair.left,
        right=pair.right,
    )
