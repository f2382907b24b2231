"""One base weight, compared: what its holders' deltas have in common. Loads numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import sqrt
from typing import NamedTuple

import numpy as np

from ..adapter import Dense, Finding, Hadamard, Kronecker, Layer, LowRank, Opaque, Stacked, Update, Vector
from ..errors import FormatError, NonFiniteError, OpaqueUpdateError, ShapeError
from ..formats.blocks import block_of
from ..linalg.floats import Float64Array
from ..linalg.inner import inner_product, matrix_shape, plain
from ..linalg.products import factors
from ..linalg.subspace import (
    Bases,
    Begun,
    Crossing,
    Span,
    angles_of,
    begin_span,
    crossing,
    energy_within,
    finish_spans,
    overlap_grid,
    product_of,
    summarise_angles,
)
from .units import BIAS, Piece, Unit
from .values import LayerComparison, LayerPair, NotCompared, Pair, SideOverlap, cosine, interference

# What is wrong with one layer. Anything else, a file that is gone or a request to stop, concerns the whole.
_LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


class Outcome(NamedTuple):
    """The comparisons of one unit (one per expert), and which pieces have no part in them."""

    layers: tuple[LayerComparison, ...]
    skipped: tuple[NotCompared, ...]


class _Read(NamedTuple):
    """One adapter's delta for the unit."""

    adapter: int
    layer: Layer
    update: Update
    begun: Begun | Span | None  # None for vectors and stacks, and where nothing is there to be compared with


class _Held(NamedTuple):
    """The same with its subspaces."""

    adapter: int
    layer: Layer
    update: Update
    span: Span | None


def compare_units(errors: tuple[Mapping[str, Finding], ...], units: Sequence[Unit]) -> list[Outcome]:
    """Compare the pieces of each unit. ``errors``: per adapter, by layer, what opening its file already found wrong.

    Raises: FileAccessError where a file cannot be read any more.
    """
    read = [_read(errors, unit) for unit in units]
    held = _turned([one for found, _ in read for one in found])
    return [
        _outcome(unit, [next(held) for _ in found], skipped) for unit, (found, skipped) in zip(units, read, strict=True)
    ]


def _turned(read: Sequence[_Read]) -> Iterator[_Held]:
    spans = iter(finish_spans([one.begun for one in read if one.begun is not None]))
    for one in read:
        yield _Held(one.adapter, one.layer, one.update, None if one.begun is None else next(spans))


def _outcome(unit: Unit, held: list[_Held], skipped: list[NotCompared]) -> Outcome:
    held = _of_one_shape(unit, held, skipped)
    if not held:
        return Outcome((), tuple(skipped))
    experts = {len(one.update.parts) for one in held if isinstance(one.update, Stacked)}
    try:
        if not experts:
            return Outcome((_compare(unit, unit.name, held),), tuple(skipped))
        layers = [_compare(unit, f"{unit.name}[{e}]", _expert(held, e)) for e in range(experts.pop())]
        return Outcome(tuple(layers), tuple(skipped))
    except _LAYER_ERRORS as error:  # products beyond float64
        skipped += [NotCompared(one.adapter, one.layer.name, error.code, error.message, True) for one in held]
        return Outcome((), tuple(skipped))


# -- reading -------------------------------------------------------------------------------------------


def _read(errors: tuple[Mapping[str, Finding], ...], unit: Unit) -> tuple[list[_Read], list[NotCompared]]:
    read: list[_Read] = []
    skipped: list[NotCompared] = []
    for number, piece in enumerate(unit.pieces):
        if piece is None:
            continue
        layer = piece.layer
        stated = errors[number].get(layer.name)
        if stated is not None:
            skipped.append(NotCompared(number, layer.name, stated.code, stated.message, is_error=True))
        elif layer.opaque is not None:
            skipped.append(NotCompared(number, layer.name, "opaque", layer.opaque, is_error=False))
        else:
            try:
                read.append(_begun(number, layer, _update(piece), alone=len(unit.holders) == 1))
            except OpaqueUpdateError as error:
                skipped.append(NotCompared(number, layer.name, error.code, error.message, is_error=False))
            except _LAYER_ERRORS as error:
                skipped.append(NotCompared(number, layer.name, error.code, error.message, is_error=True))
    return read, skipped


