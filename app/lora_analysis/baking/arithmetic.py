"""One base weight with its deltas added, by blocks of rows: float64 between reading and rounding once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..adapter import Dense, FloatArray, Layer, LowRank, Opaque, Stacked, Update, Vector
from ..errors import NonFiniteError, OpaqueUpdateError
from ..formats.encoding import encode
from ..linalg import products
from ..linalg.dense import materialise
from ..linalg.floats import Float64Array, widen
from .matching import Place

_BLOCK_VALUES = 1 << 22  # of one block in float64: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """Rows of a layer's delta that go to rows of the tensor, with the adapter's weight."""

    layer: Layer
    weight: float
    start: int  # rows of the layer
    stop: int
    to: int  # first row of the tensor
    is_bias: bool = False
    value: Callable[[], FloatArray] | None = None  # reads a full copy that replaces the tensor
    columns: ColumnNorms | None = None  # of a DoRA layer with norms of columns


class Baked(NamedTuple):
    """The tensor as stored, and how far rounding moved it."""

    array: FloatArray
    change: float  # norm of what was added
    rounding: float  # norm of stored - exact


def bake(base: FloatArray, additions: Sequence[Addition], dtype: str, key: str) -> Baked:
    """``W0 + sum of weight * delta``, where DoRA's delta is ``m (W0 + delta) / norm - W0``. ``base`` is tensor ``key``.

    Raises: NonFiniteError naming the tensor.
    """
    additions, base = _padded(additions, base)
    if any(one.layer.experts for one in additions):
        return _bake_experts(base, additions, dtype, key)
    transposed = any(_is_transposed(one.layer, base) for one in additions)
    matrix = _matrix(base, transposed=transposed)
    stored: FloatArray = np.empty(matrix.shape, base.dtype)
    deltas = [_Delta(one, key, matrix) for one in additions]
    changed = rounded = 0.0
    for start, stop in _blocks(matrix):
        old = widen(matrix[start:stop])
        new = old.copy()
        for delta in deltas:
            delta.add(new, old, start, stop)
        if not np.isfinite(new).all():
            raise NonFiniteError(f"{key}: the base weight or the delta holds NaN or infinity")
        stored[start:stop] = encode(new, dtype, key)
        changed += float(np.sum((new - old) ** 2))
        rounded += float(np.sum((widen(stored[start:stop]) - new) ** 2))
    result = stored.T if transposed else stored
    return Baked(np.ascontiguousarray(result).reshape(base.shape), changed**0.5, rounded**0.5)


def _is_transposed(layer: Layer, base: FloatArray) -> bool:
    return layer.base_transposed and base.ndim == 2


def _matrix(base: FloatArray, *, transposed: bool) -> FloatArray:
    return (base.T if transposed else base).reshape(base.shape[-1] if transposed else _rows(base), -1)


def _rows(array: FloatArray) -> int:
    return array.shape[0] if array.ndim else 1


def _blocks(matrix: FloatArray, first: int = 0, last: int | None = None) -> Iterator[tuple[int, int]]:
    last = matrix.shape[0] if last is None else last
    step = max(_BLOCK_VALUES // max(matrix.shape[1], 1), 1)
    for start in range(first, last, step):
        yield start, min(start + step, last)


def _padded(additions: Sequence[Addition], base: FloatArray) -> tuple[Sequence[Addition], FloatArray]:
    """Control adapters: the base gets zeros up to a larger shape first."""
    shape = next((one.layer.reshape for one in additions if one.layer.reshape and not one.is_bias), None)
    if shape is None or tuple(base.shape) == shape:
        return additions, base
    padded = np.zeros(shape, base.dtype)
    padded[tuple(slice(size) for size in base.shape)] = base
    return additions, padded


def _bake_experts(base: FloatArray, additions: Sequence[Addition], dtype: str, key: str) -> Baked:
    stored = np.empty(base.shape, base.dtype)
    changed = rounded = 0.0
    updates = [(one.weight, one.layer.update()) for one in additions]
    for expert in range(base.shape[0]):
        old = widen(base[expert])
        new = old.copy()
        for weight, update in updates:
            assert isinstance(update, Stacked)  # matched by its shape
            part = update.parts[expert]
            new += weight * part.scale * (widen(part.up) @ widen(part.down))
        stored[expert] = encode(new, dtype, key)
        changed += float(np.sum((new - old) ** 2))
        rounded += float(np.sum((widen(stored[expert]) - new) ** 2))
    return Baked(stored, changed**0.5, rounded**0.5)


class _Delta:
    """One addition, ready to be added block by block."""

    def __init__(self, addition: Addition, key: str, matrix: FloatArray) -> None:
        self._at = addition
        self._rows = _row_reader(addition)
        self._magnitude = None if addition.is_bias or addition.value is not None else addition.layer.magnitude()
        self._norms = None if addition.columns is None else addition.columns.beside(key, matrix, self._rows)

    def add(self, new: Float64Array, old: Float64Array, start: int, stop: int) -> None:
        """Add to the rows ``[start, stop)`` of the tensor what the layer has for them."""
        at = self._at
        first, last = max(start, at.to), min(stop, at.to + at.stop - at.start)
        if first >= last:
            return
        inside = slice(first - start, last - start)
        rows = slice(first - at.to + at.start, last - at.to + at.start)
        block = old[inside]
        if isinstance(self._rows, _Replacement):  # to the last bit, which adding a difference would not be
            new[inside] = (new[inside] - block) + self._rows(rows, block)
        else:
            new[inside] += at.weight * self._change(block, rows)

    def _change(self, block: Float64Array, rows: slice) -> Float64Array:
        delta = self._rows(rows, block)
        if self._magnitude is None:
            return delta
        whole = block + delta
        values = widen(self._magnitude.values)
        if self._magnitude.axis == "out":
            norms = np.linalg.norm(whole, axis=1)
            factors = np.divide(values[rows], norms, out=np.zeros_like(norms), where=norms > 0)[:, None]
        else:
            assert self._norms is not None  # made with the magnitude
            per_input = np.divide(values, self._norms, out=np.zeros_like(self._norms), where=self._norms > 0)
            factors = np.repeat(per_input, whole.shape[1] // len(values))[None, :]
        return np.asarray(factors * whole - block)


class ColumnNorms:
    """Norms of base + delta over everything but the input channel, in all the rows that a layer has.

    A fused layer's rows can lie in several tensors of the checkpoint; its columns go through all of them, and its
    trained norms are theirs. Calculated once, by whichever of the tensors comes first.
    """

    def __init__(self, layer: Layer, places: Sequence[Place], array: Callable[[str], FloatArray]) -> None:
        self._layer = layer
        self._places = places
        self._array = array
        self._found: Float64Array | None = None
        self._lock = Lock()

    def beside(self, key: str, matrix: FloatArray, rows: _Rows) -> Float64Array:
        """The norms, ``(in,)``. ``matrix`` is tensor ``key``, which is read already, ``rows`` the layer's delta."""
        with self._lock:
            if self._found is None:
                self._found = self._calculated(key, matrix, rows)
            return self._found

    def _calculated(self, key: str, matrix: FloatArray, rows: _Rows) -> Float64Array:
        magnitude = self._layer.magnitude()
        assert magnitude is not None  # only such layers are planned with norms
        channels = len(magnitude.values)
        squares = np.zeros(channels)
        for place in self._places:
            base = matrix if place.key == key else self._read(place.key)
            for start, stop in _blocks(base, place.to, place.to + place.stop - place.start):
                block = widen(base[start:stop])
                shift = place.start - place.to
                whole = block + rows(slice(start + shift, stop + shift), block)
                squares += np.sum(whole.reshape(len(whole), channels, -1) ** 2, axis=(0, 2))
        return np.asarray(np.sqrt(squares))

    def _read(self, key: str) -> FloatArray:
        base = self._array(key)
        return _matrix(base, transposed=_is_transposed(self._layer, base))


