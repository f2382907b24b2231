"""How far two adapters use the same directions: φ(i, j) beside its chance level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from ..style import MAGNITUDES, MISSING, axes_or_new, empty, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...comparing.values import Comparison

Side = Literal["left", "right"]
_WORDS = {"left": "outputs (left singular directions)", "right": "inputs (right singular directions)"}


def overlap(
    comparison: Comparison, ax: Axes | None = None, *, first: int = 0, second: int = 1, side: Side = "right"
) -> Axes:
    """``φ(i, j) = ‖Uᵢᵀ Vⱼ‖² / min(i, j)`` of the leading i and j directions, averaged over the layers; 1 where one
    span holds the other (Hu et al., arXiv 2106.09685, section 7.2). In brackets: what unrelated directions give.
    """
    with styled():
        ax = axes_or_new(ax, 5.4, 4.4)
        pair = comparison.pair(first, second)
        mean = pair.left if side == "left" else pair.right
        if mean is None:
            return empty(ax, "no layer with directions on both sides")
        values = np.array([[np.nan if v is None else v for v in row] for row in mean.overlap], float)
        chance = np.array([[np.nan if v is None else v for v in row] for row in mean.chance], float)
        from matplotlib import colormaps

        shades = colormaps[MAGNITUDES].with_extremes(bad=MISSING)
        ax.imshow(values, cmap=shades, vmin=0, vmax=1, aspect="auto")
        ax.grid(visible=False)
        if values.size <= 64:
            for (row, column), value in np.ndenumerate(values):
                if np.isfinite(value):
                    ink = "black" if value > 0.55 else "white"
                    text = f"{value:.2f}\n({chance[row, column]:.2f})"
                    ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=6.5)
        ax.set_xticks(range(len(mean.columns)), [str(j) for j in mean.columns])
        ax.set_yticks(range(len(mean.rows)), [str(i) for i in mean.rows])
        ax.tick_params(length=0)
        names = [label(comparison.adapters[number].name, 34) for number in (pair.first, pair.second)]
        ax.set(xlabel=f"j: {names[1]}", ylabel=f"i: {names[0]}", title=f"Shared {_WORDS[side]}")
        return ax
