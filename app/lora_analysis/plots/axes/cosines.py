"""How alike adapters are: the cosine of every pair, and of one pair in every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..modules import in_network_order
from ..runs import mark_columns, runs_of, to_the_edges
from ..style import CHANCE, PALETTE, SIGNED, axes_or_new, empty, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...comparing.values import Comparison


def cosines(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """The cosine of the whole deltas of every two adapters; what an adapter has not counts as zero."""
    with styled():
        names = [label(adapter.name, 30) for adapter in comparison.adapters]
        side = 2.6 + 0.55 * len(names)
        ax = axes_or_new(ax, side + 1.2, side)
        values = np.array([[np.nan if v is None else v for v in row] for row in comparison.cosines], float)
        ax.imshow(values, cmap=SIGNED, vmin=-1, vmax=1)
        ax.grid(visible=False)
        for (row, column), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.3f}"
            dark = abs(value) > 0.65
            ax.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=8)
        places = range(len(names))
        ax.set_xticks(places, names, rotation=35, ha="right", rotation_mode="anchor")
        ax.set_yticks(places, names)
        ax.tick_params(length=0)
        ax.set_title("Cosine of ΔW")
        return ax


def layer_cosines(comparison: Comparison, ax: Axes | None = None, *, first: int = 0, second: int = 1) -> Axes:
    """The cosine of two adapters in every layer that both have, beside what chance gives.

    Grey band: twice the standard deviation ``1/√(out · in · k)`` of the cosine of unrelated deltas.
    """
    with styled():
        ax = axes_or_new(ax, 11, 3.0)
        key = (min(first, second), max(first, second))
        both = in_network_order(layer for layer in comparison.layers if key in layer.pairs)
        values = np.array([_number(layer.pairs[key].cosine) for layer in both])
        if not np.isfinite(values).any():
            return empty(ax, "the two share no layer whose delta is not zero")
        chance = 2 * np.array([layer.pairs[key].chance_cosine for layer in both])
        places = np.arange(len(both))
        size = float(np.clip(900 / len(both), 4, 40))
        edges, band = to_the_edges(chance)
        ax.fill_between(edges, -band, band, color=CHANCE, alpha=0.35, linewidth=0, step="mid", label="chance (2σ)")
        ax.axhline(0, color=CHANCE, linewidth=0.7)
        ax.scatter(places, values, s=size, color=PALETTE[0], linewidths=0, alpha=0.85, label="cosine of ΔW")
        mark_columns(ax, runs_of(both), height=1.0)
        lowest = float(min(np.nanmin(values), -chance.max()))
        highest = float(max(np.nanmax(values), chance.max()))
        room = 0.08 * (highest - lowest)
        ax.set_ylim(max(-1.05, lowest - room), min(1.05, highest + room))
        ax.grid(visible=False, axis="x")
        names = [label(comparison.adapters[number].name, 40) for number in key]
        ax.set(ylabel="cosine", title=f"{names[0]} and {names[1]}, layer by layer")
        ax.legend(
            loc="upper right",
            ncols=2,
            bbox_to_anchor=(1, 1.18),
            borderaxespad=0,
            markerscale=max(1.0, (30 / size) ** 0.5),
        )
        return ax


def _number(value: float | None) -> float:
    return np.nan if value is None else value
