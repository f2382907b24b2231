"""The adapters' parts in one layer, as every merge method takes them: weighted deltas, kept factored.

A weight acts on the delta, once, before anything else: each method below works on ``wₜ Δₜ``. Nothing here depends on
how a delta is split into factors (``up G`` and ``G⁻¹ down`` are the same delta), only on the deltas themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import NamedTuple

import numpy as np

from ..adapter import LowRank
from ..errors import NonFiniteError
from .dense import unfold
from .finite import require_finite
from .floats import Float64Array, widen

_EPSILON = float(np.finfo(np.float64).eps)


class Task(NamedTuple):
    """One adapter's part in a layer."""

    number: int  # of the adapter among the inputs, from 0
    weight: float
    delta: LowRank  # its scale included, the weight not


class Canonical(NamedTuple):
    """``weight * delta = u * s @ vt``: the thin SVD without the values that are zero. float64."""

    u: Float64Array  # (out, rank) orthonormal columns
    s: Float64Array  # (rank,) positive, largest first
    vt: Float64Array  # (rank, columns) orthonormal rows

    @property
    def norm(self) -> float:
        """Frobenius norm of the weighted delta."""
        return float(np.linalg.norm(self.s))

    def factors(self, kernel: tuple[int, ...] = ()) -> LowRank:
        """The same as factors of scale 1, the root of each value on either side."""
        roots = np.sqrt(self.s)
        return LowRank(self.u * roots, roots[:, None] * self.vt, 1.0, kernel)


@dataclass(frozen=True, slots=True, eq=False)
class LayerTasks:
    """One matrix to merge: a layer, or one expert of it."""

    name: str  # of the layer: with the numbers it seeds what is random
    tasks: tuple[Task, ...]
    kernel: tuple[int, ...] = ()
    expert: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix, kernel positions among the columns."""
        first = self.tasks[0].delta
        return first.up.shape[0], columns_of(first)

    @property
    def weights(self) -> list[float]:
        """The weights, without their signs."""
        return [abs(task.weight) for task in self.tasks]

    @property
    def total_weight(self) -> float:
        """``Σ |wₜ|``: 1 for normalised weights of one sign."""
        return fsum(self.weights)

    def canonical(self) -> list[Canonical]:
        """The SVD of every weighted delta. Raises: NonFiniteError."""
        return [canonical(task.delta, task.weight) for task in self.tasks]


def columns_of(delta: LowRank) -> int:
    """Columns of the unfolded delta."""
    return int(delta.down.shape[1] if delta.core is None else unfold(delta).shape[1])


def canonical(delta: LowRank, weight: float = 1.0) -> Canonical:
    """The thin SVD of ``weight * delta`` by QR of both factors, which loses nothing to squaring.

    Values under ``max(out, columns) ε σ₁`` are rounding errors of zero and are left out: their vectors are arbitrary,
    and methods that give every direction the same say would make something of them.
    Raises: NonFiniteError.
    """
    up, down = widen(delta.up), unfold(delta)
    require_finite("up", up)
    require_finite("down", down)
    q_up, r_up = np.linalg.qr(up)
    q_down, r_down = np.linalg.qr(down.T)
    u, s, vt = np.linalg.svd(r_up @ r_down.T, full_matrices=False)
    factor = weight * delta.scale
    if not np.isfinite(factor):
        raise NonFiniteError(f"weight times scale is {factor}")
    s = s * abs(factor)
    kept = significant(s, max(up.shape[0], down.shape[1]))
    return Canonical(q_up @ u[:, :kept] * np.copysign(1.0, factor), s[:kept], vt[:kept] @ q_down.T)


def significant(values: Float64Array, size: int) -> int:
    """How many of the singular values, largest first, are more than the rounding errors of a matrix of that size."""
    return int(np.count_nonzero(values > size * _EPSILON * values[0])) if len(values) and values[0] > 0 else 0


def left_basis(parts: Sequence[Canonical]) -> tuple[Float64Array, Float64Array]:
    """``U``, ``Σ`` of ``[w₁Δ₁ w₂Δ₂ ...]``, side by side, without the values that are zero.

    ``[Δ₁ ...] = [u₁s₁ ...] blkdiag(v₁ᵀ, ...)``, and the right factor has orthonormal rows.
    """
    return _basis(np.concatenate([part.u * part.s for part in parts], axis=1), parts)


def right_basis(parts: Sequence[Canonical]) -> tuple[Float64Array, Float64Array]:
    """``V``, ``Σ`` of the weighted deltas one below the other."""
    return _basis(np.concatenate([part.vt.T * part.s for part in parts], axis=1), parts)


def _basis(stacked: Float64Array, parts: Sequence[Canonical]) -> tuple[Float64Array, Float64Array]:
    q, r = np.linalg.qr(stacked)
    u, s, _ = np.linalg.svd(r, full_matrices=False)
    kept = significant(s, max(stacked.shape[0], parts[0].vt.shape[1]))
    return q @ u[:, :kept], s[:kept]


class Core(NamedTuple):
    """Weighted deltas in a basis they share: ``wₜ Δₜ = left @ cores[t] @ right.T``, exactly."""

    left: Float64Array  # (out, p)
    right: Float64Array  # (columns, q)
    cores: Sequence[Float64Array]  # (p, q) each

    def expand(self, merged: Float64Array, kernel: tuple[int, ...]) -> LowRank:
        """``left @ merged @ right.T`` as factors."""
        return LowRank(self.left @ merged, np.ascontiguousarray(self.right.T), 1.0, kernel)


def core_of(parts: Sequence[Canonical]) -> Core:
    """The deltas in the singular vectors of all of them together, largest first.

    Source: Panariello et al., arXiv 2509.17786, for merging in such a core. Their bases come from the stored factors,
    which the same delta has many of; these come from the deltas.
    """
    left, right = left_basis(parts)[0], right_basis(parts)[0]
    cores = [(left.T @ (part.u * part.s)) @ (part.vt @ right) for part in parts]
    return Core(left, right, cores)


def is_nothing(parts: Sequence[Canonical]) -> bool:
    """Whether every delta is zero."""
    return all(not len(part.s) for part in parts)


def zero(layer: LayerTasks) -> LowRank:
    """The delta of a layer nobody trained."""
    rows, columns = layer.shape
    return LowRank(np.zeros((rows, 1)), np.zeros((1, columns)), 1.0, layer.kernel)
