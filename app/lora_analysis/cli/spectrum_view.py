"""Spectra for a person to read: a table of layers, a table of parts, and what was left out.

Layer names may come from a stranger, so all go through ``shown``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil, log10
from typing import TYPE_CHECKING

from . import wording
from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from ..adapter import FloatArray
    from ..spectra.groups import Group
    from ..spectra.order import Order
    from ..spectra.recommendation import Recommendation
    from ..spectra.values import LayerSpectrum, Spectrum

CURVE_WIDTH = 12
CURVE_DECADES = 2
NAME_LIMIT = 200
_LAYER_HEADINGS = ("rank", "scale", "‖Δ‖", "σ₁", "eff", "stable", "k90", "k95", "k99")
_GROUP_HEADINGS = ("layers", "‖Δ‖", "energy", "max σ₁", "eff", "stable", "part.", "entropy", "k95", "max k95")


def spectrum_view(
    found: Spectrum, order: Order, limit: int | None, *, by: str = "component", advice: Recommendation | None = None
) -> RenderableType:
    """The whole page. ``limit`` is the number of layers to list; summaries are about all of them."""
    from rich.console import Group as Lines

    layers = found.ordered(order, limit)
    parts: list[RenderableType] = [_title(found)]
    if layers:
        parts += [_layer_table(layers)]
        if len(layers) < len(found.layers):
            rest = wording.quantity(len(found.layers) - len(layers), "more layer")
            parts.append(shown(f"… {rest}, in order of {order}; --top 0 shows all", "dim"))
        groups = {"component": found.components, "block": found.blocks, "stage": found.stages, "role": found.roles}
        parts.append(_group_table(groups[by]()))
        parts += _beside_base(found, layers)
    parts += _skipped(found)
    if found.dead:
        parts.append(shown(f"dead: {wording.quantity(len(found.dead), 'layer')} with a delta of zero", "yellow"))
    if advice is not None:
        parts.append(shown(advice.statement, "green", limit=300))
        parts += [shown(f"  {reason}", "dim", limit=300) for reason in advice.reasons if advice.rank is not None]
    if any(layer.has_magnitude for layer in found.layers):
        parts.append(
            shown("DoRA: these are spectra of the delta, before the norms of the merged weight are set", "dim")
        )
    return Lines(*parts)


def _title(found: Spectrum) -> Text:
    line = shown(os.path.basename(os.path.normpath(found.path)), "bold", limit=NAME_LIMIT)
    count = len(found.layers)
    line.append(f"  {count:,} {'spectrum' if count == 1 else 'spectra'}, ‖Δ‖ {_number(found.frobenius_norm)}")
    return line


def _layer_table(layers: Sequence[LayerSpectrum]) -> Table:
    table = _table("layer", _LAYER_HEADINGS)
    table.add_column("decay", no_wrap=True, min_width=CURVE_WIDTH)
    for layer in layers:
        curve = shown(decay_curve(layer.singular_values), "cyan")
        table.add_row(shown(layer.label, limit=NAME_LIMIT), *_layer_cells(layer), curve)
    return table


def _layer_cells(layer: LayerSpectrum) -> Iterator[str]:
    measures = layer.summary
    yield "" if layer.rank is None else str(layer.rank)
    yield f"{layer.scale:.4g}"
    yield _number(measures.frobenius_norm)
    yield _number(measures.largest)
    yield f"{measures.effective_rank:.1f}"
    yield f"{measures.stable_rank:.1f}"
    yield from (str(rank) for rank in (measures.rank_90, measures.rank_95, measures.rank_99))


def _group_table(groups: Sequence[Group]) -> Table:
    table = _table("part", _GROUP_HEADINGS)
    for group in groups:
        name = group.component if group.block is None else f"{group.component} {group.block}"
        table.add_row(
            shown(name, limit=NAME_LIMIT),
            f"{group.layers:,}",
            _number(group.frobenius_norm),
            f"{group.energy_share:.1%}",
            _number(group.largest),
            f"{group.effective_rank_median:.1f}",
            f"{group.stable_rank_median:.1f}",
            f"{group.participation_ratio_median:.1f}",
            f"{group.relative_entropy_median:.2f}",
            f"{group.rank_95_median:g}",
            str(group.rank_95_largest),
        )
    return table


def _beside_base(found: Spectrum, layers: Sequence[LayerSpectrum]) -> Iterator[RenderableType]:
    """Where a checkpoint was given: every figure with what random directions would show behind it."""
    held = [(layer, layer.base) for layer in layers if layer.base is not None]
    if held:
        table = _table("beside the base", ("‖W‖", "‖Δ‖/‖W‖", "amplification", "φ out", "φ in", "intruders", "of"))
        for layer, base in held:
            table.add_row(
                shown(layer.label, limit=NAME_LIMIT),
                _number(base.base_norm),
                _optional(base.relative_norm),
                f"{_optional(base.amplification)} ({_optional(base.chance_amplification)})",
                f"{_optional(base.alignment_left)} ({_optional(base.chance_left)})",
                f"{_optional(base.alignment_right)} ({_optional(base.chance_right)})",
                "" if base.intruders is None else f"{'' if base.is_exact else '≤ '}{base.intruders}",
                f"{base.compared_with:,}" if base.compared_with else "",
            )
        yield table
    for reason, count in Counter(one.reason for one in found.without_base).most_common():
        yield shown(f"not beside the base: {wording.quantity(count, 'layer')}: {reason}", "yellow", limit=300)


def _optional(value: float | None) -> str:
    return "" if value is None else _number(value)


def _table(first: str, headings: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _number(value: float) -> str:
    """Three digits: norms of layers differ by orders of magnitude."""
    return f"{value:.3g}"


def _skipped(found: Spectrum) -> Iterator[Text]:
    """One line per reason, with how many layers it is true of. What is wrong with single layers goes to stderr."""
    reasons = Counter(skipped.reason for skipped in found.skipped if not skipped.is_error)
    for reason, count in reasons.most_common():
        yield shown(f"no spectrum: {wording.quantity(count, 'layer')}: {reason}", "yellow", limit=300)


def decay_curve(singular_values: FloatArray) -> str:
    """``σᵢ / σ₁`` over ``i`` as bars on a logarithmic scale, from the first value to the last.

    The full bar is σ₁, the lowest σ₁ / 100 and everything below, a blank zero. Sampled at 12 evenly spaced places
    where there are more values.
    """
    count = len(singular_values)
    if not count or not singular_values[0]:
        return ""
    places: Sequence[int] = range(count)
    if count > CURVE_WIDTH:
        places = [i * (count - 1) // (CURVE_WIDTH - 1) for i in range(CURVE_WIDTH)]
    return "".join(_bar(float(singular_values[place] / singular_values[0])) for place in places)


def _bar(relative: float) -> str:
    if not relative:
        return " "
    height = 1 + log10(relative) / CURVE_DECADES  # 1 for σ₁, 0 at the bottom; linear, most curves were one bar
    return wording.BARS[max(0, ceil(height * len(wording.BARS)) - 1)]