def _row_reader(addition: Addition) -> _Rows:
    if addition.value is not None:
        value = addition.value()
        return _Replacement(widen(value).reshape(_rows(value), -1))
    if addition.is_bias:
        bias = addition.layer.bias()
        assert bias is not None  # planned because it is there
        return _Stored(widen(bias.values).reshape(-1, 1) * bias.scale)
    return _reader_of(addition.layer.update())


class _Rows:
    """Rows of a delta in float64, scale included."""

    def __call__(self, rows: slice, block: Float64Array) -> Float64Array:
        raise NotImplementedError


class _Factored(_Rows):
    def __init__(self, factors: LowRank) -> None:
        self._up, self._down = widen(factors.up) * factors.scale, widen(factors.down)

    def __call__(self, rows: slice, block: Float64Array) -> Float64Array:
        return np.asarray(self._up[rows] @ self._down).reshape(block.shape)


class _Stored(_Rows):
    def __init__(self, values: Float64Array) -> None:
        self._values = values

    def __call__(self, rows: slice, block: Float64Array) -> Float64Array:
        return self._values[rows].reshape(block.shape)


class _Replacement(_Stored):
    """Rows of a full copy, which are no delta: they take the base's place. Only ever at weight 1."""


def _reader_of(update: Update) -> _Rows:
    if isinstance(update, LowRank) and update.core is None:
        return _Factored(update)
    if isinstance(update, Vector):
        return _Stored((widen(update.values) * update.scale).reshape(_rows(update.values), -1))
    if isinstance(update, Dense):
        return _Stored((widen(update.values) * update.scale).reshape(update.shape[0], -1))
    if isinstance(update, Opaque):
        raise OpaqueUpdateError(f"no delta without the base weight: {update.reason}")
    out, *columns = update.shape
    factors = None
    if not isinstance(update, Stacked):
        made = products.factors(update)
        factors = made if 2 * made.rank < min(out, prod(columns)) else None
    return _Factored(factors) if factors else _Stored(materialise(update).reshape(out, -1))
