"""A factored delta decomposed once and truncated later, at any rank: what a plan keeps for the writer.

The singular vectors of ``up @ down`` are ``up`` and ``down`` times small matrices. Kept are those, in float32, which
is a few hundred bytes per rank and layer whatever the size of the layer. Applying them costs two products.

**Accuracy.** The eigenproblem is solved in float64 (see ``gram.py``). Rounding the maps and the products to float32
moves the truncated delta by a small multiple of ``2^-24 σ₁``: measured at most 3e-7 of its norm, which is below the
rounding to fp16 by three orders. What asks for more (factors stored in float64) has no decomposition here.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, copysign, sqrt
from typing import TypeAlias

import numpy as np

from ..adapter import LowRank
from .finite import finite, magnitude
from .floats import Float32Array, Float64Array, widen
from .gram import FactorGrams, GramBasis, gram_basis

_PANEL, _FIRST_PANEL = 64, 32  # singular vectors at a time: the wider the faster, but small ranks should cost little
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

    def truncate(self, update: LowRank, rank: int, scale: float = 1.0) -> LowRank:
        """The best approximation of at most ``rank`` of the update that was decomposed: float32, of that scale."""
        root = sqrt(1.0 / abs(scale))
        up = widen(update.up, "float32") @ (self.left[:, :rank] * np.float32(copysign(root, scale)))
        down = (self.right[:rank] * np.float32(root)) @ widen(update.down, "float32")
        return LowRank(up, down, scale, update.kernel)


# One per matrix of a layer.
Decompositions: TypeAlias = tuple[Decomposition | None, ...]  # None: another route has to be taken
Known: TypeAlias = tuple[Decomposition | FactorGrams | None, ...]  # None: nothing


def decompose(update: LowRank, rank: int | None = None, known: FactorGrams | None = None) -> Decomposition | None:
    """The decomposition of a factored delta, or None where another route has to be taken.

    That is: a Tucker core, factors in float64, a rank that reaches a side of the delta, dependent or extreme factors.
    With ``rank``, the decomposition is good for truncating to that rank, and factors may be dependent beyond it.
    ``known``: the Gram matrices of the factors, where they are there.
    The choice depends on the values alone. Raises: NonFiniteError where the scale is no number.
    """
    up, down = update.up, update.down
    if update.core is not None or not 0 < up.shape[1] < min(up.shape[0], down.shape[1]):
        return None
    if up.dtype == np.float64 or down.dtype == np.float64:
        return None
    scale = magnitude(update.scale)
    basis = gram_basis(up, down, rank, known)
    if basis is None or basis.root is None or basis.gram_up is None or scale == 0.0:
        return None
    singular_values = finite(np.multiply, np.sqrt(basis.eigenvalues[::-1]), scale)
    kept = basis.trusted if rank is None else min(basis.trusted, _whole_panels(rank))
    left, right = _maps(basis, basis.root, basis.gram_up, kept)
    values = np.sqrt(basis.eigenvalues[: -kept - 1 : -1])
    left *= copysign(1.0, update.scale) * np.sqrt(scale / values)
    right *= (np.sqrt(scale * values) / values**2)[:, None]
    if not all(_in_range(array) for array in (singular_values, left, right)):
        return None
    return Decomposition(singular_values, left.astype(np.float32), right.astype(np.float32))


def _maps(basis: GramBasis, root: Float64Array, gram_up: Float64Array, kept: int) -> tuple[Float64Array, Float64Array]:
    """``L W`` of the largest values, (rank, kept), and ``(L W)ᵀ Gu``: that is ``Λ Wᵀ L⁻¹``, because Lᵀ Gu L W = W Λ.

    Cheaper than solving, and as good as the eigenvalues are. In fixed panels, because a product of another size can
    round otherwise: what a plan has decomposed whole is written as what was decomposed up to a rank.
    """
    left, right = np.empty((len(root), kept)), np.empty((kept, len(root)))
    vectors = basis.vectors[:, ::-1]
    start = 0
    while start < kept:
        end = min(_whole_panels(start + 1), kept)
        columns = root @ vectors[:, start:end]
        left[:, start:end], right[start:end] = columns, columns.T @ gram_up
        start = end
    return left, right


def _whole_panels(rank: int) -> int:
    """``rank`` vectors and the rest of the last one's panel."""
    return _FIRST_PANEL if rank <= _FIRST_PANEL else ceil(rank / _PANEL) * _PANEL


def _in_range(array: Float64Array) -> bool:
    return _RANGE[0] < float(np.abs(array).max()) < _RANGE[1]
