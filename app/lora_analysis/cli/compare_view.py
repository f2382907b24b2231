"""A comparison for a person to read: every figure beside what chance would show.

Names of files and layers may come from a stranger, so all go through ``shown``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..text import printable
from . import wording
from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ..comparing.values import Comparison, LayerComparison, LayerPair, MeanOverlap, Pair

NAME_LIMIT = 200
VALUE_LIMIT = 40
DIFFERENCES = 30
GRID_LIMIT = 8  # rows and columns of φ to show


def compare_view(found: Comparison, limit: int | None) -> RenderableType:
    """The whole page. ``limit``: layers to list."""
    from rich.console import Group

    parts: list[RenderableType] = [_adapters(found), _pairs(found)]
    if len(found.adapters) > 2:
        parts.append(_matrix(found))
    parts += [_overlap(found)] if len(found.adapters) == 2 else []
    parts.append(_components(found))
    parts += _layers(found, limit)
    parts += _differences(found)
    for pair in found.pairs:
        for hint in pair.lineage:
            parts.append(shown(hint.statement, "green", limit=300))
            parts += [shown(f"  {line}", "dim", limit=300) for line in hint.evidence]
    parts += list(_left_out(found))
    return Group(*parts)


def _mark(number: int) -> str:
    """A, B, C, ...: names are long and stand in one table only."""
    return chr(ord("A") + number)


def _adapters(found: Comparison) -> Table:
    table = _table("", ())
    table.columns[0].justify = "left"
    table.add_column("adapter", overflow="fold")
    for heading in ("‖Δ‖", "layers", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("names as", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for number, adapter in enumerate(found.adapters):
        table.add_row(
            _mark(number),
            shown(adapter.name, limit=NAME_LIMIT),
            f"{found.norms[number]:.3g}",
            f"{adapter.layers:,}",
            wording.size(adapter.size_bytes),
            shown(adapter.dialect),
            shown(adapter.algorithm),
        )
    return table


def _pairs(found: Comparison) -> Table:
    table = _table(
        "pair", ("common", "alone", "cosine", "chance ±", "interference", "‖B−A‖/‖A‖", "B in A", "A in B", "chance")
    )
    for pair in found.pairs:
        chances = [c for c in (pair.chance_within_first, pair.chance_within_second) if c is not None]
        table.add_row(
            f"{_mark(pair.first)} {_mark(pair.second)}",
            f"{pair.layers_compared:,}",
            f"{len(pair.only_first):,}, {len(pair.only_second):,}",
            _number(pair.cosine if pair.layers_compared else None, ".4f"),
            _number(pair.chance_cosine if pair.layers_compared else None, ".1g"),
            _number(pair.interference, ".3f"),
            _number(pair.relative_difference, ".3g"),
            _number(pair.second_within_first, ".2%"),
            _number(pair.first_within_second, ".2%"),
            _number(max(chances), ".1%") if chances else "",
        )
    return table


def _matrix(found: Comparison) -> Table:
    """Cosines of all with all."""
    table = _table("cosine", [_mark(number) for number in range(len(found.adapters))])
    for number, row in enumerate(found.cosines):
        table.add_row(_mark(number), *(_number(value, ".3f") for value in row))
    return table


def _overlap(found: Comparison) -> RenderableType:
    from rich.console import Group

    parts: list[RenderableType] = []
    for side, what in ((found.pairs[0].left, "output"), (found.pairs[0].right, "input")):
        if side is not None:
            parts.append(
                shown(f"shared {what} directions: φ(i, j) of the i and j leading ones, mean of layers (chance)")
            )
            parts.append(_grid(side))
    return Group(*parts)


def _grid(side: MeanOverlap) -> Table:
    columns = side.columns[:GRID_LIMIT]
    table = _table("i \\ j", [str(j) for j in columns])
    for i, values, chances in zip(side.rows[:GRID_LIMIT], side.overlap, side.chance, strict=False):
        cells = zip(values[: len(columns)], chances, strict=False)
        table.add_row(str(i), *(_with_chance(value, chance) for value, chance in cells))
    return table


def _with_chance(value: float | None, chance: float | None) -> str:
    return "" if value is None else f"{value:.3f} ({chance:.3f})"


def _components(found: Comparison) -> Table:
    marks = [_mark(number) for number in range(len(found.adapters))]
    pairs = [(pair.first, pair.second) for pair in found.pairs] if len(marks) < 4 else []
    headings = ["layers", *(f"‖Δ‖ {mark}" for mark in marks), *(f"cos {_mark(i)}{_mark(j)}" for i, j in pairs)]
    table = _table("part", [*headings, "interference"])
    for part in found.components():
        table.add_row(
            shown(part.component),
            f"{part.layers:,}",
            *(f"{norm:.3g}" for norm in part.norms),
            *(_number(part.cosines[i][j], ".3f") for i, j in pairs),
            _number(part.interference, ".3f"),
        )
    return table


def _layers(found: Comparison, limit: int | None) -> Iterator[RenderableType]:
    """Of two adapters, the layers whose deltas agree least."""
    if len(found.adapters) != 2:
        return
    pair: Pair = (0, 1)
    held = [(layer, layer.pairs[pair]) for layer in found.layers if pair in layer.pairs]
    held.sort(key=lambda item: 0.0 if item[1].cosine is None else abs(item[1].cosine))
    table = _table("layer", ("ranks", "cosine", "‖B−A‖/‖A‖", "B in A", "φ out", "φ in", "chance", "angles in"))
    for layer, of in held[:limit]:
        table.add_row(shown(layer.name, limit=NAME_LIMIT), *_layer_cells(layer, of))
    yield table
    if limit is not None and len(held) > limit:
        rest = wording.quantity(len(held) - limit, "more layer")
        yield shown(f"… {rest} that agree better; --top 0 shows all", "dim")


def _layer_cells(layer: LayerComparison, pair: LayerPair) -> Iterator[str]:
    yield ", ".join("" if rank is None else str(rank) for rank in layer.stored_ranks)
    yield _number(pair.cosine, ".4f")
    yield _number(pair.relative_difference, ".3g")
    yield _number(pair.second_within_first, ".2%")
    if pair.left is None or pair.right is None:
        yield from ("", "", "", "")
        return
    left, right = pair.left.summary, pair.right.summary
    yield f"{left.mean_squared_cosine:.3f}"
    yield f"{right.mean_squared_cosine:.3f}"
    yield f"{max(left.chance_squared_cosine, right.chance_squared_cosine):.3f}"
    yield f"{right.smallest:.2f}–{right.largest:.2f}"


def _differences(found: Comparison) -> Iterator[RenderableType]:
    if not found.differences:
        return
    table = _table("what differs", ())
    for number in range(len(found.adapters)):
        table.add_column(_mark(number), overflow="fold")
    for difference in found.differences[:DIFFERENCES]:
        table.add_row(
            shown(difference.field, limit=60), *(shown(_value(value), limit=VALUE_LIMIT) for value in difference.values)
        )
    yield table
    if len(found.differences) > DIFFERENCES:
        yield shown(f"… {len(found.differences) - DIFFERENCES} more, see --json", "dim")


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return wording.counted(value) if all(isinstance(n, int) for n in value.values()) else json.dumps(value)
    return printable(value if isinstance(value, str) else json.dumps(value))


def _left_out(found: Comparison) -> Iterator[RenderableType]:
    reasons = Counter((skipped.adapter, skipped.reason) for skipped in found.skipped if not skipped.is_error)
    for (number, reason), count in reasons.most_common():
        yield shown(f"{_mark(number)}: {wording.quantity(count, 'layer')} not compared: {reason}", "yellow", limit=300)
    for note in found.notes:
        yield shown(note, "yellow", limit=300)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _table(first: str, headings: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
