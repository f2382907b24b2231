"""How far what is stored is from the old delta, without forming either.

Notation: ``Δ`` the old delta, ``u d`` the new factors as calculated, ``u' d'`` as stored, ``e = u' - u``,
``f = d' - d``.
Rounding moves the product by ``D = u' d' - u d = e d' + u f``, one product of the factors ``[e, u]`` and ``[d'; f]``.

A truncated SVD drops ``T = Δ - u d``, whose columns and rows are orthogonal to those of ``u`` and ``d``. Of
``<T, D> = <T, e d + u f + e f>`` only the last term is left, so ``‖Δ - u' d'‖² = ‖T‖² + ‖D‖² - 2 <T, e f>``.
That term is of second order: beside fp16's rounding it is nothing, for bf16 and fp8 it is calculated.

The factors of a truncated SVD that shares each σ between both sides are orthogonal,
``uᵀ u = d dᵀ = diag(σ) / |scale|``. So ``‖e d‖²`` and ``‖u f‖²`` are sums over the columns of ``e`` and the rows of
``f``. What is left of ``‖D‖²`` are products of these two and of ``e f``, which the inequality of Cauchy and Schwarz
bounds; where the bound cannot show in a report's sixth digit, that is all that is calculated.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..adapter import Dense, Kronecker, LowRank, Update
from ..errors import NonFiniteError
from ..linalg import products, svd
from ..linalg.dense import materialise
from ..linalg.floats import Float64Array, Precision, widen
from ..linalg.gram import FactorGrams

if TYPE_CHECKING:
    from ..adapter import FloatArray
    from ..formats.encoding import Encoded

_NEGLIGIBLE = 2e-7  # of the delta's norm; reports promise 1e-6
_SLACK = 9e-7  # likewise, for the sum of all that is bounded and not calculated
_RANGE = (1e-9, 1e9)  # of factors for float32


class Loss(NamedTuple):
    """What new factors leave out of the delta."""

    dropped: float = 0.0  # norm of the dropped part of a truncated SVD, orthogonal to what is kept
    kept: Float64Array | None = None  # its singular values that are kept, shared evenly between both factors
    rest: LowRank | None = None  # or the components left out, which are orthogonal to nothing

    @property
    def norm(self) -> float:
        """Frobenius norm of what is left out."""
        return self.dropped if self.rest is None else svd.frobenius_norm(self.rest)


class _Rounding(NamedTuple):
    """Factors of ``D`` in one precision, the scale left out."""

    e: Float64Array  # (out, rank)
    f: Float64Array  # (rank, in * k)
    u: Float64Array
    d: Float64Array
    stored_d: Float64Array


def distance(
    update: Update,
    norm: float,
    exact: LowRank,
    stored: LowRank,
    loss: Loss,
    grams: FactorGrams | None = None,
    encoded: tuple[Encoded, Encoded] | None = None,
) -> float:
    """``‖Δ - stored‖`` in the Frobenius norm; ``norm`` is that of ``Δ``, ``exact`` the factors before rounding.

    ``grams``: of ``exact``, where they are known. ``encoded``: both stored factors with what encoding them has seen.
    Raises: NonFiniteError where the stored factors hold no numbers.
    """
    if exact.up.dtype == stored.up.dtype and exact.down.dtype == stored.down.dtype:
        return loss.norm  # nothing was rounded
    scale, is_coarse = abs(exact.scale), loss.rest is None and _is_coarse(exact, stored, encoded)
    if is_coarse and encoded is not None and encoded[0].moved is not None and encoded[1].moved is not None:
        square = _bounded(encoded[0].moved, encoded[1].moved, scale, loss, norm)
        if square is not None:
            return sqrt(square)
    rounding = _rounding(exact, stored, "float32" if is_coarse else "float64")
    if loss.rest is not None:
        return scale * _with_rest(rounding, loss.rest, exact.scale)
    square = _bounded(rounding.e, rounding.f, scale, loss, norm, rounding)
    if square is not None:
        return sqrt(square)
    products = _products(rounding, grams)
    moved, joint = _norms(products)
    square = loss.dropped**2 + (scale * moved) ** 2
    # |2 <T, e f>| is at most this, and moves the root by half of it over the root.
    if 2 * loss.dropped * scale * joint > 2 * sqrt(square) * _NEGLIGIBLE * norm:
        square -= 2 * exact.scale * _overlap(update, exact.scale, rounding, products)
    if not np.isfinite(square):
        raise NonFiniteError("the rounded factors overflow")
    return sqrt(max(square, 0.0))


def _is_coarse(exact: LowRank, stored: LowRank, encoded: tuple[Encoded, Encoded] | None) -> bool:
    """Whether float32 measures the rounding well: what is stored has 16 bits or less, or float32 was rounded.

    And squares of neither values nor rounding errors leave that type's range.
    """
    if exact.up.dtype != np.float32 and max(stored.up.dtype.itemsize, stored.down.dtype.itemsize) > 2:
        return False
    if encoded is not None:
        return all(_RANGE[0] < factor.largest < _RANGE[1] for factor in encoded)
    largest = [max(float(factor.max(initial=0)), -float(factor.min(initial=0))) for factor in (exact.up, exact.down)]
    return all(_RANGE[0] < value < _RANGE[1] for value in largest)


def _rounding(exact: LowRank, stored: LowRank, precision: Precision) -> _Rounding:
    # Differences in the precision of the exact factors: rounding those first would show in them.
    own: Precision = "float32" if exact.up.dtype == np.float32 else "float64"
    stored_d = widen(stored.down, own)
    e, f = widen(stored.up, own) - exact.up, stored_d - exact.down
    return _Rounding(*(array.astype(precision, copy=False) for array in (e, f, exact.up, exact.down, stored_d)))


def _bounded(
    e: FloatArray, f: FloatArray, scale: float, loss: Loss, norm: float, rounding: _Rounding | None = None
) -> float | None:
    """``‖Δ - stored‖²`` from the lengths of the columns of ``e`` and the rows of ``f``, and with ``rounding`` from one
    product where these are not enough; None where that could be off by more than a report may be.
    """
    if loss.kept is None or loss.dropped == 0.0:
        return None
    values = loss.kept
    e, f = e[:, : len(values)], f[: len(values)]  # padding is zero and stays so
    columns, rows = np.einsum("ij,ij->j", e, e), np.einsum("ij,ij->i", f, f)
    left, right = scale * float(values @ columns), scale * float(values @ rows)  # ‖e d‖² and ‖u f‖²
    joint = scale * sqrt(float(np.sum(columns)) * float(np.sum(rows)))  # ‖e f‖ at most
    both = sqrt(left) + sqrt(right)
    square, slack = loss.dropped**2 + left + right, 2 * both * joint + joint**2 + 2 * loss.dropped * joint
    allowed = 2 * loss.dropped * _SLACK * norm
    cross = 2 * sqrt(left * right)  # of <e d, u f>, twice, at most
    if slack + cross <= allowed:
        return square
    if slack <= allowed and rounding is not None:
        return square + 2 * scale**2 * _sum(rounding.e.T @ rounding.u, rounding.d @ rounding.f.T)
    return None  # so too where something is NaN


class _Products(NamedTuple):
    """Of the factors' short sides with each other, all ``(rank, rank)``."""

    ee: Float64Array
    eu: Float64Array
    uu: Float64Array
    ff: Float64Array
    sf: Float64Array  # s for the stored d
    ss: Float64Array


