"""One layer's numbers: its spectrum for the plan, its new factors for the writer."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign, sqrt
from typing import NamedTuple

import numpy as np

from ..adapter import FloatArray, Layer, LowRank, Stacked, Update
from ..errors import LoraAnalysisError
from ..formats.encoding import encode, encode_measured
from ..linalg import products, svd
from ..linalg.decomposition import Decomposition, Decompositions, Known, decompose
from ..linalg.floats import Float64Array, Precision, widen
from ..linalg.gram import FactorGrams
from .plan import LayerPlan
from .rounding import Loss, distance


class Analysis(NamedTuple):
    """What a plan wants to know of a layer."""

    spectrum: Float64Array  # largest first, scale included; see ``pooled``
    decompositions: Decompositions
    bias_norm: float


class Written(NamedTuple):
    """A layer's stored tensors and what storing them cost."""

    arrays: dict[str, FloatArray]  # by tensor name
    norm: float | None  # of the old delta; None where there is none without the base weight
    error_before_rounding: float
    error: float  # of what is stored, against the old delta
    bias_norm: float = 0.0  # of the difference of the bias beside it
    bias_error: float = 0.0  # likewise


def analyse(layer: Layer) -> Analysis:
    """Singular values of a layer's delta, and what it takes to truncate it.

    Raises: NonFiniteError naming the layer, and what reading may raise.
    """
    with _Named(layer):
        parts = parts_of(layer.update())
        decompositions = tuple(_decomposed(part) for part in parts)
        spectra = [
            products.singular_values(part) if found is None else found.singular_values
            for part, found in zip(parts, decompositions, strict=True)
        ]
        return Analysis(pooled(spectra), decompositions, bias_norm(layer))


class Norms(NamedTuple):
    """How large a layer is."""

    delta: float | None  # Frobenius; None where there is none without the base weight
    bias: float  # of the difference of the bias beside it; 0 where there is none


def norms_of(layer: Layer) -> Norms:
    """The norms of a layer. Raises: as ``analyse``."""
    with _Named(layer):
        if layer.opaque is not None:
            return Norms(None, bias_norm(layer))
        is_nothing = layer.rank == 0 or layer.scale == 0 or 0 in (layer.shape or ())
        return Norms(0.0 if is_nothing else products.frobenius_norm(layer.update()), bias_norm(layer))


def bias_norm(layer: Layer) -> float:
    """Of the difference of the bias beside a layer's weight; 0 where there is none."""
    bias = layer.bias()
    return 0.0 if bias is None else products.frobenius_norm(bias)


def spectrum_of(update: Update) -> Float64Array:
    """Singular values of a delta alone, which cost half of what truncating it needs. Raises: NonFiniteError."""
    return pooled([products.singular_values(part) for part in parts_of(update)])


def pooled(spectra: Sequence[Float64Array]) -> Float64Array:
    """One spectrum for experts that share a rank: ``s_k = sqrt(sum over experts of σ_k²)``.

    Keeping rank k in every expert drops exactly ``sum of s_j² for j > k``, so rules and budgets hold as they are.
    """
    if len(spectra) == 1:
        return spectra[0]
    squares = np.zeros(max(len(spectrum) for spectrum in spectra))
    for spectrum in spectra:
        squares[: len(spectrum)] += spectrum**2
    return np.sqrt(squares)


def cut_error(layer: Layer, rank: int) -> float:
    """Norm of what is lost where factors are cut to ``rank`` as they stand. Raises: as ``analyse``."""
    with _Named(layer):
        rests = [_rest(products.factors(part), rank) for part in parts_of(layer.update())]
        return sqrt(sum(svd.frobenius_norm(rest) ** 2 for rest in rests if rest is not None))


def rewrite(layer: Layer, plan: LayerPlan, known: Known | None = None) -> Written:
    """The tensors that hold the layer after the plan. Raises: NonFiniteError naming the layer."""
    with _Named(layer):
        parts = parts_of(layer.update())
        if plan.action == "truncate":
            parts = [_widened(part) for part in parts]
        made = [_new_factors(part, plan, one) for part, one in zip(parts, known or (None,) * len(parts), strict=True)]
        return _store(layer, plan, parts, made)


def _widened(update: Update) -> Update:
    """Factors in float32, once: the Gram products, the new factors and the measure of rounding all read them."""
    if not isinstance(update, LowRank) or update.core is not None:
        return update
    return LowRank(_single(update.up), _single(update.down), update.scale, update.kernel)


def _single(array: FloatArray) -> FloatArray:
    if array.dtype.itemsize >= 4:
        return array
    # In the same memory order: the order of sums, and with it their last bit, stays that of the stored factors.
    return widen(array, "float32", out=np.empty_like(array, np.float32))


def parts_of(update: Update) -> Sequence[Update]:
    """The matrices of an update: itself, or one per expert."""
    return update.parts if isinstance(update, Stacked) else (update,)


