"""``compare``: two to eight adapters of one base model, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import combinations
from math import sqrt
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..adapter import Adapter
from ..errors import OptionError
from ..formats import open_adapter
from ..formats.families import LABELS, UNKNOWN
from ..formats.folder import WEIGHT_NAMES
from ..spectra.selection import errors_by_layer, matching, unusable_modules
from .differences import differences_of, facts_of
from .lineage import lineage_of
from .units import Unit, stacks, units_of
from .values import (
    ComparedAdapter,
    Comparison,
    LayerComparison,
    MeanOverlap,
    NotCompared,
    PairComparison,
    SideOverlap,
    cosine,
    interference,
    sum_of_products,
)

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # base weights done, base weights in all
Cancel = Callable[[], bool]
LEAST, MOST = 2, 8  # adapters


def compare(
    adapters: Sequence[PathLike | Adapter],
    *,
    layers: str | Sequence[str] | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> Comparison:
    """Cosines, subspaces, interference and lineage of adapters of one base model, in any dialect and of any rank.

    ``layers`` is a glob or several, matched against the names the files use. Paths are opened and closed, open adapters
    stay open. A layer that holds NaN, or is no delta, is among ``skipped`` with the reason and counts as absent.

    Raises: OptionError for fewer than two or more than eight adapters, for different base models, for adapters
    that change no base weight in common, and for a glob that matches nothing; what ``open_adapter`` raises;
    CancelledError.
    """
    if not LEAST <= len(adapters) <= MOST:
        raise OptionError(f"{len(adapters)} adapters were given; from {LEAST} to {MOST} are compared")
    with ExitStack() as stack:
        opened = [
            one if isinstance(one, Adapter) else stack.enter_context(open_adapter(one, lenient_metadata=True))
            for one in adapters
        ]
        paths = [one.path if isinstance(one, Adapter) else os.fspath(one) for one in adapters]
        return _compare(opened, paths, layers, workers, progress, cancel)


def _compare(
    adapters: Sequence[Adapter],
    paths: Sequence[str],
    layers: str | Sequence[str] | None,
    workers: int | None,
    progress: Progress | None,
    cancel: Cancel | None,
) -> Comparison:
    from ..linalg.streams import map_together
    from .layer import compare_units

    names = _names(paths)
    family, notes = _family(adapters, names)
    units = _wanted(units_of(adapters, family), layers)
    if not any(len(unit.holders) > 1 for unit in units):
        raise OptionError(_nothing_in_common(adapters, names))
    errors = tuple(errors_by_layer(adapter) for adapter in adapters)
    groups = stacks(units)
    work = lambda group: compare_units(errors, [units[number] for number in group])  # noqa: E731
    done = map_together(work, groups, len(units), workers=workers, progress=progress, cancel=cancel)
    outcomes = dict(zip((number for group in groups for number in group), done, strict=True))
    in_order = [outcomes[number] for number in range(len(units))]
    compared = [layer for outcome in in_order for layer in outcome.layers]
    skipped = [one for outcome in in_order for one in outcome.skipped]
    if layers is None:
        skipped += [
            NotCompared(number, one.name, one.code, one.reason, one.is_error)
            for number, adapter in enumerate(adapters)
            for one in unusable_modules(adapter).values()
        ]
    facts = facts_of(adapters)
    sessions = [fact.session_id for fact in facts]
    return Comparison(
        adapters=tuple(_described(a, path, name) for a, path, name in zip(adapters, paths, names, strict=True)),
        layers=tuple(compared),
        pairs=tuple(_whole(compared, i, j, names, sessions) for i, j in combinations(range(len(adapters)), 2)),
        differences=differences_of(adapters, facts),
        skipped=tuple(skipped),
        notes=(*notes, *_remarks(adapters, names)),
    )


# -- inputs --------------------------------------------------------------------------------------------


def _names(paths: Sequence[str]) -> list[str]:
    """File names, or folder names where files are called alike; numbered where that is still ambiguous."""
    found = []
    for path in paths:
        pure = PurePath(os.path.abspath(path))
        found.append(pure.parent.name if pure.name in WEIGHT_NAMES and pure.parent.name else pure.name)
    return [name if found.count(name) == 1 else f"{name} ({number + 1})" for number, name in enumerate(found)]


def _described(adapter: Adapter, path: str, name: str) -> ComparedAdapter:
    return ComparedAdapter(
        path=path,
        name=name,
        dialect=adapter.dialect,
        algorithm=adapter.algorithm,
        family=adapter.base_model.family,
        layers=len(adapter.layers),
        size_bytes=adapter.source.size,
    )


def _family(adapters: Sequence[Adapter], names: Sequence[str]) -> tuple[str, list[str]]:
    """The base model, and remarks on it. Raises: OptionError where two adapters are known to have different ones."""
    known: dict[str, str] = {}
    for adapter, name in zip(adapters, names, strict=True):
        if adapter.base_model.family != UNKNOWN:
            known.setdefault(adapter.base_model.family, name)
    if len(known) > 1:
        (first, a), (second, b) = list(known.items())[:2]
        raise OptionError(
            f"{a} was made for {LABELS.get(first, first)}, {b} for {LABELS.get(second, second)}; "
            "deltas of different base models have nothing to be compared by"
        )
    unknown = [name for adapter, name in zip(adapters, names, strict=True) if adapter.base_model.family == UNKNOWN]
    notes = [f"{name}: its base model is unknown; that it is the same was not checked" for name in unknown]
    return next(iter(known), UNKNOWN), notes


def _wanted(units: Sequence[Unit], patterns: str | Sequence[str] | None) -> list[Unit]:
    if not patterns:
        return list(units)
    spelled = list(dict.fromkeys(piece.asked_by for unit in units for piece in unit.pieces if piece is not None))
    names = matching(spelled, patterns)
    return [unit for unit in units if any(piece is not None and piece.asked_by in names for piece in unit.pieces)]


def _nothing_in_common(adapters: Sequence[Adapter], names: Sequence[str]) -> str:
    shown = [f"{name} has {next(iter(a.layers), 'no layer')}" for a, name in zip(adapters, names, strict=True)]
    return f"no base weight is changed by two of the adapters: {', '.join(shown[:2])}"


def _remarks(adapters: Sequence[Adapter], names: Sequence[str]) -> list[str]:
    found = []
    for adapter, name in zip(adapters, names, strict=True):
        dora = sum(layer.magnitude_axis is not None for layer in adapter.layers.values())
        if dora:
            found.append(f"{name}: {dora} layers are DoRA; compared are the deltas before their norms are set")
    return found


# -- pairs as wholes -----------------------------------------------------------------------------------


def _whole(
    layers: Sequence[LayerComparison], i: int, j: int, names: Sequence[str], sessions: Sequence[str | None]
) -> PairComparison:
    pairs = [layer.pairs[i, j] for layer in layers if (i, j) in layer.pairs]
    common = [layer for layer in layers if (i, j) in layer.pairs]
    everything = _between(sum_of_products(layers, len(names)), i, j)
    together = _between(sum_of_products(common, len(names)), i, j)
    chance = _chance_product(common, i, j)
    norms = sqrt(everything[0, 0]), sqrt(everything[1, 1])
    energy = float(everything.trace())
    return PairComparison(
        first=i,
        second=j,
        layers_compared=len(pairs),
        only_first=_only(layers, i, j),
        only_second=_only(layers, j, i),
        cosine=cosine(everything, 0, 1),
        chance_cosine=chance / (norms[0] * norms[1]) if all(norms) else None,
        common_cosine=cosine(together, 0, 1),
        relative_difference=_relative_difference(everything),
        interference=interference(everything),
        chance_interference=2 * chance / energy if energy else None,
        coefficient=float(everything[0, 1] / everything[0, 0]) if norms[0] else None,
        norm_ratio=norms[1] / norms[0] if norms[0] else None,
        second_within_first=_share(common, j, [pair.second_within_first for pair in pairs]),
        first_within_second=_share(common, i, [pair.first_within_second for pair in pairs]),
        chance_within_first=_share(common, j, [pair.chance_within_first for pair in pairs]),
        chance_within_second=_share(common, i, [pair.chance_within_second for pair in pairs]),
        left=_mean_overlap([pair.left for pair in pairs]),
        right=_mean_overlap([pair.right for pair in pairs]),
        lineage=lineage_of(pairs, (i, j), (names[i], names[j]), _same_run(sessions[i], sessions[j])),
    )


def _between(products: Float64Array, i: int, j: int) -> Float64Array:
    return products[[i, j]][:, [i, j]]


def _chance_product(layers: Sequence[LayerComparison], i: int, j: int) -> float:
    """Standard deviation of ``⟨Δᵢ, Δⱼ⟩`` of independent deltas of these norms: √Σ‖Δᵢ‖²‖Δⱼ‖² / (out · in · k)."""
    return sqrt(
        sum(
            float(layer.products[i, i]) * float(layer.products[j, j]) * layer.pairs[i, j].chance_cosine ** 2
            for layer in layers
        )
    )


def _relative_difference(products: Float64Array) -> float | None:
    from .layer import relative_difference

    return relative_difference(products)


def _share(layers: Sequence[LayerComparison], number: int, shares: Sequence[float | None]) -> float | None:
    """The mean share, each layer weighing as its energy in adapter ``number``."""
    weighed = [
        (float(layer.products[number, number]), share)
        for layer, share in zip(layers, shares, strict=True)
        if share is not None
    ]
    whole = sum(energy for energy, _ in weighed)
    return sum(energy * share for energy, share in weighed) / whole if whole else None


def _only(layers: Sequence[LayerComparison], holder: int, other: int) -> tuple[str, ...]:
    names = (layer.names[holder] for layer in layers if layer.names[other] is None)
    return tuple(dict.fromkeys(name for name in names if name is not None))  # experts share one name


def _mean_overlap(sides: Sequence[SideOverlap | None]) -> MeanOverlap | None:
    import numpy as np

    found = [side for side in sides if side is not None]
    if not found:
        return None
    rows = tuple(sorted({i for side in found for i in side.rows}))
    columns = tuple(sorted({j for side in found for j in side.columns}))
    overlap, chance, layers = (np.zeros((len(rows), len(columns))) for _ in range(3))
    for (some_rows, some_columns), alike in _alike(found).items():
        place = np.ix_([rows.index(i) for i in some_rows], [columns.index(j) for j in some_columns])
        overlap[place] += np.sum([side.overlap for side in alike], axis=0)
        chance[place] += np.maximum.outer(some_rows, some_columns) * sum(1 / side.summary.dimension for side in alike)
        layers[place] += len(alike)
    return MeanOverlap(rows, columns, _divided(overlap, layers), _divided(chance, layers), _counts(layers))


def _alike(sides: Sequence[SideOverlap]) -> dict[tuple[tuple[int, ...], tuple[int, ...]], list[SideOverlap]]:
    """The layers by the indices that their grids have: few kinds, of hundreds of layers."""
    found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[SideOverlap]] = {}
    for side in sides:
        found.setdefault((side.rows, side.columns), []).append(side)
    return found


def _divided(sums: Float64Array, counts: Float64Array) -> tuple[tuple[float | None, ...], ...]:
    """Means; None where there is nothing to average."""
    cells = zip(sums.tolist(), counts.tolist(), strict=True)
    return tuple(tuple(s / n if n else None for s, n in zip(*rows, strict=True)) for rows in cells)


def _counts(counts: Float64Array) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(count) for count in row) for row in counts.tolist())


def _same_run(first: str | None, second: str | None) -> str | None:
    return first if first is not None and first == second else None
