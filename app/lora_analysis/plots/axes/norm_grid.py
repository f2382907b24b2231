"""Where the adapter acts: the norm of every layer, blocks downwards and modules across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..modules import Place, in_network_order, place_of
from ..runs import thinned
from ..style import MAGNITUDES, MISSING, axes_or_new, bar_size, empty, label, styled
from ..values import norms_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from ...linalg.floats import Float64Array
    from ...spectra.values import Spectrum
    from ..values import LayerNorm, Norms


def norm_grid(
    source: Spectrum | Norms,
    ax: Axes | None = None,
    *,
    component: str | None = None,
    top: float | None = None,
    bar: bool = True,
) -> Axes:
    """``‖Δ‖_F`` of every layer of a component (default: of all), in weight units. Grey: there is no such layer.

    ``top`` is the norm of the brightest colour, so that several grids can share a scale, and ``bar=False`` leaves out
    the scale itself. Layers that fall into one cell are added: ``√Σ‖Δ‖²``.
    """
    with styled():
        layers = in_network_order(layer for layer in norms_of(source) if component in (None, layer.component))
        rows, columns, grid = grid_of(layers)
        ax = axes_or_new(ax, grid_width(len(columns)), grid_height(len(rows)))
        if not layers:
            return empty(ax, "no layer has a norm")
        image = _draw(ax, grid, top)
        if bar:
            norm_bar(image, [ax])
        _label(ax, rows, columns)
        ax.set_title(label(component or "all components", 40))
        return ax


def grid_of(layers: Sequence[LayerNorm]) -> tuple[list[str], list[str], Float64Array]:
    """Names of rows and columns in order of appearance, and the norms; NaN where there is no layer."""
    places = [place_of(layer) for layer in layers]
    rows, columns = list(dict.fromkeys(p.row for p in places)), _ordered_columns(places)
    grid = np.full((len(rows), len(columns)), np.nan)
    row_at, column_at = ({name: n for n, name in enumerate(names)} for names in (rows, columns))
    for layer, place in zip(layers, places, strict=True):
        at = row_at[place.row], column_at[place.column]
        known = 0.0 if np.isnan(grid[at]) else grid[at]
        grid[at] = np.hypot(known, layer.norm)
    return rows, columns, grid


def grid_width(columns: int) -> float:
    return float(np.clip(2.8 + 0.34 * columns, 4.2, 14.0))


def grid_height(rows: int) -> float:
    return float(np.clip(1.9 + 0.15 * rows, 2.6, 13.0))


def _ordered_columns(places: Sequence[Place]) -> list[str]:
    """Modules in the order of appearance, those of most blocks first."""
    counts: dict[str, int] = {}
    for place in places:
        counts[place.column] = counts.get(place.column, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def norm_bar(image: AxesImage, axes: Sequence[Axes]) -> None:
    """The scale of one or several grids."""
    rows = sum(shown.get_size()[0] for ax in axes for shown in ax.get_images())
    bar = axes[0].figure.colorbar(image, ax=list(axes), pad=0.015, **bar_size(rows))
    bar.set_label("‖Δ‖  Frobenius norm, weight units")
    bar.outline.set_visible(False)


def _draw(ax: Axes, grid: Float64Array, top: float | None) -> AxesImage:
    from matplotlib import colormaps

    shades = colormaps[MAGNITUDES].with_extremes(bad=MISSING)
    peak = top or float(np.nanmax(grid)) or 1.0
    image = ax.imshow(grid, aspect="auto", cmap=shades, interpolation="nearest", vmin=0.0, vmax=peak)
    ax.grid(visible=False)
    return image


def _label(ax: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    shown = thinned([(place, label(name, 26)) for place, name in enumerate(rows)], len(rows), gap=0.011)
    ax.set_yticks([place for place, _ in shown], [name for _, name in shown], fontsize=6.5)
    names = thinned([(place, label(name, 26)) for place, name in enumerate(columns)], len(columns), gap=0.014)
    places, texts = [place for place, _ in names], [name for _, name in names]
    ax.set_xticks(places, texts, rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
    ax.tick_params(length=0)