def _update(piece: Piece) -> Update:
    update = piece.layer.update()
    if isinstance(update, Opaque):
        raise OpaqueUpdateError(update.reason)
    return update if piece.rows is None else rows_of(update, *piece.rows)


def _begun(number: int, layer: Layer, update: Update, *, alone: bool) -> _Read:
    """Raises: NonFiniteError for NaN and infinity, which would make every figure of the layer NaN."""
    if isinstance(update, Stacked | Vector):
        inner_product(update, update)
        return _Read(number, layer, update, None)
    matrix = plain(update)
    if alone:
        inner_product(matrix, matrix)
        return _Read(number, layer, matrix, None)
    return _Read(number, layer, matrix, begin_span(matrix))


def rows_of(update: Update, start: int, stop: int) -> Update:
    """The delta of the rows ``[start, stop)``, in the kind that keeps it small.

    Raises: ShapeError for experts, whose rows belong to no fused weight.
    """
    match update:
        case LowRank():
            return LowRank(update.up[start:stop], update.down, update.scale, update.kernel, update.core)
        case Dense():
            return Dense(update.values[start:stop], update.scale)
        case Hadamard():
            sides = (rows_of(update.first, start, stop), rows_of(update.second, start, stop))
            assert isinstance(sides[0], LowRank)
            assert isinstance(sides[1], LowRank)
            return Hadamard(sides[0], sides[1], update.scale)
        case Kronecker():
            return rows_of(factors(update), start, stop)
        case Vector():
            return Vector(update.values[start:stop], update.scale)
        case _:
            raise ShapeError(f"a {type(update).__name__.lower()} update has no rows that belong to one weight")


def _of_one_shape(unit: Unit, held: list[_Held], skipped: list[NotCompared]) -> list[_Held]:
    """Those that agree with the first holder; the others are named as skipped."""
    kept: list[_Held] = []
    for one in held:
        if kept and _form(one.update) != _form(kept[0].update):
            found, wanted = _form(one.update), _form(kept[0].update)
            reason = f"{one.layer.name}: the delta is {found}, that of another adapter for {unit.name} is {wanted}"
            skipped.append(NotCompared(one.adapter, one.layer.name, "shape", reason, is_error=True))
        else:
            kept.append(one)
    return kept


def _form(update: Update) -> tuple[int, ...]:
    return tuple(update.shape) if isinstance(update, Stacked | Vector) else matrix_shape(update)


def _expert(held: list[_Held], expert: int) -> list[_Held]:
    made = []
    for one in held:
        assert isinstance(one.update, Stacked)  # all of one shape
        made.append(_begun(one.adapter, one.layer, one.update.parts[expert], alone=len(held) == 1))
    return list(_turned(made))


# -- comparing -----------------------------------------------------------------------------------------


def _compare(unit: Unit, name: str, held: list[_Held]) -> LayerComparison:
    count = len(unit.pieces)
    products = np.zeros((count, count))
    pairs: dict[Pair, LayerPair] = {}
    for one in held:
        energy = inner_product(one.update, one.update) if one.span is None else one.span.energy
        products[one.adapter, one.adapter] = max(energy, 0.0)
    for a, b in combinations(held, 2):
        i, j = a.adapter, b.adapter
        if a.span is None or b.span is None:
            products[i, j] = products[j, i] = inner_product(a.update, b.update)
            pairs[i, j] = _bare_pair(products, a, b)
        else:
            cross = crossing(a.span, b.span)
            products[i, j] = products[j, i] = product_of(a.update, b.update, (a.span, b.span), cross)
            pairs[i, j] = _pair(_bare_pair(products, a, b), a.span, b.span, cross)
    products.flags.writeable = False
    first_layer = held[0].layer
    names: list[str | None] = [None] * count
    ranks: list[int | None] = [None] * count
    for one in held:
        names[one.adapter], ranks[one.adapter] = one.layer.name, one.layer.rank
    return LayerComparison(
        name=_shown_name(unit, name, first_layer),
        names=tuple(names),
        component=first_layer.component,
        block=block_of(first_layer.name),
        shape=matrix_shape(held[0].update),
        stored_ranks=tuple(ranks),
        products=products,
        pairs=pairs,
    )


