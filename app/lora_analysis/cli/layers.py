"""``--layers``: every layer of an adapter, from its header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .output import shown

if TYPE_CHECKING:
    from rich.table import Table


def layer_table(layers: list[dict[str, Any]]) -> Table:
    """One line per layer: what it is, its rank and scale, and the shape of its delta."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in ("kind", "rank", "alpha", "scale", "delta"):
        table.add_column(heading, justify="right", no_wrap=heading != "kind")
    for layer in layers:
        kind = f"{layer['kind']}, dora" if layer["magnitude_axis"] else layer["kind"]
        scale = "" if layer["scale_origin"] == "none" else f"{layer['scale']:.4g}"
        shape = "×".join(map(str, layer["shape"])) if layer["shape"] else "needs the base"
        cells = (layer["name"], kind, _number(layer["rank"]), _number(layer["alpha"]), scale, shape)
        table.add_row(*(shown(cell, limit=200) for cell in cells))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
