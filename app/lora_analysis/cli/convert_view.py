"""A conversion for a person to read. Names of layers come from a stranger's file, so all go through ``shown``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import wording
from .facts import page

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ..converting.plan import ConvertPlan
    from ..converting.writing import ConvertReport

_WORDS = {
    "rename": "renamed, the same bytes",
    "factor": "made plain LoRA from another kind",
    "join": "joined: factors of several layers stacked",
    "share": "joined: one down for several layers",
    "slice": "split: rows of a fused layer, its down copied",
    "cut": "split: the own block of stacked factors",
    "reorder": "rows put in another order",
    "rewrite": "factors rewritten",
}


def convert_view(result: ConvertPlan | ConvertReport) -> RenderableType:
    """The whole page, of a plan or of what was done."""
    document = result.to_dict()
    return page(_rows(document), document, document["missing"])


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "names", f"{document['dialect_before']} → {document['options']['to']} ({document['base_model']})"
    yield "layers", f"{document['layers_before']:,} → {document['layers_after']:,}"
    for action, count in document["actions"].items():
        yield "", f"{count:,} {_WORDS[action]}"
    size = document["output"]["size"] if "output" in document else document["size_after"]
    yield "size", f"{wording.size(document['size_before'])} → {wording.size(size)} ({size:,} bytes)"
    if "relative_error" in document:
        worst = f"; worst layer {document['worst_layer_error']:.2g}" if document["worst_layer"] else ""
        yield "error", f"{document['relative_error']:.2g} of ‖Δ‖, measured on the written file{worst}"
        for label, key in (("biases", "biases"), ("DoRA norms", "dora_norms")):
            found = document[key]
            if found["compared"]:
                of = f", in {found['layer']}" if found["layer"] else ""
                alone = found.get("alone", ())
                own = f", {len(alone):,} of them without a delta, e.g. {alone[0]}" if alone else ""
                furthest = f"largest difference {found['max_difference']:.2g}{of}"
                yield label, f"{furthest}; {found['compared']:,} compared{own}"
