"""One base weight, compared: what its holders' deltas have in common. Loads numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from math import sqrt
from typing import NamedTuple, cast

import numpy as np

from ..adapter import Finding, Layer, LowRank, Stacked, Update, Vector
from ..formats.blocks import block_of
from ..linalg.angles import Bases, angles_of, summarise_angles
from ..linalg.floats import Float64Array
from ..linalg.inner import inner_product, matrix_shape, plain
from ..linalg.subspace import (
    Crossing,
    Span,
    crossing,
    energy_beyond,
    energy_within,
    is_narrow,
    overlap_grid,
    span_product,
    stacked_spans,
)
from ..linalg.subspace import span as span_of
from .reading import LAYER_ERRORS, Read, read_unit
from .units import BIAS, Unit
from .values import LayerComparison, LayerPair, NotCompared, Pair, SideOverlap, cosine, interference


class Outcome(NamedTuple):
    """The comparisons of one unit (one per expert), and which pieces have no part in them."""

    layers: tuple[LayerComparison, ...]
    skipped: tuple[NotCompared, ...]


class _Held(NamedTuple):
    """One adapter's deltas for some units, as many as there are units."""

    adapter: int
    layers: Sequence[Layer]
    updates: Sequence[Update]
    span: Span | None  # a stack; None for vectors and experts, and where nothing is there to be compared with


def compare_units(errors: tuple[Mapping[str, Finding], ...], units: Sequence[Unit]) -> list[Outcome]:
    """Compare the pieces of each unit. ``errors``: per adapter, by layer, what opening its file already found wrong.

    Units whose deltas are factors of equal shapes are calculated in one stack, see ``linalg/subspace.py``.
    Raises: FileAccessError where a file cannot be read any more.
    """
    read = [read_unit(errors, unit) for unit in units]
    found: dict[int, Outcome] = {}
    for numbers in _alike([reads for reads, _ in read]):
        layers = _stacked([units[number] for number in numbers], [read[number][0] for number in numbers])
        found |= {
            number: Outcome((layer,), tuple(read[number][1]))
            for number, layer in zip(numbers, layers, strict=True)
            if layer is not None
        }
    return [found.get(number) or _alone(unit, *read[number]) for number, unit in enumerate(units)]


def _alike(read: Sequence[Sequence[Read]]) -> list[list[int]]:
    """Units, by number, for which several adapters have narrow factors: those of equal shapes together."""
    found: dict[tuple[object, ...], list[int]] = {}
    for number, reads in enumerate(read):
        updates = [one.update for one in reads if isinstance(one.update, LowRank) and is_narrow(one.update)]
        if 1 < len(updates) == len(reads) and len({matrix_shape(update) for update in updates}) == 1:
            adapters = tuple(one.adapter for one in reads)
            found.setdefault((adapters, *((u.up.shape, u.down.shape) for u in updates)), []).append(number)
    return list(found.values())


def _stacked(units: Sequence[Unit], read: Sequence[Sequence[Read]]) -> list[LayerComparison | None]:
    """The comparison of each unit; None for one that has to be calculated alone, which may name what is wrong."""
    good = np.ones(len(units), np.bool_)
    held: list[_Held] = []
    for column in zip(*read, strict=True):
        span, is_good = stacked_spans([cast("LowRank", one.update) for one in column])
        good &= is_good
        held.append(_Held(column[0].adapter, [one.layer for one in column], [one.update for one in column], span))
    chosen = [number for number, is_good in enumerate(good.tolist()) if is_good]
    if len(chosen) < len(units):
        held = [_some(one, chosen) for one in held]
    found: list[LayerComparison | None] = [None] * len(units)
    if chosen:
        some = [units[number] for number in chosen]
        with suppress(*LAYER_ERRORS):  # products beyond float64
            for number, layer in zip(chosen, _compare(some, [unit.name for unit in some], held), strict=True):
                found[number] = layer
    return found


def _some(held: _Held, chosen: list[int]) -> _Held:
    assert held.span is not None  # a stack of factors has spans
    layers, updates = [held.layers[number] for number in chosen], [held.updates[number] for number in chosen]
    return _Held(held.adapter, layers, updates, held.span.at(chosen))


