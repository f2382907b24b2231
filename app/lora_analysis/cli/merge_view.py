"""A merge for a person to read: what goes in with which weight, what comes out, and what it costs.

Names of files and layers may come from a stranger, so all go through ``shown``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from math import isclose
from typing import TYPE_CHECKING, Any

from . import wording
from .facts import fact_table
from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from ..merging.methods.method import Method
    from ..merging.plan import MergePlan
    from ..merging.writing import MergeReport

NAME_LIMIT = 200
WORST = 10


def merge_view(result: MergePlan | MergeReport) -> RenderableType:
    """The whole page, of a plan or of what was done."""
    from rich.console import Group

    document = result.to_dict()
    output = document.get("output")
    parts: list[RenderableType] = [_inputs_table(document["inputs"]), "", _facts(document)]
    worst = _worst(document["layers"])
    if worst:
        parts += ["", _layer_table(worst)]
    parts += [shown(note, "yellow", limit=300) for note in document["notes"]]
    parts += [shown(line, "yellow", limit=300) for line in _dropped(document)]
    if output is not None:
        parts.append(shown(f"written: {output['path']}", "green", limit=300))
    return Group(*parts)


def methods_view(methods: Iterable[Method]) -> Table:
    """Every method in a line, with the parameters it takes."""
    from rich.table import Table

    from ..merging.methods.parameters import PARAMETERS

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for method in methods:
        takes = ", ".join(
            f"{name} {'' if value is None else value}".strip() for name, value in method.parameters.items()
        )
        table.add_row(shown(method.name, "bold"), shown(method.says + (f" ({takes})" if takes else "")))
        if method.wrong:
            table.add_row("", shown(method.wrong, "yellow"))
    table.add_row("", "")
    for name, parameter in PARAMETERS.items():
        table.add_row(shown(name), shown(f"{parameter.says}: {parameter.needed}", "dim"))
    return table


def _inputs_table(inputs: list[dict[str, Any]]) -> Table:
    table = _table("adapter", ("weight", "size", "layers", "alone in"))
    table.add_column("names as", no_wrap=True)
    for item in inputs:
        table.add_row(
            shown(item["path"], limit=NAME_LIMIT),
            f"{item['weight']:.4g}",
            wording.size(item["size_bytes"]),
            f"{item['layers_merged']:,}",
            f"{item['layers_alone']:,}" if item["layers_alone"] else "",
            shown(item["dialect"]),
        )
    return table


def _facts(document: dict[str, Any]) -> Table:
    """Labels and values in two columns."""
    ranks = document["rank_distribution"]
    rows = [
        ("method", document["method"]),
        ("layers", f"{document['layers_total']:,}"),
        ("rank", f"{wording.spread(ranks)}  {wording.sparkline(ranks) if len(ranks) > 1 else ''}".rstrip()),
        ("error", _error(document)),
        ("size", f"{wording.size(document['size_before'])} → {wording.size(document['size_after'])}"),
    ]
    if document["interference"] is not None:
        rows.insert(2, ("agreement", _agreement(document["interference"])))
    if not all(isclose(item["weight"], item["requested_weight"]) for item in document["inputs"]):
        rows.insert(1, ("weights", _divided(document["inputs"])))
    return fact_table(rows)


def _divided(inputs: list[dict[str, Any]]) -> str:
    total = sum(item["requested_weight"] for item in inputs)
    return f"divided by their sum, {total:.4g}; --no-normalize takes them as given"


def _agreement(found: dict[str, Any]) -> str:
    layers = found["layers"]
    counts = f"{layers['reinforce']:,} layers reinforce, {layers['cancel']:,} cancel, {layers['independent']:,} neither"
    return f"cosine {found['cosine']:+.3f} of the weighted deltas; {counts}"


def _error(document: dict[str, Any]) -> str:
    error = document["relative_error"]
    if "output" in document:
        before = document["relative_error_before_rounding"]
        return f"{_percent(error)} of ‖Δ‖ as stored, {_percent(before)} by truncation"
    return "not calculated" if error is None else f"{_percent(error)} of ‖Δ‖ before rounding"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _worst(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers that lose most by truncation; none where nothing is truncated."""
    cut = [layer for layer in layers if layer["rank"] != layer["exact_rank"] and layer["relative_error"] is not None]
    return sorted(cut, key=lambda layer: -layer["relative_error"])[:WORST]


def _layer_table(layers: list[dict[str, Any]]) -> Table:
    table = _table("layers that lose most", ("exact rank", "rank", "error"))
    for layer in layers:
        ranks = str(layer["exact_rank"]), str(layer["rank"])
        table.add_row(shown(layer["layer"], limit=NAME_LIMIT), *ranks, _percent(layer["relative_error"]))
    return table


def _table(first: str, headings: tuple[str, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _dropped(document: dict[str, Any]) -> Iterator[str]:
    """One line per input and reason."""
    counts = Counter((drop["input"], drop["reason"]) for drop in document["dropped"])
    for (number, reason), count in counts.items():
        path = document["inputs"][number]["path"]
        yield f"left out of {path}: {count:,} {'entry' if count == 1 else 'entries'}: {reason}"
