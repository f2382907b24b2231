"""The fast route to the SVD of a factored product: everything large happens in two Gram matrices.

::

    Gu = upᵀ up      Gd = down downᵀ                 float64
    Gd = L Lᵀ        M = Lᵀ Gu L = W Λ Wᵀ            one r x r eigenproblem
    σ = √Λ           U = up L W σ⁻¹     Vᵀ = Wᵀ L⁻¹ down

**How accurate.** Forming and factoring the Gram matrices in float64 perturbs every eigenvalue of M by a small
multiple of ``ε ‖Gu‖ ‖Gd‖``, whatever the eigenvalue: Gu by ``ε ‖Gu‖``, the Cholesky factor by ``ε ‖Gd‖`` (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., theorem 10.3), the eigensolver by ``ε ‖M‖``. So σ has the
relative error ``ε ‖Gu‖ ‖Gd‖ / 2λ``, at most ``1e-7`` times a small factor where ``λ ≥ 1e-9 ‖Gu‖ ‖Gd‖``. That is
``TRUSTED``, and it is measured on the smallest eigenvalue, after the fact: below it the caller takes Householder QR.
Measured on graded spectra of ranks 4 to 128, the factor is at most 0.5 and the error at the limit 5e-8.
The same bound keeps the condition numbers of Gu and Gd under 1e9, so the rows of Vᵀ are orthonormal to 1e-7.

**A truncation needs less.** Only the eigenvalues that are kept have to be trusted; of the others their sum counts,
which is known to ``ε ‖Gu‖ ‖Gd‖`` however they are distributed. So factors may be linearly dependent there, as those
of a sum of an adapter and its own resized copy are: ``Gd`` is then singular, Cholesky fails, and ``L`` comes from the
eigenvectors of ``Gd`` (any ``L`` with ``L Lᵀ = Gd`` does). ``Vᵀ = Λ⁻¹ (L W)ᵀ Gu down`` needs no inverse of it.

**Why not float32.** Gram products in float32 are 2.3 times faster (0.30 against 0.69 ms for 1280 x 128), but products
of fp16 values fill 22 of float32's 24 bits, so sums round at once: ``ε`` is 6e-8 and nothing under 3e-3 σ₁ holds to
1e-5. Splitting values to make the sums exact costs more products than float64 does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .floats import Float64Array, widen

if TYPE_CHECKING:
    from ..adapter import FloatArray

TRUSTED = 1e-9  # smallest eigenvalue over ‖Gu‖ ‖Gd‖ for which the eigenvalues are used
_EPSILON = 2.0**-52
_NEGLIGIBLE = 3e-7  # noise in the norm of what is dropped, over the norm of all; reports promise 1e-6
_TRACES = (1e-120, 1e120)  # outside, products of two Gram matrices could over- or underflow
_BLOCK_VALUES = 1 << 17  # a megabyte in float64: a widened block stays in the second-level cache
_PANELS, _LEAST_PANEL = 4, 32  # of triangular products: more save more of the work, and cost more calls
_PADDING = 8  # values: a cache line
_LEAST_COLUMNS = 256  # adding up rank x rank results stays cheap beside calculating them


class FactorGrams(NamedTuple):
    """The Gram matrices of both factors of a product: ``upᵀ up`` and ``down downᵀ``, float64, a scale left out."""

    up: Float64Array  # (rank, rank)
    down: Float64Array  # (rank, rank)


class GramBasis(NamedTuple):
    """``up @ down`` in the coordinates of its rank: all arrays are float64, eigenvalues ascend."""

    eigenvalues: Float64Array  # (rank,) squares of the singular values, none negative
    vectors: Float64Array  # (rank, rank) W, columns
    root: Float64Array | None  # (rank, rank) L; None for the identity, where there is no down
    gram_up: Float64Array | None  # (rank, rank) Gu; None where there is no down
    trusted: int  # so many of the largest eigenvalues, and their vectors, are good; of the rest only the sum is


def squared_norm(up: FloatArray, down: FloatArray | None) -> float | None:
    """``‖up down‖²``, Frobenius: ``<Gu, Gd>``. None where it could not be trusted: the products cancel.

    Without ``down``: of the matrix ``up``.
    """
    if down is None:
        values = widen(up).ravel()
        square = float(np.vdot(values, values))
        return square if _TRACES[0] <= square <= _TRACES[1] else None
    return squared_norm_of(gram(up.T), gram(down))


def squared_norm_of(gram_up: Float64Array, gram_down: Float64Array) -> float | None:
    """As ``squared_norm``, from both Gram matrices."""
    if not (_in_range(gram_up) and _in_range(gram_down)):
        return None
    square = float(np.vdot(gram_up, gram_down))
    return square if square >= TRUSTED * float(np.linalg.norm(gram_up) * np.linalg.norm(gram_down)) else None


def squared_singular_values(up: FloatArray, down: FloatArray | None) -> Float64Array | None:
    """Squares of the singular values of ``up @ down``, ascending; None where they could not be trusted.

    Without ``down``: of the matrix ``up``.
    """
    problem = _eigenproblem(up, down)
    if problem is None:
        return None
    eigenvalues = np.linalg.eigvalsh(problem.matrix)
    return eigenvalues if eigenvalues[0] >= TRUSTED * problem.bound else None


class FactorSquares(NamedTuple):
    """Of a factored product, what its two Gram matrices show at once. float64."""

    singular: Float64Array  # (rank,) squares of the singular values, ascending
    up: Float64Array  # (rank,) squared lengths of the columns of ``up``
    down: Float64Array  # (rank,) squared lengths of the rows of ``down``


class FactorProblem(NamedTuple):
    """The eigenproblem of a factored product, not solved yet: a few hundred kilobytes at rank 128."""

    matrix: Float64Array  # (rank, rank), of which the lower triangle counts
    up: Float64Array  # as in FactorSquares
    down: Float64Array
    bound: float


def factor_problem(up: FloatArray, down: FloatArray, known: FactorGrams | None = None) -> FactorProblem | None:
    """What :func:`factor_squares` solves; None where another route has to be taken. ``known``: both Gram matrices."""
    problem = _eigenproblem(up, down, known=known)
    if problem is None or problem.root is None or problem.gram_up is None:
        return None
    down_squares = np.sum(np.square(problem.root), axis=1)
    return FactorProblem(problem.matrix, problem.gram_up.diagonal().copy(), down_squares, problem.bound)


def factor_squares(problems: Sequence[FactorProblem]) -> list[FactorSquares | None]:
    """As ``squared_singular_values`` of each, with the sizes of both factors along the rank.

    Those of one rank are solved in one call, see ``streams.together``.
    """
    by_rank: dict[int, list[int]] = {}
    for at, problem in enumerate(problems):
        by_rank.setdefault(len(problem.matrix), []).append(at)
    found: list[FactorSquares | None] = [None] * len(problems)
    for group in by_rank.values():
        solved = np.linalg.eigvalsh(np.stack([problems[at].matrix for at in group]))
        for at, eigenvalues in zip(group, solved, strict=True):
            _, up, down, bound = problems[at]
            if eigenvalues[0] >= TRUSTED * bound:
                found[at] = FactorSquares(eigenvalues, up, down)
    return found


def gram_basis(
    up: FloatArray, down: FloatArray | None, kept: int | None = None, known: FactorGrams | None = None
) -> GramBasis | None:
    """Eigenvalues and vectors of ``up @ down`` in its rank space; None where they could not be trusted.

    Without ``down``: of the matrix ``up``, which must not be wider than tall. ``kept``: how many of the largest are
    wanted; by default all. ``known``: the Gram matrices of both factors, where they are there.
    """
    problem = _eigenproblem(up, down, may_be_singular=kept is not None, known=known)
    if problem is None:
        return None
    eigenvalues, vectors = np.linalg.eigh(problem.matrix)
    trusted = len(eigenvalues)
    if eigenvalues[0] < TRUSTED * problem.bound:
        if kept is None or not _holds_truncation(eigenvalues, kept, problem.bound):
            return None
        trusted = kept
    return GramBasis(np.maximum(eigenvalues, 0.0), vectors, problem.root, problem.gram_up, trusted)


def _holds_truncation(eigenvalues: Float64Array, kept: int, bound: float) -> bool:
    """Whether the ``kept`` largest can be trusted, and the sum of the others; all are not."""
    rank = len(eigenvalues)
    noise = sqrt(rank) * _EPSILON * bound  # of any sum of eigenvalues: a trace is at most √rank times its norm
    is_known = noise <= _NEGLIGIBLE**2 * float(np.sum(eigenvalues))
    return kept < rank and is_known and bool(eigenvalues[rank - kept] >= TRUSTED * bound)


def leading_vectors(
    up: Float64Array, down: Float64Array | None, basis: GramBasis, kept: int
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """``u`` (out, kept), all singular values, largest first, and ``vt`` (kept, in * k)."""
    squares = basis.eigenvalues[::-1]
    values = np.sqrt(squares)
    vectors = basis.vectors[:, : -kept - 1 : -1]  # (rank, kept), of the largest first
    if down is None or basis.root is None or basis.gram_up is None:
        return up @ (vectors / values[:kept]), values, vectors.T
    columns = basis.root @ vectors
    right = (columns.T @ basis.gram_up) / squares[:kept, None]
    return up @ (columns / values[:kept]), values, right @ down


class _Eigenproblem(NamedTuple):
    matrix: Float64Array  # M, of which the lower triangle counts
    root: Float64Array | None  # L
    gram_up: Float64Array | None  # Gu
    bound: float  # ‖Gu‖ ‖Gd‖


def _eigenproblem(
    up: FloatArray, down: FloatArray | None, *, may_be_singular: bool = False, known: FactorGrams | None = None
) -> _Eigenproblem | None:
    """None where the factors are not finite or out of range, or the rows of ``down`` depend on each other."""
    if down is None:
        matrix = gram(up.T if up.shape[0] >= up.shape[1] else up)  # the short side; vectors need the columns
        return _Eigenproblem(matrix, None, None, float(np.linalg.norm(matrix))) if _in_range(matrix) else None
    gram_up, gram_down = known or FactorGrams(gram(up.T), gram(down))
    if not (_in_range(gram_up) and _in_range(gram_down)):
        return None
    bound = float(np.linalg.norm(gram_up) * np.linalg.norm(gram_down))
    try:
        root = np.linalg.cholesky(gram_down)
    except np.linalg.LinAlgError:
        if not may_be_singular:
            return None
        eigenvalues, vectors = np.linalg.eigh(gram_down)
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))
        return _Eigenproblem(root.T @ gram_up @ root, root, gram_up, bound)
    return _Eigenproblem(_congruent(gram_up, root), root, gram_up, bound)


def _congruent(gram_up: Float64Array, root: Float64Array) -> Float64Array:
    """``Lᵀ Gu L`` for a lower triangular L, its lower triangle only: half the work. ``eigh`` reads no more."""
    rank = len(root)
    width = max(_LEAST_PANEL, ceil(rank / _PANELS))
    product = np.zeros((rank, rank))
    for start in range(0, rank, width):
        columns = slice(start, start + width)
        half = gram_up[start:, start:] @ root[start:, columns]  # the rows that are needed
        for first in range(start, rank, width):
            rows = slice(first, first + width)
            np.matmul(root[first:, rows].T, half[first - start :], out=product[rows, columns])
    return product


def _in_range(matrix: Float64Array) -> bool:
    return _TRACES[0] <= float(matrix.trace()) <= _TRACES[1]  # false for NaN too


def gram(rows: FloatArray, columns: int = _LEAST_COLUMNS) -> Float64Array:
    """``rows @ rows.T`` in float64, for few long rows of any stored dtype, at least so many ``columns`` at a time."""
    total: Float64Array | None = None
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the traces
        for block in _widened_blocks(rows, columns):
            # numpy hands a product with the own transpose to syrk: half the work.
            product = np.matmul(block, block.T, out=_apart(len(rows)))
            total = product if total is None else np.add(total, product, out=total)
    return np.zeros((len(rows), len(rows))) if total is None else total


def _apart(rank: int) -> Float64Array:
    """Room for a square matrix whose rows do not lie a power of two apart.

    numpy mirrors the triangle that syrk leaves, column by column: rows of 2 KiB then share a few lines of the cache.
    Measured at rank 256: 0.1 of 1.6 ms.
    """
    return np.empty((rank, rank + _PADDING))[:, :rank]


def _widened_blocks(rows: FloatArray, columns: int) -> Iterator[Float64Array]:
    """``rows`` in float64, some columns at a time, all blocks about equal. They share one buffer."""
    rank, length = rows.shape
    count = ceil(length / max(columns, _BLOCK_VALUES // rank))
    width = ceil(length / max(count, 1))
    buffer = np.empty(rank * width)
    is_tall = rows.strides[0] < rows.strides[1]
    for start in range(0, length, width):
        # Always one piece of memory: of the transpose where that is how the values lie.
        stored = rows.T[start : start + width] if is_tall else rows[:, start : start + width]
        if stored.dtype != np.float64:
            stored = widen(stored, out=buffer[: stored.size].reshape(stored.shape))
        yield stored.T if is_tall else stored