def _alone(unit: Unit, read: Sequence[Read], skipped: list[NotCompared]) -> Outcome:
    held: list[_Held] = []
    for one in read:
        try:
            held.append(_spanned(one, alone=len(unit.holders) == 1))
        except LAYER_ERRORS as error:
            skipped.append(NotCompared(one.adapter, one.layer.name, error.code, error.message, is_error=True))
    held = _of_one_shape(unit, held, skipped)
    if not held:
        return Outcome((), tuple(skipped))
    try:
        return Outcome(tuple(_each_expert(unit, held)), tuple(skipped))
    except LAYER_ERRORS as error:  # products beyond float64
        skipped += [NotCompared(one.adapter, one.layers[0].name, error.code, error.message, True) for one in held]
        return Outcome((), tuple(skipped))


def _each_expert(unit: Unit, held: Sequence[_Held]) -> Iterator[LayerComparison]:
    """The unit, or every matrix of one that is a stack of experts."""
    first = held[0].updates[0]
    if not isinstance(first, Stacked):
        yield from _compare([unit], [unit.name], held)
        return
    for expert in range(len(first.parts)):
        parts = [Read(one.adapter, one.layers[0], cast("Stacked", one.updates[0]).parts[expert]) for one in held]
        yield from _compare(
            [unit], [f"{unit.name}[{expert}]"], [_spanned(part, alone=len(held) == 1) for part in parts]
        )


def _spanned(read: Read, *, alone: bool) -> _Held:
    """Raises: NonFiniteError for NaN and infinity, which would make every figure of the layer NaN."""
    update, span = read.update, None
    if not isinstance(update, Stacked | Vector):
        update = plain(update)
        span = None if alone else span_of(update).at(None)
    elif not alone:
        inner_product(update, update)
    return _Held(read.adapter, [read.layer], [update], span)


def _of_one_shape(unit: Unit, held: list[_Held], skipped: list[NotCompared]) -> list[_Held]:
    """Those that agree with the first holder; the others are named as skipped."""
    kept: list[_Held] = []
    for one in held:
        layer = one.layers[0]
        if kept and _form(one.updates[0]) != _form(kept[0].updates[0]):
            found, wanted = _form(one.updates[0]), _form(kept[0].updates[0])
            reason = f"{layer.name}: the delta is {found}, that of another adapter for {unit.name} is {wanted}"
            skipped.append(NotCompared(one.adapter, layer.name, "shape", reason, is_error=True))
        else:
            kept.append(one)
    return kept


def _form(update: Update) -> tuple[int, ...]:
    """Stacks of different numbers of experts are of different forms, too."""
    return tuple(update.shape) if isinstance(update, Stacked | Vector) else matrix_shape(update)


# -- comparing -----------------------------------------------------------------------------------------


def _compare(units: Sequence[Unit], names: Sequence[str], held: Sequence[_Held]) -> list[LayerComparison]:
    """Raises: NonFiniteError where a product is no number."""
    count = len(units[0].pieces)
    products = np.zeros((len(units), count, count))
    pairs: list[dict[Pair, LayerPair]] = [{} for _ in units]
    for one in held:
        products[:, one.adapter, one.adapter] = np.maximum(_energies(one), 0.0)
    for a, b in combinations(held, 2):
        i, j = a.adapter, b.adapter
        cross = None if a.span is None or b.span is None else crossing(a.span, b.span)
        products[:, i, j] = products[:, j, i] = _inner_products(a, b, cross)
        between = [_bare_pair(one, a, b) for one in products[:, [i, j]][:, :, [i, j]]]
        if cross is not None and a.span is not None and b.span is not None and a.span.rank and b.span.rank:
            between = list(_with_subspaces(between, a.span, b.span, cross))
        for found, pair in zip(pairs, between, strict=True):
            found[i, j] = pair
    products.flags.writeable = False
    return [
        _layer(unit, name, held, number, products[number], pairs[number])
        for number, (unit, name) in enumerate(zip(units, names, strict=True))
    ]


