"""The deltas of the layers that are compared, read from their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ..adapter import Dense, Finding, Hadamard, Kronecker, Layer, LowRank, Opaque, Update, Vector
from ..errors import FormatError, NonFiniteError, OpaqueUpdateError, ShapeError
from ..linalg.products import factors
from .units import Piece, Unit
from .values import NotCompared

# What is wrong with one layer. Anything else, a file that is gone or a request to stop, concerns the whole.
LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


class Read(NamedTuple):
    """One adapter's delta for a unit."""

    adapter: int
    layer: Layer
    update: Update


def read_unit(errors: tuple[Mapping[str, Finding], ...], unit: Unit) -> tuple[list[Read], list[NotCompared]]:
    """What each adapter has for the unit, and which pieces cannot be compared. Raises: FileAccessError."""
    read: list[Read] = []
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
                read.append(Read(number, layer, _update(piece)))
            except OpaqueUpdateError as error:
                skipped.append(NotCompared(number, layer.name, error.code, error.message, is_error=False))
            except LAYER_ERRORS as error:
                skipped.append(NotCompared(number, layer.name, error.code, error.message, is_error=True))
    return read, skipped


def _update(piece: Piece) -> Update:
    update = piece.layer.update()
    if isinstance(update, Opaque):
        raise OpaqueUpdateError(update.reason)
    return update if piece.rows is None else rows_of(update, *piece.rows)


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
