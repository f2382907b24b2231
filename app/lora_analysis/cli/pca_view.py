"""Principal components for a person to read. Layer names may come from a stranger, so all go through ``shown``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import wording
from .output import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

NAME_LIMIT = 200
SHARES = 4  # single components to show


def pca_view(found: Mapping[str, Any], limit: int | None) -> RenderableType:
    """The whole page. ``limit``: matrices to list."""
    from rich import box
    from rich.console import Group
    from rich.table import Table

    results = found["pca_results"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("matrix", overflow="fold")
    headings = ("samples × features", "used", *(f"PC{number + 1}" for number in range(SHARES)), "together", "variance")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, entry in list(results.items())[:limit]:
        table.add_row(shown(name, limit=NAME_LIMIT), *_cells(entry))
    parts: list[RenderableType] = [_title(found), table]
    if limit is not None and len(results) > limit:
        rest = len(results) - limit
        parts.append(shown(f"… {rest:,} more {'matrix' if rest == 1 else 'matrices'}; --top 0 shows all", "dim"))
    parts += [shown(line, "yellow", limit=300) for line in _remarks(found)]
    return Group(*parts)


def _title(found: Mapping[str, Any]) -> RenderableType:
    line = shown(os.path.basename(os.path.normpath(found["path"])), "bold", limit=NAME_LIMIT)
    what = "standardised factors" if found["target"] == "factors" else "deltas, not centred"
    line.append(f"  {found['total_matrices']:,} matrices, {found['n_components']} components of {what}")
    return line


def _cells(entry: Mapping[str, Any]) -> list[str]:
    ratios = entry["explained_variance_ratio"]
    shares = [f"{ratio:.1%}" for ratio in ratios[:SHARES]]
    return [
        f"{entry['shape'][0]:,} × {entry['shape'][1]:,}",
        str(entry["n_components"]),
        *shares,
        *[""] * (SHARES - len(shares)),
        f"{entry['cumulative_variance'][-1]:.1%}" if ratios else "",
        f"{entry['total_variance']:.3g}",
    ]


def _remarks(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if found["capped"]:
        matrices = wording.quantity(found["capped"], "matrix").replace("matrixs", "matrices")
        lines.append(f"{matrices} with fewer components than the {found['n_components']} asked for")
    reasons = Counter(skipped["reason"] for skipped in found["skipped"] if not skipped["is_error"])
    for reason, count in reasons.most_common():
        lines.append(f"no components: {wording.quantity(count, 'layer')}: {reason}")
    return lines
