"""What figures of weights are drawn from: some values of every layer, a picture of one layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..adapter import Adapter, Layer, Vector
from ..errors import FormatError, NonFiniteError, OpaqueUpdateError, OptionError, ShapeError
from ..formats.blocks import block_of
from ..linalg.products import frobenius_norm
from ..linalg.samples import delta_entries, evenly, matrix_shape
from ..linalg.streams import map_layers, out_of

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array
    from ..spectra.values import Spectrum

Progress = Callable[[int, int], None]
Cancel = Callable[[], bool]

_SIDE = 48  # rows and columns sampled of each layer: 2,304 values
_STRIP = 1 << 22  # values of a delta formed at a time
_LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


@dataclass(frozen=True, slots=True, eq=False)
class LayerSample:
    """Some entries of one layer's delta."""

    name: str
    component: str
    block: str | None
    size: int  # entries of the whole delta
    values: Float64Array  # flat, scale included


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Entries of every delta of an adapter at even distances, at most 2,304 a layer; and which layers have none."""

    path: str
    layers: tuple[LayerSample, ...]
    skipped: tuple[str, ...] = ()  # "layer: reason"


def sample_deltas(
    adapter: Adapter, *, workers: int | None = None, progress: Progress | None = None, cancel: Cancel | None = None
) -> Samples:
    """Entries of every layer's delta, a few layers in memory at a time. Raises: FileAccessError, CancelledError."""
    layers = list(adapter.layers.values())
    report = out_of(len(layers), progress)
    found: list[LayerSample] = []
    skipped: list[str] = []
    for outcome in map_layers(_sample, layers, workers=workers, progress=report, cancel=cancel):
        if isinstance(outcome, LayerSample):
            found.append(outcome)
        else:
            skipped.append(outcome)
    return Samples(adapter.path, tuple(found), tuple(skipped))


def _sample(layer: Layer) -> LayerSample | str:
    if layer.opaque is not None:
        return f"{layer.name}: {layer.opaque}"
    try:
        update = layer.update()
        height, width = matrix_shape(update)
        values = delta_entries(update, evenly(height, _SIDE), evenly(width, _SIDE)).ravel()
    except _LAYER_ERRORS as error:
        return f"{layer.name}: {error.message}"
    if not np.isfinite(values).all():
        return f"{layer.name}: NaN or infinity among its values"
    return LayerSample(layer.name, layer.component, block_of(layer.name), height * width, values)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """The Frobenius norm of one layer's delta, in weight units."""

    name: str
    component: str
    block: str | None
    norm: float


@dataclass(frozen=True, slots=True)
class Norms:
    """The norms of an adapter's layers: half the work of its singular values. Which layers have none, and why."""

    path: str
    layers: tuple[LayerNorm, ...]
    skipped: tuple[str, ...] = ()  # "layer: reason"


def layer_norms(
    adapter: Adapter, *, workers: int | None = None, progress: Progress | None = None, cancel: Cancel | None = None
) -> Norms:
    """The norm of every delta that is a matrix. Raises: FileAccessError, CancelledError."""
    layers = list(adapter.layers.values())
    report = out_of(len(layers), progress)
    outcomes = list(map_layers(_norm_or_reason, layers, workers=workers, progress=report, cancel=cancel))
    found = tuple(outcome for outcome in outcomes if isinstance(outcome, LayerNorm))
    return Norms(adapter.path, found, tuple(outcome for outcome in outcomes if isinstance(outcome, str)))


def norms_of(source: Spectrum | Norms) -> tuple[LayerNorm, ...]:
    """The norms that a spectrum, or a calculation of nothing else, holds."""
    if isinstance(source, Norms):
        return source.layers
    return tuple(LayerNorm(x.label, x.component, x.block, x.summary.frobenius_norm) for x in source.layers)


def _norm_or_reason(layer: Layer) -> LayerNorm | str:
    if layer.opaque is not None:
        return f"{layer.name}: {layer.opaque}"
    try:
        update = layer.update()
        if isinstance(update, Vector):
            return f"{layer.name}: a {layer.kind} difference is no matrix"
        return LayerNorm(layer.name, layer.component, block_of(layer.name), frobenius_norm(update))
    except _LAYER_ERRORS as error:
        return f"{layer.name}: {error.message}"


@dataclass(frozen=True, slots=True, eq=False)
class DeltaPicture:
    """One delta reduced to at most ``side`` x ``side`` cells."""

    name: str
    shape: tuple[int, int]  # of the whole delta
    cells: Float64Array  # root mean square of the entries in each cell


def picture_of(layer: Layer, side: int = 256) -> DeltaPicture:
    """Root mean squares over the cells of a grid. Every entry is counted; rows are formed in strips.

    Raises: OpaqueUpdateError, NonFiniteError naming the layer, what reading raises.
    """
    update = layer.update()
    height, width = matrix_shape(update)
    if not height or not width:
        raise ShapeError(f"{layer.name}: the delta is empty")
    row_of, column_of = (_cells(n, min(n, side)) for n in (height, width))
    starts = np.flatnonzero(np.diff(column_of, prepend=-1))
    sums = np.zeros((row_of[-1] + 1, len(starts)))
    columns = np.arange(width)
    step = max(1, _STRIP // width)
    for start in range(0, height, step):
        rows = np.arange(start, min(start + step, height))
        squares = np.add.reduceat(delta_entries(update, rows, columns) ** 2, starts, axis=1)
        np.add.at(sums, row_of[rows], squares)
    if not np.isfinite(sums).all():
        raise NonFiniteError(f"{layer.name}: NaN or infinity among its values")
    counts = np.outer(np.bincount(row_of), np.bincount(column_of))
    return DeltaPicture(layer.name, (height, width), np.sqrt(sums / counts))


def _cells(length: int, cells: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.arange(length, dtype=np.intp) * cells // length


def layer_named(adapter: Adapter, pattern: str) -> Layer:
    """The one layer whose name is, or matches, the pattern. Raises: OptionError where none or several do."""
    from fnmatch import fnmatchcase

    if pattern in adapter.layers:
        return adapter.layers[pattern]
    found = [name for name in adapter.layers if fnmatchcase(name, pattern)]
    if len(found) == 1:
        return adapter.layers[found[0]]
    if not found:
        raise OptionError(f"{pattern} matches none of {len(adapter.layers)} layers; the picture is of one layer")
    raise OptionError(f"{pattern} matches {len(found)} layers, e.g. {found[0]}; the picture is of one layer")
