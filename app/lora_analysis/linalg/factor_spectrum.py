"""Singular values of updates together with the sizes of their factors, from one pass over the values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..adapter import LowRank, Update
from .finite import finite, magnitude
from .floats import Float64Array, widen
from .gram import FactorGrams, FactorProblem, FactorSquares, factor_problem, factor_squares
from .products import singular_values


class FactorSizes(NamedTuple):
    """Squared lengths along the rank, of the factors as they are stored. float64, ``(rank,)``."""

    up: Float64Array
    down: Float64Array


class Measured(NamedTuple):
    """Singular values, largest first, scale included; the factors' sizes where the update is two plain factors."""

    values: Float64Array
    sizes: FactorSizes | None


class Begun(NamedTuple):
    """An update whose values were read; what is left is small."""

    update: Update
    problem: FactorProblem | None  # None where :meth:`finish` takes the long way


def begin(update: Update, grams: FactorGrams | None = None) -> Begun:
    """The part of the work that is as large as the update. ``grams``: of its factors, where they are known."""
    if not isinstance(update, LowRank) or update.core is not None or 0 in update.up.shape or 0 in update.down.shape:
        return Begun(update, None)
    if update.rank >= min(update.up.shape[0], update.down.shape[1]):
        return Begun(update, None)
    return Begun(update, factor_problem(update.up, update.down, grams))


def finish(begun: Sequence[Begun]) -> list[Callable[[], Measured]]:
    """The rest, for several at once, which lets threads run side by side (see ``streams.together``).

    Returns: a function for each, so that what is wrong with one is its own affair: they raise as
    ``products.singular_values`` does.
    """
    problems = [(at, one.problem) for at, one in enumerate(begun) if one.problem is not None]
    solved = factor_squares([problem for _, problem in problems])
    by_position = dict(zip((at for at, _ in problems), solved, strict=True))
    return [_later(one.update, by_position.get(at)) for at, one in enumerate(begun)]


def _later(update: Update, squares: FactorSquares | None) -> Callable[[], Measured]:
    return lambda: _finished(update, squares)


def _finished(update: Update, squares: FactorSquares | None) -> Measured:
    if squares is not None:
        assert isinstance(update, LowRank)  # no other has a problem to solve
        values = finite(np.multiply, np.sqrt(squares.singular[::-1]), magnitude(update.scale))
        return Measured(values, FactorSizes(squares.up, squares.down))
    values = singular_values(update)  # first: it names what is not finite
    if not isinstance(update, LowRank) or update.core is not None:
        return Measured(values, None)
    up, down = widen(update.up), widen(update.down)
    return Measured(values, FactorSizes(np.einsum("ij,ij->j", up, up), np.einsum("ij,ij->i", down, down)))
