"""Principal components of factors: how much they explain, and what they look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..style import SIGNED, axes_or_new, colour, decades, empty, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...linalg.floats import Float64Array

Results: TypeAlias = Mapping[str, Mapping[str, Any]]  # matrix name -> what analyze_lora_pca returns for it
_FAINT_LINES = 300
_MOST_FEATURES = 256
_ROUNDING = 1e-10  # of the largest singular value


def explained_variance(results: Results, ax: Axes | None = None) -> Axes:
    """Share of the variance that each component explains: the median over the matrices of a kind (``lora_A``,
    ``lora_B``, ...) as bars, from the 10th to the 90th percentile as a line.
    """
    with styled():
        ax = axes_or_new(ax, 5.2, 3.4)
        kinds = _tables(results, "explained_variance_ratio")
        if not kinds:
            return empty(ax, "no matrix has components")
        width = 0.8 / len(kinds)
        for number, (kind, table) in enumerate(kinds.items()):
            low, middle, high = _percentiles(table)
            places = np.arange(1, len(middle) + 1) + (number - (len(kinds) - 1) / 2) * width
            ax.bar(places, middle, width, color=colour(number), label=f"{kind} ({len(table)})", linewidth=0)
            ax.vlines(places, low, high, color="#30343B", linewidth=0.9)
        _whole_numbers(ax, kinds)
        ax.set(xlabel="component", ylabel="share of variance", title="Explained variance")
        ax.set_ylim(0, None)
        ax.legend(title="median (matrices)", title_fontsize=8)
        return ax


def cumulative_variance(results: Results, ax: Axes | None = None) -> Axes:
    """Share of the variance that the first k components explain together: every matrix thin, the median thick."""
    with styled():
        ax = axes_or_new(ax, 5.2, 3.4)
        kinds = _tables(results, "cumulative_variance")
        if not kinds:
            return empty(ax, "no matrix has components")
        for number, (kind, table) in enumerate(kinds.items()):
            _curves(ax, table, colour(number), kind)
        _whole_numbers(ax, kinds)
        ax.set(xlabel="components", ylabel="share of variance", title="Cumulative variance")
        ax.set_ylim(0, 1.02)
        ax.legend(loc="best")
        return ax


def singular_value_bars(results: Results, ax: Axes | None = None) -> Axes:
    """Singular values of the standardised matrices: every matrix thin, the median of a kind thick."""
    with styled():
        ax = axes_or_new(ax, 5.2, 3.4)
        kinds = _tables(results, "singular_values")
        if not kinds:
            return empty(ax, "no matrix has components")
        kinds = {kind: _above_rounding(table) for kind, table in kinds.items()}
        for number, (kind, table) in enumerate(kinds.items()):
            _curves(ax, table, colour(number), kind)
        _whole_numbers(ax, kinds)
        if all(np.nanmin(table) > 0 for table in kinds.values()):
            ax.set_yscale("log")
            decades(ax.yaxis)
        ax.set(xlabel="component", ylabel="singular value", title="Singular values")
        ax.legend(loc="best")
        return ax


def component_map(results: Results, ax: Axes | None = None) -> Axes:
    """The components of one matrix over its features; where there are several, how much of each matrix every component
    explains, a row per matrix.
    """
    with styled():
        from matplotlib.ticker import MaxNLocator

        ax = axes_or_new(ax, 5.2, 3.4)
        whole = [(name, found) for name, found in results.items() if found.get("components") is not None]
        if len(results) == 1 and whole:
            name, found = whole[0]
            return _one_map(ax, name, np.asarray(found["components"], float))
        kinds = _tables(results, "explained_variance_ratio")
        if not kinds:
            return empty(ax, "no matrix has components")
        # Kinds one below the other: A and B in turn, as the file has them, would be stripes that no screen resolves.
        table = _padded([row for rows in kinds.values() for row in rows])
        from_1 = (0.5, table.shape[1] + 0.5, len(table) - 0.5, -0.5)
        image = ax.imshow(table, aspect="auto", cmap="viridis", interpolation="nearest", vmin=0, extent=from_1)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
        _name_kinds(ax, kinds)
        bar = ax.figure.colorbar(image, ax=ax, pad=0.015)
        bar.outline.set_visible(False)
        bar.set_label("share of variance")
        ax.grid(visible=False)
        ax.set(
            xlabel="component",
            ylabel="matrices of a kind, in the file's order",
            title="Share of variance, every matrix",
        )
        return ax


def _name_kinds(ax: Axes, kinds: Mapping[str, Float64Array]) -> None:
    """The kinds along the y axis, a line between two of them."""
    ends = np.cumsum([len(table) for table in kinds.values()])
    starts = ends - [len(table) for table in kinds.values()]
    ax.set_yticks((starts + ends - 1) / 2, list(kinds))
    ax.tick_params(axis="y", length=0)
    for end in ends[:-1]:
        ax.axhline(float(end) - 0.5, color="white", linewidth=1.2)


def _one_map(ax: Axes, name: str, components: Float64Array) -> Axes:
    stride = -(-components.shape[1] // _MOST_FEATURES)
    starts = np.arange(0, components.shape[1], stride)
    counts = np.diff(np.append(starts, components.shape[1]))
    binned = np.add.reduceat(components, starts, axis=1) / counts
    peak = float(np.abs(binned).max()) or 1.0
    extent = (0, components.shape[1], len(components) + 0.5, 0.5)
    image = ax.imshow(binned, aspect="auto", cmap=SIGNED, vmin=-peak, vmax=peak, extent=extent, interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, pad=0.015)
    bar.outline.set_visible(False)
    bar.set_label("loading" if stride == 1 else f"mean loading of {stride} features")
    ax.grid(visible=False)
    ax.set(xlabel="feature", ylabel="component", title=f"Components of {label(name, 48)}")
    return ax


def _tables(results: Results, measure: str) -> dict[str, Float64Array]:
    """By kind of matrix (the last part of its name): (matrices, components), NaN where one has fewer."""
    members: dict[str, list[Sequence[float] | Float64Array]] = {}
    for name, found in results.items():
        values = found.get(measure)
        if values is not None and len(values):
            members.setdefault(label(name.rsplit(".", 1)[-1], 20), []).append(values)
    return {kind: _padded(rows) for kind, rows in members.items()}


def _padded(rows: Sequence[Sequence[float] | Float64Array]) -> Float64Array:
    table = np.full((len(rows), max(len(row) for row in rows)), np.nan)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def _above_rounding(table: Float64Array) -> Float64Array:
    """Without what is zero but for rounding: the last component of a centred matrix would stretch the axis to 1e-15.

    A column that nothing is left of goes too, the first one never.
    """
    peaks = np.nanmax(table, axis=1, keepdims=True, initial=0.0)
    kept: Float64Array = np.where(table > _ROUNDING * peaks, table, np.nan)
    some = np.isfinite(kept).any(axis=0)
    if not some.any():
        return table
    return kept[:, : int(np.flatnonzero(some)[-1]) + 1]


def _percentiles(table: Float64Array) -> Float64Array:
    found: Float64Array = np.nanpercentile(table, [10, 50, 90], axis=0)
    return found


def _curves(ax: Axes, table: Float64Array, shade: str, kind: str) -> None:
    from matplotlib.collections import LineCollection

    places = np.arange(1, table.shape[1] + 1)
    if len(table) > 1:
        step = -(-len(table) // _FAINT_LINES)
        lines = [np.column_stack((places, row))[np.isfinite(row)] for row in table[::step]]
        faint = max(0.05, min(0.8, 8 / len(lines)))
        ax.add_collection(LineCollection(lines, colors=shade, linewidths=0.5, alpha=faint))
    marker = "o" if table.shape[1] < 25 else None
    ax.plot(places, np.nanmedian(table, axis=0), color=shade, linewidth=2, marker=marker, markersize=3.5, label=kind)


def _whole_numbers(ax: Axes, kinds: Mapping[str, Float64Array]) -> None:
    from matplotlib.ticker import MaxNLocator

    most = max(table.shape[1] for table in kinds.values())
    ax.set_xlim(0.4, most + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
