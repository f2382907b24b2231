"""The whole adapter at a glance: a row per layer, a column per singular value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..modules import in_network_order
from ..runs import label_rows, runs_of
from ..style import MAGNITUDES, MISSING, axes_or_new, bar_size, empty, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...linalg.floats import Float64Array
    from ...spectra.values import LayerSpectrum, Spectrum

Colour = Literal["relative", "absolute"]
_FLOOR = 1e-4  # of the brightest value: four decades are what an eye tells apart
_MOST_COLUMNS = 1024


def layer_map(spectrum: Spectrum, ax: Axes | None = None, *, colour: Colour = "relative") -> Axes:
    """``log₁₀ σₖ`` of every layer, layers in the order of the network.

    ``relative``: to each layer's own σ₁, so that a row shows its decay. ``absolute``: in weight units, so that rows can
    be compared. Grey: the layer has no such value.
    """
    with styled():
        layers = in_network_order(spectrum.layers)
        ax = axes_or_new(ax, 7.4, map_height(len(layers)))
        if not layers:
            return empty(ax, "no layer has a spectrum")
        values = _table(layers)
        if colour == "relative":
            peaks = values[:, :1]
            values = np.divide(values, peaks, out=np.full_like(values, np.nan), where=peaks > 0)
        top = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
        if top <= 0:
            return empty(ax, "every delta is zero")
        _draw(ax, np.log10(np.clip(values / top, _FLOOR, None)) + np.log10(top), colour)
        label_rows(ax, runs_of(layers))
        return ax


def _draw(ax: Axes, logs: Float64Array, colour: Colour) -> None:
    from matplotlib import colormaps

    shades = colormaps[MAGNITUDES].with_extremes(bad=MISSING)
    image = ax.imshow(logs, aspect="auto", cmap=shades, interpolation="nearest", extent=_extent(logs))
    ax.grid(visible=False)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.015, anchor=(0.0, 1.0), **bar_size(len(logs), shrink=0.6))
    bar.set_label("log₁₀ σₖ / σ₁" if colour == "relative" else "log₁₀ σₖ")
    bar.outline.set_visible(False)
    ax.set(xlabel="index k of the singular value", title="Singular values of every layer")


def _extent(logs: Float64Array) -> tuple[float, float, float, float]:
    rows, columns = logs.shape
    return (0.5, columns + 0.5, rows - 0.5, -0.5)


def _table(layers: Sequence[LayerSpectrum]) -> Float64Array:
    """(layers, k), NaN beyond a layer's last value."""
    longest = min(max(len(layer.singular_values) for layer in layers), _MOST_COLUMNS)
    table = np.full((len(layers), longest), np.nan)
    for row, layer in zip(table, layers, strict=True):
        values = layer.singular_values[:longest]
        row[: len(values)] = values
    return table


def map_height(rows: int) -> float:
    """Inches: room for the rows, between a strip and a page."""
    return float(np.clip(1.4 + 0.012 * rows + 0.16 * min(rows, 24), 2.6, 12.0))
