"""Whole figures: axes put together, with a heading that says which adapter they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes.components import component_map, cumulative_variance, explained_variance, singular_value_bars
from .axes.cosines import cosines, layer_cosines
from .axes.decay import decay
from .axes.delta_map import delta_map
from .axes.distribution import distribution, magnitudes
from .axes.effective import effective_ranks
from .axes.energy import energy
from .axes.layer_map import Colour, layer_map, map_height
from .axes.norm_grid import grid_height, grid_of, grid_width, norm_bar, norm_grid
from .axes.overlap import overlap
from .axes.part_norms import part_norms
from .style import TITLE_LIMIT, label, styled
from .values import norms_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from ..comparing.values import Comparison
    from ..spectra.values import Spectrum
    from .values import DeltaPicture, Norms, Samples


_PAGE = 9.0  # inches


def ranks_page(spectrum: Spectrum, heading: str) -> Figure:
    """Singular values, energy kept, and effective rank along the network."""
    with styled():
        figure = _figure(11, 7.4, heading)
        top, bottom = _halves(figure, [1.15, 1])
        left, right = top.subplots(1, 2)
        decay(spectrum, left)
        energy(spectrum, right)
        effective_ranks(spectrum, bottom.subplots())
        return figure


def layers_page(spectrum: Spectrum, heading: str, colour: Colour = "relative") -> Figure:
    """The map of all singular values."""
    with styled():
        figure = _figure(8.2, map_height(len(spectrum.layers)) + 0.5, heading)
        layer_map(spectrum, figure.add_subplot(), colour=colour)
        return figure


def heatmap_page(source: Spectrum | Norms, heading: str) -> Figure:
    """A grid of norms per component: blocks downwards, modules across, one scale of colours."""
    with styled():
        layers = norms_of(source)
        components = list(dict.fromkeys(layer.component for layer in layers)) or ["adapter"]
        grids = {name: grid_of([x for x in layers if x.component == name]) for name in components}
        top = max((float(np.nanmax(grid)) for _, _, grid in grids.values() if grid.size), default=0.0) or None
        heights = {name: grid_height(len(rows)) for name, (rows, _, _) in grids.items()}
        widths = {name: grid_width(len(columns)) for name, (_, columns, _) in grids.items()}
        stacks = _stacked(heights)
        tall = max(sum(heights[name] for name in stack) for stack in stacks)
        wide = [max(widths[name] for name in stack) for stack in stacks]
        figure = _figure(sum(wide) + 0.9, tall + 0.5, heading)
        columns = figure.add_gridspec(1, len(stacks), width_ratios=wide)
        for number, stack in enumerate(stacks):
            lines = [heights[name] for name in stack]
            room = [max(tall - sum(lines), 1e-3)]  # panels of every column begin at the top and have rows of one height
            rows = columns[number].subgridspec(len(stack) + 1, 1, height_ratios=lines + room)
            panels = [figure.add_subplot(rows[place]) for place in range(len(stack))]
            for panel, name in zip(panels, stack, strict=True):
                norm_grid(source, panel, component=name, top=top, bar=False)
            if number == len(stacks) - 1 and panels[0].get_images():
                norm_bar(panels[0].get_images()[0], panels)
        return figure


def _stacked(heights: Mapping[str, float]) -> list[list[str]]:
    """Panels in one column, or in two of about the same height where one would be longer than a page."""
    if len(heights) < 2 or sum(heights.values()) <= _PAGE:
        return [list(heights)]
    stacks: list[list[str]] = [[], []]
    for name in sorted(heights, key=lambda name: -heights[name]):
        stacks.sort(key=lambda stack: sum(heights[member] for member in stack))
        stacks[0].append(name)
    order = list(heights)
    ordered = [sorted(stack, key=order.index) for stack in stacks]
    return sorted(ordered, key=lambda stack: order.index(stack[0]))


def delta_page(picture: DeltaPicture, heading: str) -> Figure:
    """One layer's delta."""
    with styled():
        figure = _figure(7, 6, heading)
        delta_map(picture, figure.add_subplot())
        return figure


def distribution_page(samples: Samples, heading: str) -> Figure:
    """Entries of the deltas by block, and their sizes over all."""
    with styled():
        blocks = len({(layer.component, layer.block) for layer in samples.layers})
        figure = _figure(float(np.clip(6 + 0.16 * blocks, 8, 14)), 7.4, heading)
        top, bottom = _halves(figure, [1.35, 1])
        distribution(samples, top.subplots())
        magnitudes(samples, bottom.subplots())
        return figure


def comparison_page(comparison: Comparison, heading: str) -> Figure:
    """Cosines of all pairs, the directions that the first two share, norms by block."""
    with styled():
        figure = _figure(11.5, 8.2, heading)
        top, bottom = _halves(figure, [1.25, 1])
        left, right = top.subplots(1, 2)
        cosines(comparison, left)
        overlap(comparison, right)
        part_norms(comparison, bottom.subplots())
        return figure


def similarity_page(comparison: Comparison, heading: str, *, first: int = 0, second: int = 1) -> Figure:
    """Two adapters: the cosine in every layer against chance, and the directions they share on either side."""
    with styled():
        figure = _figure(11.5, 7.8, heading)
        top, bottom = _halves(figure, [1, 1.3])
        layer_cosines(comparison, top.subplots(), first=first, second=second)
        left, right = bottom.subplots(1, 2)
        overlap(comparison, left, first=first, second=second, side="left")
        overlap(comparison, right, first=first, second=second, side="right")
        return figure


def pca_page(results: Mapping[str, Mapping[str, Any]], heading: str) -> Figure:
    """Explained and cumulative variance, singular values, and the components themselves."""
    with styled():
        figure = _figure(11, 7.4, heading)
        panels = figure.subplots(2, 2).ravel()
        draw = (explained_variance, cumulative_variance, singular_value_bars, component_map)
        for panel, axes in zip(draw, panels, strict=True):
            panel(results, axes)
        return figure


def heading_of(names: Sequence[str], facts: Sequence[str]) -> str:
    """``file · SDXL · rank 128``, of untrusted strings."""
    return " · ".join(label(part, TITLE_LIMIT) for part in [" and ".join(names), *facts] if part)


def _halves(figure: Figure, heights: list[float]) -> tuple[SubFigure, SubFigure]:
    top, bottom = np.ravel(figure.subfigures(2, 1, squeeze=False, height_ratios=heights))
    return top, bottom


def _figure(width: float, height: float, heading: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(heading, x=0.012, ha="left", fontsize=11, color="#1F2329", fontweight="bold")
    return figure
