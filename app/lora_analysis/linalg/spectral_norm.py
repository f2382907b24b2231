"""The largest singular value of a large matrix, through products with vectors alone."""

from __future__ import annotations

import numpy as np

from ..adapter import FloatArray
from .floats import Float64Array

_STEPS = 160
_RESIDUAL = 1e-4  # ‖A v − θ v‖ / θ at which to stop: some eigenvalue of A is as near, the largest one much nearer
_LOOK = 8  # steps between two looks


def spectral_norm(matrix: FloatArray) -> float:
    """σ₁ of ``matrix`` (m, n), float32 or float64, from a fixed start: the same matrix gives the same value.

    Lanczos on the smaller Gram side with full reorthogonalisation, until the residual says that σ₁ is known to
    0.005 %; where the largest values lie closer than that, the answer is one of them. Powers alone would be off by
    percents there: σ₁ of a matrix that is nearly noise has many neighbours.

    Source: C. Lanczos, J. Res. Nat. Bur. Standards 45 (1950) 255-282; B. Parlett, *The Symmetric Eigenvalue Problem*,
    1980, chapter 13.
    """
    rows = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    size = rows.shape[0]
    unit = float(max(rows.max(initial=0.0), -rows.min(initial=0.0)))
    if unit == 0.0:
        return 0.0
    vector: Float64Array = np.random.default_rng(0).standard_normal((size,))
    basis = np.empty((min(_STEPS, size), size))
    diagonal, side = np.zeros(len(basis)), np.zeros(len(basis))
    length = float(np.linalg.norm(vector))
    value = 0.0  # of the Gram matrix
    for step in range(len(basis)):
        basis[step] = vector / length
        image = _applied(rows, basis[step], unit)
        diagonal[step] = float(image @ basis[step])
        known = basis[: step + 1]
        for _ in range(2):
            image = image - (known @ image) @ known
        vector = image
        length = float(np.linalg.norm(image))
        side[step] = length
        scale = max(float(diagonal[: step + 1].max()), value)
        is_last = step + 1 == len(basis) or length <= 1e-7 * scale  # float32 products know no smaller rest
        if is_last or step % _LOOK == _LOOK - 1:
            value, residual = _largest(diagonal[: step + 1], side[: step + 1])
            if is_last or residual <= _RESIDUAL * value:
                break
    return unit * float(np.sqrt(max(value, 0.0)))


def _applied(rows: FloatArray, vector: Float64Array, unit: float) -> Float64Array:
    """``rows · rowsᵀ · vector / unit²``, in the matrix's own precision and within its range, whatever its size."""
    inside = np.asarray(rows.T @ vector.astype(rows.dtype), np.float64) / unit
    return np.asarray(rows @ inside.astype(rows.dtype), np.float64) / unit


def _largest(diagonal: Float64Array, side: Float64Array) -> tuple[float, float]:
    """The largest eigenvalue of the tridiagonal matrix, and the residual of its vector in the whole space."""
    inner = side[:-1]
    values, turns = np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
    return float(values[-1]), float(side[-1] * abs(turns[-1, -1]))
