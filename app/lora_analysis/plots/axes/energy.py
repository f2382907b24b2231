"""How much of the energy a rank keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..style import MUTED, PALETTE, axes_or_new, empty, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...linalg.floats import Float64Array
    from ...spectra.values import Spectrum

_THRESHOLDS = (0.90, 0.95, 0.99)
_MOST = 4096  # ranks on the axis; beyond, a full difference has nothing to show


def energy(spectrum: Spectrum, ax: Axes | None = None) -> Axes:
    """Energy ``Σσ²`` kept by rank k: of all deltas together, of the median layer, and a band from the 10th to the 90th
    percentile of the layers. Energy is that of the weights; it says nothing of pictures or text.
    """
    with styled():
        ax = axes_or_new(ax)
        table, weights = kept_energy(spectrum)
        if not table.size:
            return empty(ax, "no layer holds any energy")
        ranks = np.arange(1, table.shape[1] + 1)
        low, middle, high = np.percentile(table, [10, 50, 90], axis=0)
        whole = weights @ table
        if len(table) > 1:  # of one layer the three would be one line under three names
            ax.fill_between(
                ranks, low, high, color=PALETTE[0], alpha=0.15, linewidth=0, label="10th to 90th percentile"
            )
            ax.plot(ranks, middle, color=PALETTE[0], linewidth=1.2, label="median layer")
        name = "all layers together" if len(table) > 1 else "the one layer"
        ax.plot(ranks, whole, color=PALETTE[1], linewidth=2, label=name)
        for threshold in _THRESHOLDS:
            rank = int(np.argmax(whole >= threshold)) + 1
            ax.axhline(threshold, color=MUTED, linewidth=0.6, linestyle=(0, (4, 4)))
            ax.annotate(
                f"{threshold:.0%} at rank {rank}", (ranks[-1], threshold), xytext=(-2, -2),
                textcoords="offset points", ha="right", va="top", fontsize=7, color=MUTED,
                bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.4},
            )  # fmt: skip
        ax.set(xlabel="rank k", ylabel="share of Σσ²", title="Energy kept")
        ax.set_xlim(1, max(2, ranks[-1]))
        ax.set_ylim(min(0.9, float(low[0])) - 0.02, 1.005)
        ax.legend(loc="lower right")
        return ax


def kept_energy(spectrum: Spectrum) -> tuple[Float64Array, Float64Array]:
    """Per layer the share of its own energy that rank k keeps, ``(layers, k)``; and the layers' shares of the whole.

    Layers of zeros are left out.
    """
    alive = [layer for layer in spectrum.layers if layer.summary.frobenius_norm > 0]
    if not alive:
        return np.empty((0, 0)), np.empty(0)
    longest = min(max(len(layer.singular_values) for layer in alive), _MOST)
    table = np.ones((len(alive), longest))
    for row, layer in zip(table, alive, strict=True):
        kept = np.cumsum((layer.singular_values / layer.summary.frobenius_norm) ** 2)[:longest]
        row[: len(kept)] = np.minimum(kept, 1.0)
    norms = np.array([layer.summary.frobenius_norm for layer in alive])
    shares = (norms / np.max(norms)) ** 2
    return table, shares / np.sum(shares)
