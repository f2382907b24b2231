"""DoRA as a difference: what it adds to its base weight, which only the base weight says.

::

    W' = m ∘ (W + Δ) / ‖W + Δ‖        norms of rows (axis "out") or of input columns (axis "in"), m the trained norms

Source: Liu et al., arXiv 2402.09353. ``W' - W`` has full rank.
"""

from __future__ import annotations

import numpy as np

from ..adapter import Axis, Dense, Magnitude, Update
from ..errors import NonFiniteError, ShapeError
from .dense import materialise
from .floats import Float64Array, widen


def dora_difference(update: Update, magnitude: Magnitude, base: Float64Array) -> Dense:
    """``W' - W`` in float64, of the delta's shape. ``base`` holds W in the delta's orientation, any shape of its size.

    Raises: ShapeError where the magnitude does not fit; NonFiniteError where a norm is 0 or nothing is a number.
    """
    delta = materialise(update)
    weight = widen(base).reshape(delta.shape)
    changed = weight + delta
    norms = _norms(changed, magnitude.axis)
    trained = widen(magnitude.values)
    if trained.size != norms.size:
        raise ShapeError(f"{trained.size} magnitudes, {norms.size} norms on the {magnitude.axis} axis")
    if not np.all(norms > 0):
        raise NonFiniteError("a row or column of base + delta is zero or no number: DoRA divides by its norm")
    return Dense(changed * (trained.reshape(norms.shape) / norms) - weight)


def _norms(weight: Float64Array, axis: Axis) -> Float64Array:
    others = tuple(i for i in range(weight.ndim) if i != (0 if axis == "out" else 1))
    return np.asarray(np.sqrt(np.sum(weight**2, axis=others, keepdims=True)))
