"""Jobs that say what a write would do, without writing."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from ..commands import command_of
from ..naming import default_name
from .context import Work


def plan_resize(work: Work) -> dict[str, Any]:
    from ...formats import open_adapter
    from ...resizer import plan_resize as plan

    path = work.path_of(work.params["adapter"])
    with open_adapter(path, lenient_metadata=True) as adapter:
        made = plan(
            adapter,
            predict=work.params.get("predict", True),
            progress=work.progress("layers"),
            cancel=work.cancelled,
            base=work.own_name_of_base(),
            **work.params["options"],
        )
        name = {"output": name_of_output("resize", path, work.params["options"])}
        command = command_of("resize", {**work.params, **name}, work.path_of)
        work.leave({"adapter": work.params["adapter"], "command": command, **name, **made.to_dict()})
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
            layer_weights=[one.get("layer_weights") for one in inputs],
            base=work.base_path(),
            predict=work.params.get("predict", True),
            progress=work.progress("layers"),
            cancel=work.cancelled,
            **work.params["options"],
        )
        document = made.to_dict()
    for place, one in zip(document["inputs"], inputs, strict=True):
        place["id"] = one["adapter"]
    name = {"output": name_of_output("merge", work.path_of(inputs[0]["adapter"]), work.params["options"])}
    command = command_of("merge", {**work.params, **name}, work.path_of)
    work.leave({**document, "command": command, **name})
    return {"layers": document["layers_total"], "size_after": made.size_after}


def size_model(work: Work) -> dict[str, Any]:
    """Sizes at every rank, from headers."""
    from ...formats import open_adapter
    from ...resizing.request import options_of
    from ...resizing.size_model import size_model as model

    with open_adapter(work.path_of(work.params["adapter"]), lenient_metadata=True) as adapter:
        found = model(adapter, options_of(rank=1, **work.params["options"]))
    work.leave({"adapter": work.params["adapter"], **found.to_dict()})
    return {"layers": len(found.layers)}


def name_of_output(kind: str, path: str, options: dict[str, Any]) -> str:
    """A name for what a plan would write, which may be taken."""
    return default_name(kind, options, os.path.basename(path), is_folder=os.path.isdir(path))


def plan_convert(work: Work) -> dict[str, Any]:
    from ...converting.api import plan_convert as plan
    from ...formats import open_adapter

    path = work.path_of(work.params["adapter"])
    with open_adapter(path, lenient_metadata=True) as adapter:
        made = plan(adapter, **work.params["options"])
        document = made.to_dict()
    name = {"output": name_of_output("convert", path, work.params["options"])}
    command = command_of("convert", {**work.params, **name}, work.path_of)
    work.leave({"adapter": work.params["adapter"], "command": command, **name, **document})
    return {"layers": document["layers_after"], "size_after": made.size_after}