class _Named:
    """Puts the layer's name before what the linear algebra has to say."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, LoraAnalysisError) and self._layer.name not in error.message:
            raise type(error)(f"{self._layer.name}: {error.message}") from error


# -- new factors -------------------------------------------------------------------------------------


class _Made(NamedTuple):
    factors: LowRank  # as calculated or as stored, with the scale they have
    norm: float  # of the old delta
    loss: Loss
    grams: FactorGrams | None = None  # of the factors, where they were known


def _new_factors(update: Update, plan: LayerPlan, known: Decomposition | FactorGrams | None) -> _Made:
    rank = plan.new_rank or 1
    if plan.action == "truncate":
        found = known if isinstance(known, Decomposition) else _decomposed(update, rank)
        return _truncated(update, rank, found, plan.scale)
    factors = products.factors(update)
    if isinstance(known, FactorGrams) and rank == factors.rank:
        return _Made(factors, svd.frobenius_norm(factors, known), Loss(), known)
    norm = svd.frobenius_norm(factors)
    if plan.action == "cut":
        kept = LowRank(factors.up[:, :rank], factors.down[:rank], factors.scale, factors.kernel)
        return _Made(kept, norm, Loss(rest=_rest(factors, rank)))
    return _Made(_padded(factors, rank), norm, Loss())


def _decomposed(update: Update, rank: int | None = None) -> Decomposition | None:
    return decompose(update, rank) if isinstance(update, LowRank) else None


def _truncated(update: Update, rank: int, found: Decomposition | None, scale: float) -> _Made:
    """``scale``: that the factors will be stored with."""
    if found is not None:
        assert isinstance(update, LowRank)  # nothing else is decomposed
        factors, values = found.truncate(update, rank, scale), found.singular_values
    else:
        made = products.truncate(update, rank)
        factors, values = made.factors, made.singular_values
    dropped = float(np.linalg.norm(values[rank:]))
    loss = Loss(dropped=dropped, kept=values[: min(rank, factors.rank)])
    return _Made(_padded(factors, rank), float(np.linalg.norm(values)), loss)


def _rest(factors: LowRank, rank: int) -> LowRank | None:
    """The components beyond ``rank`` as they stand in the file."""
    if rank >= factors.rank:
        return None
    return LowRank(factors.up[:, rank:], factors.down[rank:], factors.scale, factors.kernel)


def _padded(factors: LowRank, rank: int) -> LowRank:
    """The same delta at a larger stored rank: zero columns of up, zero rows of down."""
    extra = rank - factors.rank
    if extra <= 0:
        return factors
    up, down = np.pad(factors.up, ((0, 0), (0, extra))), np.pad(factors.down, ((0, extra), (0, 0)))
    return LowRank(up, down, factors.scale, factors.kernel)


# -- storing -----------------------------------------------------------------------------------------


def _store(layer: Layer, plan: LayerPlan, parts: Sequence[Update], made: Sequence[_Made]) -> Written:
    """Round to the output's types once, and measure what that adds."""
    assert plan.spelling is not None  # a plan that changes a layer says how to spell it
    names = plan.spelling.names
    dtypes = {tensor.name: tensor.dtype for tensor in plan.tensors}
    exact = [_with_scale(one.factors, plan.scale) for one in made]
    encoded = [
        (
            encode_measured(factors.up, dtypes[names.up], names.up),
            encode_measured(factors.down, dtypes[names.down], names.down),
        )
        for factors in exact
    ]
    stored = [
        LowRank(up.values, down.values, factors.scale, factors.kernel)
        for factors, (up, down) in zip(exact, encoded, strict=True)
    ]
    down, up = plan.spelling.arrays(stored)
    arrays = {names.down: np.ascontiguousarray(down), names.up: np.ascontiguousarray(up)}
    biases, bias_error = _scaled_bias(layer, plan, dtypes)
    errors = [
        distance(part, one.norm, wanted, found, one.loss, _scaled(one.grams, one.factors.scale / plan.scale), seen)
        for part, one, wanted, found, seen in zip(parts, made, exact, stored, encoded, strict=True)
    ]
    before = sqrt(sum(one.loss.norm**2 for one in made))
    return Written(
        arrays | biases,
        sqrt(sum(one.norm**2 for one in made)),
        before,
        sqrt(sum(error**2 for error in errors)),
        bias_norm(layer),
        bias_error,
    )


def _with_scale(factors: LowRank, scale: float) -> LowRank:
    """The same delta as ``scale * up @ down``: the rest of the old scale goes evenly into both factors."""
    ratio = factors.scale / scale
    if ratio == 1.0:
        return factors
    root = sqrt(abs(ratio))
    precision: Precision = "float32" if factors.up.dtype == np.float32 else "float64"
    up, down = widen(factors.up, precision), widen(factors.down, precision)
    # Python numbers do not widen float32 arrays.
    return LowRank(up * copysign(root, ratio), down * root, scale, factors.kernel)


def _scaled(grams: FactorGrams | None, ratio: float) -> FactorGrams | None:
    """Those of the factors that ``_with_scale`` makes."""
    return None if grams is None else FactorGrams(grams.up * abs(ratio), grams.down * abs(ratio))


def _scaled_bias(layer: Layer, plan: LayerPlan, dtypes: dict[str, str]) -> tuple[dict[str, FloatArray], float]:
    """The bias that is scaled like the factors, where their scale changes; and what storing it changes."""
    key = layer.keys.get("up_bias")
    if key is None or key not in plan.calculated:
        return {}, 0.0
    bias = layer.bias()
    assert bias is not None  # the layer has the tensor
    exact = widen(bias.values) * (bias.scale / plan.scale)
    stored = encode(exact, dtypes[key], key)
    return {key: stored}, abs(plan.scale) * float(np.linalg.norm(widen(stored) - exact))
