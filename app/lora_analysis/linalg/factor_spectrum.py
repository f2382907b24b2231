"""Singular values of an update together with the sizes of its factors, from one pass over the values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..adapter import LowRank, Update
from .finite import finite, magnitude
from .floats import Float64Array, widen
from .gram import factor_squares
from .products import singular_values


class FactorSizes(NamedTuple):
    """Squared lengths along the rank, of the factors as they are stored. float64, ``(rank,)``."""

    up: Float64Array
    down: Float64Array


def measured(update: Update) -> tuple[Float64Array, FactorSizes | None]:
    """As ``products.singular_values``, and the factors' sizes where the update is two plain factors.

    Raises: as ``products.singular_values``.
    """
    if not isinstance(update, LowRank) or update.core is not None or 0 in update.up.shape or 0 in update.down.shape:
        return singular_values(update), None
    if update.rank < min(update.up.shape[0], update.down.shape[1]):
        squares = factor_squares(update.up, update.down)
        if squares is not None:
            values = finite(np.multiply, np.sqrt(squares.singular[::-1]), magnitude(update.scale))
            return values, FactorSizes(squares.up, squares.down)
    values = singular_values(update)  # first: it names what is not finite
    up, down = widen(update.up), widen(update.down)
    return values, FactorSizes(np.einsum("ij,ij->j", up, up), np.einsum("ij,ij->i", down, down))
