"""Options that several commands take, each with one name, one meaning and one help text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ..errors import OptionError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing OUT.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Layers at once; one per core unless you say.", show_default=False)
]
BaseModel = Annotated[
    str | None, typer.Option(metavar="FAMILY", help="The base model, where not recognised.", show_default=False)
]
Component = Annotated[
    str | None, typer.Option(metavar="NAME", help="This one only: unet, text_encoder, ...", show_default=False)
]
Energy = Annotated[
    float | None, typer.Option(metavar="E", help="Keep this fraction of Σσ² per layer.", show_default=False)
]
Size = Annotated[
    str | None, typer.Option(metavar="BYTES", help="Fit the file into this: 50MB, 48MiB.", show_default=False)
]
Params = Annotated[
    float | None, typer.Option("--params", metavar="N", help="Fit into this many values: 5e6.", show_default=False)
]
Norm = Annotated[
    float | None, typer.Option(metavar="E", help="Keep this fraction of √Σσ² per layer.", show_default=False)
]
Sum = Annotated[float | None, typer.Option("--sum", metavar="E", help="Keep this fraction of Σσ.", show_default=False)]
Ratio = Annotated[float | None, typer.Option(metavar="P", help="Keep what is above σ₁ / P.", show_default=False)]
Absolute = Annotated[float | None, typer.Option(metavar="S", help="Keep σ of at least S.", show_default=False)]
LayerError = Annotated[
    float | None, typer.Option(metavar="E", help="Relative error of each layer.", show_default=False)
]
Knee = Annotated[bool, typer.Option("--knee", help="Up to the knee of each spectrum.")]
SvRatio = Annotated[
    float | None, typer.Option(metavar="P", help="As sd-scripts: one more than --ratio.", show_default=False)
]
SvFro = Annotated[
    float | None, typer.Option(metavar="E", help="As sd-scripts: one more than --norm.", show_default=False)
]
SvCumulative = Annotated[
    float | None, typer.Option(metavar="E", help="As sd-scripts: one more than --sum.", show_default=False)
]
ConvRank = Annotated[float | None, typer.Option(metavar="K", help="Rank of k×k convolutions.", show_default=False)]
RankFor = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB=K", help="Rank of layers whose name matches; repeatable.", show_default=False),
]
MinRank = Annotated[float | None, typer.Option(metavar="K", help="No rule goes below this.", show_default=False)]
MaxRank = Annotated[float | None, typer.Option(metavar="K", help="No rule goes above this.", show_default=False)]
WholeError = Annotated[
    float | None, typer.Option(metavar="E", help="Relative error of the whole, 0 to 1.", show_default=False)
]


def output_option(says: str) -> Any:
    """``-o OUT`` of a command, which says what OUT may be."""
    return typer.Option("--output", "-o", metavar="OUT", help=says, show_default=False)


def require_output(output: str | None, *, dry_run: bool) -> None:
    """Raises: typer.BadParameter where a command could only calculate for nothing."""
    if output is None and not dry_run:
        raise typer.BadParameter("name the output with -o OUT, or ask for --dry-run")


def ranks_by_pattern(rows: Sequence[str]) -> dict[str, str]:
    """``GLOB=K`` as pattern and rank; ranks are checked with all others. Raises: OptionError."""
    pairs = [row.rpartition("=") for row in rows]
    for row, (pattern, _, rank) in zip(rows, pairs, strict=True):
        if not pattern or not rank:
            raise OptionError(f"{row!r} is no GLOB=K: a pattern of layer names and their rank")
    return {pattern: rank for pattern, _, rank in pairs}
