"""Effective rank along the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..modules import in_network_order
from ..runs import mark_columns, runs_of, to_the_edges
from ..style import MUTED, PALETTE, axes_or_new, empty, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...spectra.values import Spectrum


def effective_ranks(spectrum: Spectrum, ax: Axes | None = None) -> Axes:
    """Every layer's effective rank ``exp(−Σ p ln p), p = σ/Σσ``, and its rank for 95 % of the energy, in the order of
    the network; the stored rank as a line above. Grey stripes are blocks.
    """
    with styled():
        ax = axes_or_new(ax, 11, 3.4)
        layers = in_network_order(spectrum.layers)
        if not layers:
            return empty(ax, "no layer has a spectrum")
        places = np.arange(len(layers))
        stored = np.array([layer.rank or layer.summary.count for layer in layers], float)
        effective = np.array([layer.summary.effective_rank for layer in layers])
        kept = np.array([layer.summary.rank_95 for layer in layers], float)
        size = float(np.clip(900 / len(layers), 3, 40))
        ceiling = float(np.percentile(stored, 98)) * 1.12 + 1  # one dense layer must not flatten the others
        ax.step(*to_the_edges(stored), where="mid", color=MUTED, linewidth=0.9, label="stored rank")
        marks = (
            (kept, PALETTE[1], 0.55, "rank for 95 % of the energy"),
            (effective, PALETTE[0], 0.8, "effective rank"),
        )
        for values, shade, alpha, name in marks:
            ax.scatter(places, values, s=size, color=shade, alpha=alpha, linewidths=0, label=name)
        mark_columns(ax, runs_of(layers), height=ceiling)
        ax.grid(visible=False, axis="x")
        ax.set(ylabel="rank", title="Effective rank of every layer, in the order of the network")
        ax.legend(
            loc="upper right",
            ncols=3,
            bbox_to_anchor=(1, 1.16),
            borderaxespad=0,
            markerscale=max(1.0, (30 / size) ** 0.5),
        )
        return ax
