"""Distributions side by side: letter values by Seaborn, or boxes by Matplotlib where Seaborn is not installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .style import MUTED, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..linalg.floats import Float64Array


def draw_distributions(ax: Axes, groups: Sequence[Float64Array], shades: Sequence[int]) -> None:
    """One vertical distribution per group at x = 0, 1, ...; ``shades`` are numbers of colours.

    Letter values (H. Hofmann, H. Wickham, K. Kafadar, JCGS 26 (2017) 469) halve the rest at every step, so tails of
    thousands of values stay visible where a box plot draws a cloud of points.
    """
    if find_spec("seaborn") is not None:
        _letter_values(ax, groups, shades)
    else:
        _boxes(ax, groups, shades)
    ax.set_xlim(-0.6, len(groups) - 0.4)


def _letter_values(ax: Axes, groups: Sequence[Float64Array], shades: Sequence[int]) -> None:
    import seaborn

    for place, (values, shade) in enumerate(zip(groups, shades, strict=True)):
        seaborn.boxenplot(
            x=[place] * len(values), y=values, ax=ax, color=colour(shade), native_scale=True, width=0.78,
            linewidth=0.4, showfliers=False, line_kws={"linewidth": 1.2, "color": "white"},
        )  # fmt: skip


def _boxes(ax: Axes, groups: Sequence[Float64Array], shades: Sequence[int]) -> None:
    drawn = ax.boxplot(
        list(groups), positions=range(len(groups)), widths=0.7, whis=(0.5, 99.5), showfliers=False, patch_artist=True,
        medianprops={"color": "white", "linewidth": 1.2}, whiskerprops={"color": MUTED}, capprops={"color": MUTED},
    )  # fmt: skip
    for box, shade in zip(drawn["boxes"], shades, strict=True):
        box.set(facecolor=colour(shade), linewidth=0)