def _shown_name(unit: Unit, name: str, layer: Layer) -> str:
    """Units that met by name alone are called as the first holder spells them."""
    return name if "." in unit.name.removesuffix(BIAS) else layer.name + name.removeprefix(unit.name)


def _bare_pair(products: Float64Array, a: _Held, b: _Held) -> LayerPair:
    """What inner products alone say."""
    i, j = a.adapter, b.adapter
    together = products[np.ix_((i, j), (i, j))]
    out, columns = matrix_shape(a.update)
    return LayerPair(
        cosine=cosine(products, i, j),
        chance_cosine=1 / sqrt(out * columns) if out * columns else 0.0,
        relative_difference=relative_difference(together),
        interference=interference(together),
        coefficient=float(together[0, 1] / together[0, 0]) if together[0, 0] else None,
    )


def relative_difference(products: Float64Array) -> float | None:
    """``‖Δ₂ − Δ₁‖ / ‖Δ₁‖`` from their (2, 2) inner products; None where Δ₁ is zero. Nothing below 1e-8 is resolved."""
    if not products[0, 0]:
        return None
    return sqrt(max(float(products[0, 0] - 2 * products[0, 1] + products[1, 1]), 0.0) / float(products[0, 0]))


def _pair(bare: LayerPair, first: Span, second: Span, cross: Crossing) -> LayerPair:
    p, q = first.rank, second.rank
    if not p or not q:
        return bare
    size = first.shape[0] * first.shape[1]
    back = Crossing(cross.left.T, cross.right.T)
    return LayerPair(
        cosine=bare.cosine,
        chance_cosine=bare.chance_cosine,
        relative_difference=bare.relative_difference,
        interference=bare.interference,
        coefficient=bare.coefficient,
        second_within_first=energy_within(second, cross),
        first_within_second=energy_within(first, back),
        chance_within_first=p * p / size,
        chance_within_second=q * q / size,
        tail_first=_tail(first, q),
        tail_second=_tail(second, p),
        ranks=(p, q),
        left=_side(cross.left, lambda: (first.u(), second.u()), first.shape[0]),
        right=_side(cross.right, lambda: (first.v(), second.v()), first.shape[1]),
    )


def _tail(of: Span, kept: int) -> float:
    """Share of the energy that the best approximation of rank ``kept`` loses."""
    if kept >= of.rank:
        return max(1.0 - float(np.sum(np.square(of.s))) / of.energy, 0.0)
    lost = float(np.sum(np.square(of.s[kept:]))) + max(of.energy - float(np.sum(np.square(of.s))), 0.0)
    return lost / of.energy


def _side(cross: Float64Array, bases: Bases, dimension: int) -> SideOverlap:
    p, q = cross.shape
    angles = angles_of(cross, bases)
    rows, columns = _indices(p), _indices(q)
    grid = overlap_grid(cross, rows, columns)
    angles.flags.writeable = grid.flags.writeable = False
    return SideOverlap(angles, summarise_angles(angles, p, q, dimension), rows, columns, grid)


def _indices(rank: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the rank itself."""
    doubling = [1 << step for step in range(rank.bit_length()) if 1 << step < rank]
    return (*doubling, rank)