def _layer(
    unit: Unit, name: str, held: Sequence[_Held], number: int, products: Float64Array, pairs: Mapping[Pair, LayerPair]
) -> LayerComparison:
    first_layer = held[0].layers[number]
    names: list[str | None] = [None] * len(unit.pieces)
    ranks: list[int | None] = [None] * len(unit.pieces)
    for one in held:
        names[one.adapter], ranks[one.adapter] = one.layers[number].name, one.layers[number].rank
    return LayerComparison(
        name=_shown_name(unit, name, first_layer),
        names=tuple(names),
        component=first_layer.component,
        block=block_of(first_layer.name),
        shape=matrix_shape(held[0].updates[number]),
        stored_ranks=tuple(ranks),
        products=products,
        pairs=pairs,
    )


def _shown_name(unit: Unit, name: str, layer: Layer) -> str:
    """Units that met by name alone are called as the first holder spells them."""
    return name if "." in unit.name.removesuffix(BIAS) else layer.name + name.removeprefix(unit.name)


def _energies(held: _Held) -> Float64Array:
    if held.span is not None:
        return np.asarray(held.span.energy)
    return np.array([inner_product(update, update) for update in held.updates])


def _inner_products(a: _Held, b: _Held, cross: Crossing | None) -> Float64Array:
    """``⟨Δ₁, Δ₂⟩``: from the spans where they hold all of both deltas, from the updates otherwise."""
    if cross is not None and a.span is not None and b.span is not None and a.span.is_whole and b.span.is_whole:
        return span_product(a.span, b.span, cross)
    return np.array([inner_product(first, second) for first, second in zip(a.updates, b.updates, strict=True)])


def _bare_pair(products: Float64Array, a: _Held, b: _Held) -> LayerPair:
    """What inner products alone say: the (2, 2) of two deltas."""
    out, columns = matrix_shape(a.updates[0])
    return LayerPair(
        cosine=cosine(products, 0, 1),
        chance_cosine=1 / sqrt(out * columns) if out * columns else 0.0,
        relative_difference=relative_difference(products),
        interference=interference(products),
        coefficient=float(products[0, 1] / products[0, 0]) if products[0, 0] else None,
    )


def relative_difference(products: Float64Array) -> float | None:
    """``‖Δ₂ − Δ₁‖ / ‖Δ₁‖`` from their (2, 2) inner products; None where Δ₁ is zero. Nothing below 1e-8 is resolved."""
    if not products[0, 0]:
        return None
    return sqrt(max(float(products[0, 0] - 2 * products[0, 1] + products[1, 1]), 0.0) / float(products[0, 0]))


def _with_subspaces(bare: Sequence[LayerPair], first: Span, second: Span, cross: Crossing) -> Iterator[LayerPair]:
    p, q = first.rank, second.rank
    size = first.shape[0] * first.shape[1]
    figures = zip(
        bare,
        energy_within(second, cross).tolist(),
        energy_within(first, cross.back).tolist(),
        energy_beyond(first, q).tolist(),
        energy_beyond(second, p).tolist(),
        _sides(cross.left, lambda: (first.u(), second.u()), first.shape[0]),
        _sides(cross.right, lambda: (first.v(), second.v()), first.shape[1]),
        strict=True,
    )
    for pair, second_within, first_within, tail_first, tail_second, left, right in figures:
        yield LayerPair(
            cosine=pair.cosine,
            chance_cosine=pair.chance_cosine,
            relative_difference=pair.relative_difference,
            interference=pair.interference,
            coefficient=pair.coefficient,
            second_within_first=second_within,
            first_within_second=first_within,
            chance_within_first=p * p / size,
            chance_within_second=q * q / size,
            tail_first=tail_first,
            tail_second=tail_second,
            ranks=(p, q),
            left=left,
            right=right,
        )


def _sides(crosses: Float64Array, bases: Bases, dimension: int) -> list[SideOverlap]:
    _, p, q = crosses.shape
    angles = angles_of(crosses, bases)
    rows, columns = _indices(p), _indices(q)
    grids = overlap_grid(crosses, rows, columns)
    angles.flags.writeable = grids.flags.writeable = False
    summaries = summarise_angles(angles, p, q, dimension)
    sides = zip(angles, summaries, grids, strict=True)
    return [SideOverlap(found, summary, rows, columns, grid) for found, summary, grid in sides]


def _indices(rank: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the rank itself."""
    doubling = [1 << step for step in range(rank.bit_length()) if 1 << step < rank]
    return (*doubling, rank)