def _products(rounding: _Rounding, grams: FactorGrams | None = None) -> _Products:
    e, f, u, d, s = rounding
    ee, eu, ff = e.T @ e, e.T @ u, f @ f.T
    if grams is None:
        return _Products(ee, eu, u.T @ u, ff, s @ f.T, s @ s.T)
    df = d @ f.T
    return _Products(ee, eu, grams.up, ff, df + ff, grams.down + df + df.T + ff)  # s = d + f


def _norms(products: _Products) -> tuple[float, float]:
    """``‖D‖`` and ``‖e f‖``: ``<a b, c d> = <aᵀ c, b dᵀ>``."""
    ee, eu, uu, ff, sf, ss = products
    moved = _sum(ee, ss) + 2 * _sum(eu, sf) + _sum(uu, ff)
    return sqrt(max(moved, 0.0)), sqrt(max(_sum(ee, ff), 0.0))


def _sum(left: Float64Array, right: Float64Array) -> float:
    """``<left, right>``: every entry is good to its own rows' norms, so only the sum needs float64."""
    return float(np.sum(np.multiply(left, right, dtype=np.float64)))


def _overlap(update: Update, scale: float, rounding: _Rounding, products: _Products) -> float:
    """``<T, e f>`` with ``T = Δ - scale u d``, in the precision of the rounding.

    float32 is enough: the term is at most ``‖T‖ ‖e f‖``, which for fp8 is 0.4 % of ``‖Δ‖²``.
    """
    kept = products.eu.T * (products.sf - products.ff)  # uᵀ e and d fᵀ
    return _inner(update, rounding.e, rounding.f) - scale * float(np.sum(kept, dtype=np.float64))


def _inner(update: Update, e: Float64Array, f: Float64Array) -> float:
    """``<Δ, e f>``: one small product per component, whatever the kind."""
    match update:
        case Kronecker():  # eᵀ (A x B) f = <E, A F Bᵀ> with the columns of e and the rows of f as matrices
            first, second = materialise(update.first), svd.as_matrix(materialise(update.second))
            outs = e.T.reshape(-1, first.shape[0], second.shape[0])
            ins = f.reshape(-1, first.shape[1], second.shape[1])
            return update.scale * float(np.sum(outs * (first @ ins @ second.T)))
        case Dense():
            return update.scale * _sum(e.T @ widen(svd.as_matrix(update.values)), f)
        case _:
            old = products.factors(update)
            precision: Precision = "float32" if e.dtype == np.float32 else "float64"
            return old.scale * _sum(widen(old.up, precision).T @ e, widen(old.down, precision) @ f.T)


def _with_rest(rounding: _Rounding, rest: LowRank, scale: float) -> float:
    """``‖D - rest‖`` in units of ``scale``."""
    left = np.concatenate([rounding.e, rounding.u, widen(rest.up) * (-rest.scale / scale)], axis=1)
    right = np.concatenate([rounding.stored_d, rounding.f, widen(rest.down)])
    return sqrt(max(float(np.sum((left.T @ left) * (right @ right.T))), 0.0))
