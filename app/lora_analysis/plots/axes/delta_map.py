"""One layer's delta as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..style import MAGNITUDES, axes_or_new, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..values import DeltaPicture


def delta_map(picture: DeltaPicture, ax: Axes | None = None) -> Axes:
    """The root mean square of the delta's entries over a grid of cells, outputs downwards and inputs across."""
    with styled():
        ax = axes_or_new(ax, 6.4, 5.2)
        height, width = picture.shape
        image = ax.imshow(
            picture.cells, aspect="auto", cmap=MAGNITUDES, interpolation="nearest", vmin=0.0,
            extent=(0, width, height, 0),
        )  # fmt: skip
        ax.grid(visible=False)
        bar = ax.figure.colorbar(image, ax=ax, pad=0.015)
        bar.set_label("|ΔW|, root mean square of a cell")
        bar.outline.set_visible(False)
        ax.set(xlabel="input", ylabel="output", title=label(picture.name, 80))
        return ax
