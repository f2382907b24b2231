"""Symmetric matrices through products alone: leading eigenvectors with their residual, and bounds on single ones.

Both answer questions about the singular vectors of a base weight without all of them, which would cost a cubic
decomposition per weight.

* :func:`leading`: block Lanczos with full reorthogonalisation (G. Golub, R. Underwood, in *Mathematical Software III*,
  1977; convergence: C. Musco, C. Musco, NeurIPS 2015), from a fixed start, until ‖Av − λv‖ is small.
* :func:`heaviest`: the largest squared cosine that a vector has with any eigenvector, from above and from below, by
  Lanczos from that vector. From above by the Christoffel function: a distribution with orthonormal polynomials pₖ has
  no more mass at x than 1 / Σ pₖ(x)² (N. Akhiezer, *The Classical Moment Problem*, 1965, chapter 2). From below by
  eigenvectors that have converged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .floats import Float64Array

Apply = Callable[[Float64Array], Float64Array]  # rows (m, n) times a symmetric, positive semidefinite (n, n)

DENSE = 256  # size up to which every eigenvector is calculated
TOLERANCE = 1e-8  # ‖Av − λv‖ / λ₁ of the vectors asked for, where the limit allows
NULL = 1e-10  # eigenvalues below, relative, have no direction of their own: singular values below 1e-5 of the largest
KNOWN = 1e-6  # ‖Av − λv‖ / λ₁ of a vector that counts as known
_BLOCK, _LIMIT, _FIRST_LOOK, _LOOKED_AT = 8, 480, 96, 96
_STEPS, _BETWEEN, _SAFETY = 48, 16, 1.02
_RESOLVED = 1e-7  # eigenvalues nearer to each other, relative to the largest, may have merged
_SETTLED = 1e-5  # residual over the distance to the next eigenvalue: the angle to the true eigenvector
_ZERO = 1e-14  # eigenvalues of the leading ones below, relative, are rounding
_BREAKDOWN = 1e-9


class Leading(NamedTuple):
    """Eigenpairs, the largest first."""

    values: Float64Array  # (m,)
    vectors: Float64Array  # (m, n) rows
    residuals: Float64Array  # (m,) ‖Av − λv‖ / λ₁
    is_whole: bool  # every one of a value above rounding

    @property
    def known(self) -> int:
        """How many of the leading pairs are known to ``KNOWN``, up to the first that is not."""
        unknown = np.flatnonzero(self.residuals > KNOWN)
        return int(unknown[0]) if len(unknown) else len(self.values)


def leading(apply: Apply, size: int, count: int) -> Leading:
    """At least ``count`` leading eigenpairs, those of zero eigenvalues left out; more where they came for nothing."""
    if size <= DENSE:
        matrix = apply(np.eye(size))
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        return _positive(values[::-1], vectors.T[::-1], matrix, is_whole=True)
    random = np.random.default_rng(0)
    basis, image = np.empty((min(size, _LIMIT), size)), np.empty((min(size, _LIMIT), size))
    block: Float64Array = random.standard_normal((_BLOCK, size))
    held, look = 0, max(_FIRST_LOOK, 3 * count)
    while True:
        block = _orthonormal(block, basis[:held], random)
        stop = held + len(block)
        basis[held:stop], block = block, apply(block)
        image[held:stop], held = block, stop
        is_last = held + _BLOCK > len(basis)
        if held >= look or is_last:
            found = _ritz(basis[:held], image[:held], max(count, _LOOKED_AT))
            if is_last or np.max(found.residuals[:count], initial=0.0) <= TOLERANCE:
                return found
            look = held + held // 5


def _orthonormal(block: Float64Array, basis: Float64Array, random: np.random.Generator) -> Float64Array:
    """Orthonormal rows, orthogonal to those of ``basis``. Rows that it holds already are replaced by random ones."""
    for _ in range(2):
        sizes = np.linalg.norm(block, axis=1)
        block = block - (block @ basis.T) @ basis
        lost = np.linalg.norm(block, axis=1) <= _BREAKDOWN * sizes
        if np.any(lost):
            fresh = random.standard_normal((int(np.count_nonzero(lost)), block.shape[1]))
            block[lost] = fresh - (fresh @ basis.T) @ basis
        block = _unit(block)
    return _unit(block - (block @ basis.T) @ basis)


def _unit(block: Float64Array) -> Float64Array:
    """Orthonormal rows of the same span."""
    return np.ascontiguousarray(np.linalg.qr(block.T)[0].T)


def _ritz(basis: Float64Array, image: Float64Array, count: int) -> Leading:
    """The best eigenpairs within the span of ``basis``."""
    inside = basis @ image.T
    values, turns = np.linalg.eigh((inside + inside.T) / 2)
    turns = turns[:, : -count - 1 : -1].T
    return _positive(values[: -count - 1 : -1], turns @ basis, turns @ image, is_whole=False)


def _positive(values: Float64Array, vectors: Float64Array, images: Float64Array, *, is_whole: bool) -> Leading:
    kept = max(int(np.count_nonzero(values > _ZERO * values[0])), 1)
    values, vectors = values[:kept], np.ascontiguousarray(vectors[:kept])
    if is_whole:
        images = vectors @ images  # of the unit vectors so far
    residuals = np.linalg.norm(images[:kept] - values[:, None] * vectors, axis=1) / (values[0] or 1.0)
    return Leading(values, vectors, residuals, is_whole)


# -- one vector among all eigenvectors ---------------------------------------------------------------------


class Heaviest(NamedTuple):
    """Squared cosines with the eigenvector that a vector resembles most: not below, not above. Both (m,)."""

    low: Float64Array
    high: Float64Array


def heaviest(apply: Apply, starts: Float64Array, top: float, *, in_image: bool = False) -> Heaviest:
    """Bounds for the rows of ``starts`` (m, n); ``top`` is the largest eigenvalue. Eigenvectors to zero do not count.

    ``in_image``: with ``A = M Mᵀ``, the rows x stand for ``Mᵀ x``, and the eigenvectors are those of ``Mᵀ M`` with
    eigenvalues above zero, to the same values.
    """
    steps = min(_STEPS, starts.shape[1])
    masses, diagonal, side = _lanczos(apply, starts, top, steps, in_image)
    shares = np.array([_bounds(a, b) for a, b in zip(diagonal, side, strict=True)])
    return Heaviest(shares[:, 0] * masses, np.minimum(shares[:, 1], 1.0) * masses)


def _bounds(diagonal: Float64Array, side: Float64Array) -> tuple[float, float]:
    """The largest single mass, of 1 in all, in a distribution above zero with this tridiagonal matrix."""
    ended = np.flatnonzero(side <= _BREAKDOWN)
    length = int(ended[0]) + 1 if len(ended) else len(side)
    a, b = diagonal[:length], side[: length - 1]
    nodes, turns = np.linalg.eigh(np.diag(a) + np.diag(b, 1) + np.diag(b, -1))
    if nodes[0] < -KNOWN or nodes[-1] > 1 + KNOWN:  # lost in rounding, where many eigenvalues are zero
        return 0.0, 1.0
    weights, has_value = turns[0] ** 2, nodes > NULL
    distances = np.diff(nodes, prepend=-np.inf, append=np.inf)
    residuals = np.maximum(np.abs(turns[-1]) * side[length - 1], _RESOLVED)
    settled = has_value & (residuals <= _SETTLED * np.minimum(distances[:-1], distances[1:]))
    low = float(np.max(weights[settled], initial=0.0))
    if len(ended):
        return low, float(np.max(weights[has_value], initial=0.0))
    # Where zero is an eigenvalue, no polynomial tells it from one just above.
    return low, _SAFETY / _least_kernel(nodes, a, b) if has_value[0] else 1.0


def _lanczos(
    apply: Apply, starts: Float64Array, top: float, steps: int, in_image: bool
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Squared norms of the starts, and the tridiagonal matrices of ``A / top`` from them: diagonals and sides."""
    count, size = starts.shape
    basis, dual = np.zeros((count, steps, size)), np.zeros((count, steps, size))
    diagonal, side = np.zeros((count, steps)), np.zeros((count, steps))
    rows, images = starts, apply(starts) / top
    masses = norms = np.sum(rows * (images * top if in_image else rows), axis=1)
    for step in range(steps):
        # A start whose space is exhausted goes on as zero.
        scale = np.where(norms > 0, 1.0, 0.0) / np.sqrt(np.where(norms > 0, norms, 1.0))
        basis[:, step] = rows * scale[:, None]
        following = images * scale[:, None]
        dual[:, step] = following * top if in_image else basis[:, step]
        diagonal[:, step] = np.sum(following * dual[:, step], axis=1)
        known, against = basis[:, : step + 1], dual[:, : step + 1]
        rows = following
        for _ in range(2):
            rows = rows - np.matmul(np.matmul(against, rows[:, :, None])[:, None, :, 0], known)[:, 0]
        images = apply(rows) / top
        norms = np.sum(rows * (images * top if in_image else rows), axis=1)
        side[:, step] = np.sqrt(np.maximum(norms, 0.0))
        norms = np.where(side[:, step] > _BREAKDOWN, norms, 0.0)
    return masses, diagonal, side


def _least_kernel(nodes: Float64Array, diagonal: Float64Array, side: Float64Array) -> float:
    """The least Σ pₖ(x)² from the first node to the last. Outside, every |pₖ| grows."""
    part = np.linspace(0.0, 1.0, _BETWEEN, endpoint=False)
    x = np.append((nodes[:-1, None] + np.diff(nodes)[:, None] * part).ravel(), nodes[-1])
    before, now = np.zeros_like(x), np.ones_like(x)
    kernel = np.ones_like(x)
    for step in range(len(diagonal) - 1):
        behind = side[step - 1] * before if step else 0.0
        before, now = now, ((x - diagonal[step]) * now - behind) / side[step]
        kernel += now**2
    return float(np.min(kernel))
