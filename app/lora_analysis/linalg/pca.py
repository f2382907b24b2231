"""Principal components of a standardised matrix, as scikit-learn's ``StandardScaler`` and ``PCA(svd_solver="full")``.

::

    Z = (X - mean) / std        per column; a constant column becomes zeros
    Z - mean = U S Vᵀ           components Vᵀ, scores U S, explained variance S² / (samples - 1)

**The fast route.** S² are the eigenvalues of the smaller of ``Z Zᵀ`` and ``Zᵀ Z``, which for a LoRA factor is rank x
rank. Forming it in float64 perturbs every eigenvalue by a small multiple of ``ε λ₁``, so S has the relative error
``ε λ₁ / 2λ``: below 2e-9 for every component asked for where the last of them has ``λ ≥ 1e-7 λ₁``. That is ``TRUSTED``,
and it is measured, after the fact: below it the full SVD of Z is taken. The choice depends on the values alone.

Signs: of each component the element of the largest absolute value is positive, as in scikit-learn 1.5 and later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .finite import require_finite
from .floats import Float64Array, widen

if TYPE_CHECKING:
    from ..adapter import FloatArray

TRUSTED = 1e-7  # smallest wanted eigenvalue over the largest


class PrincipalComponents(NamedTuple):
    """float64. Arrays are None where only values were asked for."""

    singular_values: Float64Array  # (k,) S, largest first
    explained_variance_ratio: Float64Array  # (k,) S² / ΣS², 0 where nothing varies
    total_variance: float  # ΣS² / (samples - 1), 0 for one sample
    components: Float64Array | None  # (k, features) orthonormal rows
    scores: Float64Array | None  # (samples, k) the samples in these directions
    constant_columns: int  # that standardising turned into zeros


def principal_components(matrix: FloatArray, count: int, *, arrays: bool = True) -> PrincipalComponents:
    """The ``count`` leading principal components of the standardised rows of ``matrix`` (samples, features).

    ``count`` is at most ``min(samples, features)``. A matrix in which nothing varies has zeros everywhere, and
    components that are any orthonormal rows. Raises: NonFiniteError.
    """
    require_finite("the matrix", matrix)
    z, constant = standardised(matrix)
    z -= z.mean(axis=0)  # PCA centres again: of values that hardly differ, rounding leaves a mean beside their spread
    samples, features = z.shape
    gram = z.T @ z if features <= samples else z @ z.T
    energy = float(np.trace(gram))
    values, vectors = _eigen(gram, count, arrays=arrays)
    if values is None:
        left, s, right = _svd(z, count, arrays=arrays)
        squares = np.square(s)
    else:
        squares, s = values, np.sqrt(values)
        left, right = _both_sides(z, s, vectors, right=features <= samples)
    if left is not None and right is not None:
        signs = _signs(right)
        left, right = left * signs, right * signs[:, None]
    return PrincipalComponents(
        singular_values=s,
        explained_variance_ratio=squares / energy if energy else np.zeros(len(s)),
        total_variance=energy / (samples - 1) if samples > 1 else 0.0,
        components=right,
        scores=left,
        constant_columns=constant,
    )


def standardised(matrix: FloatArray) -> tuple[Float64Array, int]:
    """Columns brought to mean 0 and (population) variance 1, and how many were constant and became zeros.

    Constant is what scikit-learn calls so: a variance that rounding of the mean explains.
    """
    z = np.array(widen(matrix))
    samples, epsilon = z.shape[0], np.finfo(np.float64).eps
    mean = z.mean(axis=0)
    z -= mean
    variance = np.einsum("ij,ij->j", z, z) / samples - z.mean(axis=0) ** 2
    constant = variance <= samples * epsilon * variance + (samples * mean * epsilon) ** 2
    z /= np.sqrt(np.where(constant, 1.0, variance))
    z[:, constant] = 0.0  # not the rounding that is left: where nothing else varies, it would be all of the variance
    return z, int(np.count_nonzero(constant))


def signed_like_components(rows: Float64Array) -> Float64Array:
    """``(k,)`` of ±1 that make the largest element of every row positive."""
    return _signs(rows)


def _eigen(gram: Float64Array, count: int, *, arrays: bool) -> tuple[Float64Array | None, Float64Array | None]:
    """The ``count`` largest eigenvalues, largest first, and vectors as columns; None where not to be trusted."""
    if arrays:
        values, vectors = np.linalg.eigh(gram)
        chosen = vectors[:, : -count - 1 : -1]
    else:
        values, chosen = np.linalg.eigvalsh(gram), None
    wanted = values[: -count - 1 : -1]
    return (wanted, chosen) if wanted[-1] > TRUSTED * max(wanted[0], 0.0) else (None, None)


def _both_sides(
    z: Float64Array, s: Float64Array, vectors: Float64Array | None, *, right: bool
) -> tuple[Float64Array | None, Float64Array | None]:
    """Scores and components from the eigenvectors of either Gram matrix."""
    if vectors is None:
        return None, None
    if right:
        return z @ vectors, vectors.T
    return vectors * s, (vectors.T @ z) / s[:, None]


def _svd(z: Float64Array, count: int, *, arrays: bool) -> tuple[Float64Array | None, Float64Array, Float64Array | None]:
    if not arrays:
        return None, np.linalg.svd(z, compute_uv=False)[:count], None
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    return u[:, :count] * s[:count], s[:count], vt[:count]


def _signs(rows: Float64Array) -> Float64Array:
    largest = rows[np.arange(len(rows)), np.argmax(np.abs(rows), axis=1)]
    return np.where(largest < 0, -1.0, 1.0)
