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


def plan_bake(work: Work) -> dict[str, Any]:
    from ...baking.plan import WeightedAdapter
    from ...baking.plan import plan_bake as plan
    from ...formats import open_adapter
    from ...formats.checkpoint import open_checkpoint

    inputs, base = work.params["inputs"], work.checkpoint_path(work.params["base"])
    with ExitStack() as stack:
        opened = [
            stack.enter_context(open_adapter(work.path_of(one["adapter"]), lenient_metadata=True)) for one in inputs
        ]
        checkpoint = stack.enter_context(open_checkpoint(base))
        weighted = [WeightedAdapter(adapter, one["weight"]) for adapter, one in zip(opened, inputs, strict=True)]
        made = plan(checkpoint, weighted, **work.params["options"])
        document = made.to_dict()
        layers = [
            {
                "layer": key,
                "shape": list(checkpoint.info(key).shape),
                "dtype": checkpoint.info(key).dtype,
                "bytes": checkpoint.info(key).nbytes,
                "added": [one.layer.name for one in additions],
            }
            for key, additions in made.additions.items()
        ]
    for place, one in zip(document["adapters"], inputs, strict=True):
        place["id"] = one["adapter"]
    size = document.pop("size")
    name = {"output": name_of_output("bake", base, work.params["options"])}
    command = command_of("bake", {**work.params, **name}, work.path_of)
    work.leave(
        {
            **document,
            **name,
            "command": command,
            "base": work.params["base"],
            "size_before": size,
            "size_after": size,
            "free": work.free_bytes(),
            "layers": layers,
        }
    )
    return {"tensors_changed": document["tensors_changed"], "size_after": size}


def plan_extract(work: Work) -> dict[str, Any]:
    from ...extracting.api import extract
    from ...extracting.plan import ExtractPlan

    tuned, base = (work.checkpoint_path(work.params[name]) for name in ("tuned", "base"))
    made = extract(tuned, base, None, dry_run=True, **work.params["options"])
    assert isinstance(made, ExtractPlan)  # nothing was written
    document = made.to_dict()
    name = {"output": name_of_output("extract", tuned, work.params["options"])}
    command = command_of("extract", {**work.params, **name}, work.path_of)
    ids = {key: work.params[key] for key in ("tuned", "base")}
    largest = document.pop("size_most")
    work.leave({**document, **ids, **name, "command": command, "size_after": largest, "notes": []})
    return {"layers": document["layers_compared"], "size_after": largest}
