"""How fast singular values fall: every layer as a thin line, the middle of them as a thick one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..style import MUTED, axes_or_new, colour, decades, empty, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...linalg.floats import Float64Array
    from ...spectra.values import Spectrum

_FLOOR = 1e-6  # of σ₁: below it lie the errors of the arithmetic
_LINES = 400  # more lines only darken the page; they are taken at even distances


def decay(spectrum: Spectrum, ax: Axes | None = None) -> Axes:
    """``σₖ / σ₁`` over ``k``, both from 1, logarithmic upwards; one colour per component of the pipeline.

    Thick: the median over a component's layers that have a k-th value.
    """
    with styled():
        ax = axes_or_new(ax)
        if not spectrum.layers:
            return empty(ax, "no layer has a spectrum")
        for number, component in enumerate(dict.fromkeys(layer.component for layer in spectrum.layers)):
            curves = [_relative(layer.singular_values) for layer in spectrum.layers if layer.component == component]
            _draw(ax, curves, colour(number), f"{label(component, 24)} ({len(curves)})")
        ax.set_yscale("log")
        decades(ax.yaxis)
        ax.set_ylim(max(_FLOOR, _lowest(ax)), 1.15)
        ax.set_xlim(1, max(2, max(len(layer.singular_values) for layer in spectrum.layers)))
        ax.set(xlabel="index k of the singular value", ylabel="σₖ / σ₁", title="Singular values")
        ax.legend(loc="upper right", title="median of (layers)", title_fontsize=8)
        return ax


def _draw(ax: Axes, curves: Sequence[Float64Array], shade: str, name: str) -> None:
    from matplotlib.collections import LineCollection

    step = -(-len(curves) // _LINES)
    lines = [np.column_stack((np.arange(1, len(curve) + 1), curve)) for curve in curves[::step] if len(curve) > 1]
    faint = max(0.04, min(0.5, 12 / max(len(lines), 1)))
    ax.add_collection(LineCollection(lines, colors=shade, linewidths=0.6, alpha=faint, rasterized=True))
    middle = _median(curves)
    if len(middle):
        marker = "o" if len(middle) == 1 else None
        ax.plot(np.arange(1, len(middle) + 1), middle, color=shade, linewidth=2, marker=marker, label=name)
    else:
        ax.plot([], [], color=MUTED, label=f"{name}: all zero")


def _relative(values: Float64Array) -> Float64Array:
    """``σ / σ₁`` down to the floor; empty for a layer of zeros."""
    if not len(values) or values[0] <= 0:
        return np.empty(0)
    relative = values / values[0]
    kept: Float64Array = relative[relative > _FLOOR]
    return kept


def _median(curves: Sequence[Float64Array]) -> Float64Array:
    longest = max((len(curve) for curve in curves), default=0)
    table = np.full((len(curves), longest), np.nan)
    for row, curve in zip(table, curves, strict=True):
        row[: len(curve)] = curve
    columns = np.sum(np.isfinite(table), axis=0) * 2 >= max(len(curves), 1)  # fewer would be a median of outliers
    found: Float64Array = np.nanmedian(table[:, columns], axis=0) if columns.any() else np.empty(0)
    return found


def _lowest(ax: Axes) -> float:
    values = [float(np.min(line.get_ydata())) for line in ax.get_lines() if len(np.asarray(line.get_ydata()))]
    return min(values, default=1e-3) / 4
