"""How large the entries of the deltas are, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import TYPE_CHECKING

import numpy as np

from ..letters import draw_distributions
from ..modules import in_network_order
from ..runs import Run, name_columns
from ..style import axes_or_new, colour, decades, empty, label, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...linalg.floats import Float64Array
    from ..values import LayerSample, Samples

_MOST_GROUPS = 72  # narrower than this a distribution is a line; neighbours are then drawn together
_PER_GROUP = 12_000


def distribution(samples: Samples, ax: Axes | None = None) -> Axes:
    """The entries of ΔW of every block, in weight units. Each layer gives the same number of entries.

    The scale is linear within the median block's middle 90 %. Beyond, on both sides of zero, it is logarithmic, if
    entries there reach a power of ten.
    """
    with styled():
        groups = _groups(in_network_order(samples.layers))
        ax = axes_or_new(ax, float(np.clip(3 + 0.17 * len(groups), 5, 14)), 4.4)
        alive = [values for _, values in groups if np.any(values)]
        if not alive:
            return empty(ax, "every delta is zero" if groups else "no layer has a delta")
        components = list(dict.fromkeys(run.component for run, _ in groups))
        draw_distributions(ax, [v for _, v in groups], [components.index(run.component) for run, _ in groups])
        linear = float(np.median([np.percentile(np.abs(values), 90) for values in alive])) or 1e-8
        shown = max(map(abs, ax.get_ylim()))
        if floor(log10(shown)) > log10(linear):  # a power of ten lies between: there is something to label
            ax.set_yscale("symlog", linthresh=linear, linscale=1.0)
            decades(ax.yaxis, linear)
        ax.axhline(0, color="white", linewidth=0.6)
        name_columns(ax, [(float(place), run.name) for place, (run, _) in enumerate(groups)])
        ax.grid(visible=False, axis="x")
        ax.set(xlabel="", ylabel="entries of ΔW", title="Distribution of weight changes by block")
        if len(components) > 1:
            _legend(ax, components)
        return ax


def magnitudes(samples: Samples, ax: Axes | None = None) -> Axes:
    """Histogram of ``log₁₀ |ΔW|`` over all layers, each layer weighted by its size; one line per component."""
    with styled():
        ax = axes_or_new(ax, 5.2, 3.6)
        parts: dict[str, list[LayerSample]] = {}
        for layer in samples.layers:
            parts.setdefault(layer.component, []).append(layer)
        drawn = False
        for number, (component, layers) in enumerate(parts.items()):
            values = np.abs(np.concatenate([layer.values for layer in layers]))
            weights = np.concatenate([np.full(layer.values.size, layer.size / layer.values.size) for layer in layers])
            alive = values > 0
            if not alive.any():
                continue
            drawn = True
            logs = np.log10(values[alive])
            span = (float(np.percentile(logs, 0.2)), float(logs.max()) + 1e-9)
            counts, edges = np.histogram(logs, bins=80, range=span, weights=weights[alive])
            density = counts / weights.sum() / np.diff(edges)
            ax.fill_between(edges[:-1], density, step="post", color=colour(number), alpha=0.18, linewidth=0)
            ax.step(edges[:-1], density, where="post", color=colour(number), linewidth=1.3, label=label(component, 24))
        if not drawn:
            return empty(ax, "every delta is zero")
        ax.set_ylim(0, None)
        ax.set(xlabel="log₁₀ |entry of ΔW|", ylabel="share per decade", title="Sizes of the entries")
        ax.legend(loc="upper left")
        return ax


def _groups(layers: Sequence[LayerSample]) -> list[tuple[Run, Float64Array]]:
    """Blocks of each component in the order of appearance, or whole components where blocks are too many."""
    blocks = {(layer.component, layer.block) for layer in layers}
    per_block = len(blocks) <= _MOST_GROUPS
    members: dict[tuple[str, str | None], list[LayerSample]] = {}
    for layer in layers:
        members.setdefault((layer.component, layer.block if per_block else "all layers"), []).append(layer)
    return [(Run(*key, 0, 1), _thin(found)) for key, found in members.items()]


def _thin(layers: Sequence[LayerSample]) -> Float64Array:
    values = np.concatenate([layer.values for layer in layers])
    return values[:: max(1, -(-len(values) // _PER_GROUP))]


def _legend(ax: Axes, components: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour(n), label=label(name, 24)) for n, name in enumerate(components)]
    ax.legend(handles=handles, loc="upper right", ncols=len(handles), bbox_to_anchor=(1, 1.1), borderaxespad=0)
