"""Jobs that say what a write would do, without writing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from .context import Work


def plan_resize(work: Work) -> dict[str, Any]:
    from ...formats import open_adapter
    from ...resizer import plan_resize as plan

    with open_adapter(work.path_of(work.params["adapter"]), lenient_metadata=True) as adapter:
        made = plan(
            adapter,
            predict=work.params.get("predict", True),
            progress=work.progress("layers"),
            cancel=work.cancelled,
            **work.params["options"],
        )
        work.leave({"adapter": work.params["adapter"], **made.to_dict()})
        return {"layers_changed": len(made.changed), "size_after": made.size_after}


def plan_merge(work: Work) -> dict[str, Any]:
    from ...formats import open_adapter
    from ...merging.api import plan_merge as plan

    inputs = work.params["inputs"]
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_adapter(work.path_of(one["adapter"]), lenient_metadata=True)) for one in inputs
        ]
        made = plan(
            opened,
            [one["weight"] for one in inputs],
            predict=work.params.get("predict", True),
            progress=work.progress("layers"),
            cancel=work.cancelled,
            **work.params["options"],
        )
        document = made.to_dict()
    for place, one in zip(document["inputs"], inputs, strict=True):
        place["id"] = one["adapter"]
    work.leave(document)
    return {"layers": document["layers_total"], "size_after": made.size_after}
