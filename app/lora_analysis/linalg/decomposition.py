"""A factored delta decomposed once and truncated later, at any rank: what a plan keeps for the writer.

The singular vectors of ``up @ down`` are ``up`` and ``down`` times small matrices. Kept are those, in float32, which
is a few hundred bytes per rank and layer whatever the size of the layer. Applying them costs two products.

**Accuracy.** The eigenproblem is solved in float64 (see ``gram.py``). Rounding the maps and the products to float32
moves the truncated delta by a small multiple of ``2^-24 σ₁``: measured at most 3e-7 of its norm, which is below the
rounding to fp16 by three orders. What asks for more (factors stored in float64) has no decomposition here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import copysign
from typing import NamedTuple, TypeAlias

import numpy as np

from ..adapter import LowRank
from .finite import finite, magnitude
from .floats import Float32Array, Float64Array, widen
from .gram import gram_basis

_RANGE = (1e-12, 1e12)  # of singular values and maps: squares of rounding errors then stay within float32


@dataclass(frozen=True, slots=True, eq=False)
class Decomposition:
    """Singular values, and the maps from factors to balanced factors: the root of each value goes on either side."""

    singular_values: Float64Array  # all of them, largest first, scale included; of those not kept the norm is good
    left: Float32Array  # (rank, kept): up @ left has the columns u * sqrt(s)
    right: Float32Array  # (kept, rank): right @ down has the rows sqrt(s) * vt

    @property
    def nbytes(self) -> int:
        return int(self.left.nbytes + self.right.nbytes)

    def truncate(self, update: LowRank, rank: int) -> LowRank:
        """The best approximation of at most ``rank`` of the update that was decomposed: float32, scale 1."""
        up = widen(update.up, "float32") @ self.left[:, :rank]
        down = self.right[:rank] @ widen(update.down, "float32")
        return LowRank(up, down, 1.0, update.kernel)


class Grams(NamedTuple):
    """What is known of factors that stay as they are: ``upᵀ up`` and ``down downᵀ``, float64, the scale left out."""

    up: Float64Array  # (rank, rank)
    down: Float64Array  # (rank, rank)


# One per matrix of a layer.
Decompositions: TypeAlias = tuple[Decomposition | None, ...]  # None: another route has to be taken
Known: TypeAlias = tuple[Decomposition | Grams | None, ...]  # None: nothing


def decompose(update: LowRank, rank: int | None = None) -> Decomposition | None:
    """The decomposition of a factored delta, or None where another route has to be taken.

    That is: a Tucker core, factors in float64, a rank that reaches a side of the delta, dependent or extreme factors.
    With ``rank``, the decomposition is good for truncating to that rank, and factors may be dependent beyond it.
    The choice depends on the values alone. Raises: NonFiniteError where the scale is no number.
    """
    up, down = update.up, update.down
    if update.core is not None or not 0 < up.shape[1] < min(up.shape[0], down.shape[1]):
        return None
    if up.dtype == np.float64 or down.dtype == np.float64:
        return None
    scale = magnitude(update.scale)
    basis = gram_basis(up, down, rank)
    if basis is None or basis.root is None or basis.gram_up is None or scale == 0.0:
        return None
    singular_values = finite(np.multiply, np.sqrt(basis.eigenvalues[::-1]), scale)
    kept = basis.trusted  # not ``rank``: a product of other sizes can round otherwise, and a plan would change the file
    values = np.sqrt(basis.eigenvalues[: -kept - 1 : -1])
    columns = basis.root @ basis.vectors[:, : -kept - 1 : -1]  # L W, largest first
    left = columns * (copysign(1.0, update.scale) * np.sqrt(scale / values))
    # Wᵀ L⁻¹ = Λ⁻¹ (L W)ᵀ Gu, because Lᵀ Gu L W = W Λ. Cheaper than solving, and as good as the eigenvalues are.
    right = columns.T @ basis.gram_up * (np.sqrt(scale * values) / values**2)[:, None]
    if not all(_in_range(array) for array in (singular_values, left, right)):
        return None
    return Decomposition(singular_values, left.astype(np.float32), right.astype(np.float32))


def _in_range(array: Float64Array) -> bool:
    return _RANGE[0] < float(np.abs(array).max()) < _RANGE[1]
