"""Layers in the order of the network, as runs of one block: what long axes are labelled with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .modules import Placed
from .style import MUTED, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..linalg.floats import Float64Array

_SHORT = {"text_encoder": "te", "text_encoder_2": "te2", "text_encoder_3": "te3", "transformer": "", "model": ""}
_READABLE = 4  # names of up to 28 letters beside each other
_DENSE = 0.012  # of the axis: labels closer than this would overlap


class Run(NamedTuple):
    """Neighbouring layers of one component and block: positions ``[start, stop)``."""

    component: str
    block: str | None
    start: int
    stop: int

    @property
    def name(self) -> str:
        short = _SHORT.get(self.component, self.component)
        return label(" ".join(part for part in (short, self.block or "other") if part), 28)


def runs_of(layers: Sequence[Placed]) -> list[Run]:
    """The runs, in order; their sizes add up to the number of layers."""
    runs: list[Run] = []
    for place, layer in enumerate(layers):
        last = runs[-1] if runs else None
        if last is not None and (last.component, last.block) == (layer.component, layer.block):
            runs[-1] = last._replace(stop=place + 1)
        else:
            runs.append(Run(layer.component, layer.block, place, place + 1))
    return runs


def label_rows(ax: Axes, runs: Sequence[Run], *, dividers: str = "white") -> None:
    """Name the runs along the y axis and draw a line between them. Labels that would overlap are left out."""
    centres = [((run.start + run.stop - 1) / 2, run.name) for run in runs]
    shown = thinned(centres, runs[-1].stop if runs else 1)
    ax.set_yticks([centre for centre, _ in shown], [name for _, name in shown])
    ax.tick_params(axis="y", length=0)
    for before, run in pairwise(runs):
        width = 1.2 if run.component != before.component else 0.4
        ax.axhline(run.start - 0.5, color=dividers, linewidth=width)


def mark_columns(ax: Axes, runs: Sequence[Run], *, height: float) -> None:
    """Name the components along the x axis and shade every other run, so that blocks can be told apart."""
    for number, run in enumerate(runs):
        if number % 2:
            ax.axvspan(run.start - 0.5, run.stop - 0.5, color="#F4F5F7", zorder=0, linewidth=0)
    total = runs[-1].stop if runs else 1
    centres = [((run.start + run.stop - 1) / 2, run.name) for run in runs]
    shown = thinned(centres, total, gap=0.022)
    name_columns(ax, shown)
    ax.set_xlim(-0.5, total - 0.5)
    ax.set_ylim(0, height)


def name_columns(ax: Axes, labels: Sequence[tuple[float, str]]) -> None:
    """Names along the x axis: upright where there are many, as one reads where there is room."""
    style: dict[str, Any] = {"rotation": 90, "fontsize": 6.5} if len(labels) > _READABLE else {"fontsize": 7.5}
    ax.set_xticks([place for place, _ in labels], [name for _, name in labels], color=MUTED, **style)
    ax.tick_params(axis="x", length=0)


def to_the_edges(values: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Places and values of one number per layer for steps over the whole width of every column, the outer ones too.

    Without this a step of a single layer has no width, and nothing is drawn.
    """
    places = np.concatenate(([-0.5], np.arange(len(values), dtype=float), [len(values) - 0.5]))
    return places, np.concatenate((values[:1], values, values[-1:]))


def thinned(labels: Sequence[tuple[float, str]], total: int, gap: float = _DENSE) -> list[tuple[float, str]]:
    """Those labels that keep ``gap`` of the axis from the one before."""
    shown: list[tuple[float, str]] = []
    for centre, name in labels:
        if not shown or centre - shown[-1][0] >= gap * total:
            shown.append((centre, name))
    return shown
