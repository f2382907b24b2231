"""How strongly each adapter acts on each block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..modules import in_network_order
from ..runs import Run, name_columns, thinned
from ..style import axes_or_new, colour, empty, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...comparing.values import Comparison, PartComparison


def part_norms(comparison: Comparison, ax: Axes | None = None) -> Axes:
    """``‖Δ‖`` of every block, one line of bars per adapter, in weight units."""
    with styled():
        parts = _ordered(comparison)
        ax = axes_or_new(ax, float(np.clip(3.5 + 0.16 * len(parts) * len(comparison.adapters) ** 0.5, 6, 13)), 3.4)
        if not parts:
            return empty(ax, "no layer could be compared")
        count = len(comparison.adapters)
        width = 0.84 / count
        places = np.arange(len(parts))
        for number, adapter in enumerate(comparison.adapters):
            heights = [part.norms[number] for part in parts]
            offset = (number - (count - 1) / 2) * width
            ax.bar(places + offset, heights, width, color=colour(number), label=label(adapter.name, 40), linewidth=0)
        names = [(float(place), Run(part.component, part.block, 0, 1).name) for place, part in enumerate(parts)]
        shown = thinned(names, len(parts), gap=0.016)
        name_columns(ax, shown)
        ax.set_xlim(-0.6, len(parts) - 0.4)
        ax.grid(visible=False, axis="x")
        ax.set(ylabel="‖Δ‖  Frobenius norm", title="Norm of every block")
        ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
        ax.legend(loc="upper left", ncols=2)
        return ax


def _ordered(comparison: Comparison) -> list[PartComparison]:
    """The blocks in the order of the network."""
    order = {(layer.component, layer.block): n for n, layer in enumerate(in_network_order(comparison.layers))}
    return sorted(comparison.blocks(), key=lambda part: order[part.component, part.block])
