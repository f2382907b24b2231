"""A subspace that several matrices share: the Tucker decomposition of them, stacked, in two of its three directions."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np

from .floats import Float64Array

_SETTLED = 1e-12  # how far a step may still turn V, per column: what is left is some hundred times that
_NEAR = 0.3  # steps from a V within this of the newest, by the same measure, are extrapolated
_STEPS = 500
_REMEMBERED = 8
_NOISE = 1e-14  # relative: a sum of squares that was rounded


class Bases(NamedTuple):
    """``U`` (p, k) and ``V`` (q, k), orthonormal columns."""

    u: Float64Array
    v: Float64Array


class _Step(NamedTuple):
    """One alternation: from ``before`` to ``after``."""

    before: Float64Array  # V (q, k)
    after: Float64Array
    u: Float64Array
    kept: float  # Σ ‖Uᵀ Xₜ V‖² afterwards

    def turn(self, after: Float64Array) -> float:
        """How far V turned since: the sines of the principal angles, as one norm."""
        return float(np.linalg.norm(after - self.before @ (self.before.T @ after)))


def tucker(cores: Sequence[Float64Array], rank: int) -> Bases:
    """The bases ``U``, ``V`` that hold most of all matrices together: ``max Σ ‖Uᵀ Xₜ V‖²``, by alternating (HOOI).

    Started at the leading singular vectors of the matrices one below the other, then one side at a time: U holds the
    leading left singular vectors of ``[X₁V X₂V ...]``, V those of ``[X₁ᵀU X₂ᵀU ...]``, largest first. By itself that
    turns V by some per cent less at each step, and takes hundreds of them; near the end several steps are combined
    to a better one (Anderson's extrapolation), which is taken back where it holds less. The limit is the same.
    Source: De Lathauwer, De Moor, Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000) 1324-1342, for HOOI; Walker, Ni,
    SIAM J. Numer. Anal. 49 (2011) 1715-1735, for the extrapolation.
    """
    last = _alternate(cores, _leading(np.concatenate(cores, axis=0).T, rank), rank)
    known: list[_Step] = []
    is_extrapolated = False
    for _ in range(_STEPS):
        if last.turn(last.after) <= _SETTLED * sqrt(rank):
            break
        if is_extrapolated and last.kept < known[-1].kept * (1 - _NOISE):
            last, is_extrapolated = _alternate(cores, known[-1].after, rank), False
            known = []
            continue
        known = [step for step in (*known[-_REMEMBERED:], last) if step.turn(last.after) < _NEAR]
        is_extrapolated = len(known) > 1
        last = _alternate(cores, _extrapolated(known) if is_extrapolated else last.after, rank)
    return Bases(last.u, last.after)


def _alternate(cores: Sequence[Float64Array], v: Float64Array, rank: int) -> _Step:
    u = _leading(np.concatenate([matrix @ v for matrix in cores], axis=1), rank)
    after = _leading(np.concatenate([matrix.T @ u for matrix in cores], axis=1), rank)
    return _Step(v, after, u, float(sum(np.sum((u.T @ matrix @ after) ** 2) for matrix in cores)))


def _extrapolated(steps: Sequence[_Step]) -> Float64Array:
    """The V at which the steps, taken as one linear map, would turn nothing.

    A space has many bases. Here each is the one whose coordinates in the newest space are the identity, so that bases
    can be subtracted; ``newest + what is orthogonal to it`` has that form again.
    """
    newest = steps[-1].after
    places = [_coordinates(step.after, newest).ravel() for step in steps]
    turns = [place - _coordinates(step.before, newest).ravel() for place, step in zip(places, steps, strict=True)]
    mix = np.linalg.lstsq(np.diff(turns, axis=0).T, turns[-1], rcond=None)[0]
    made = places[-1] - np.diff(places, axis=0).T @ mix
    return np.asarray(np.linalg.qr(made.reshape(newest.shape))[0])


def _coordinates(basis: Float64Array, space: Float64Array) -> Float64Array:
    """The basis of the same space as ``basis`` with ``spaceᵀ basis = I``."""
    return np.asarray(np.linalg.solve((space.T @ basis).T, basis.T).T)


def _leading(matrix: Float64Array, rank: int) -> Float64Array:
    """The leading left singular vectors. From the Gram matrix: only those of large singular values count here."""
    return np.asarray(np.linalg.eigh(matrix @ matrix.T)[1][:, : -rank - 1 : -1])
