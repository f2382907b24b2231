"""Jobs that write a new adapter. Each writes whole or not at all, and never over a file that exists."""

from __future__ import annotations

from typing import Any

from .context import Work


def resize(work: Work) -> dict[str, Any]:
    from ...resizer import resize as write

    report = write(
        work.path_of(work.params["adapter"]),
        work.output_path(work.params["output"]),
        progress=work.progress("bytes"),
        cancel=work.cancelled,
        base=work.own_name_of_base(),
        **work.params["options"],
    )
    plan = report.plan
    summary = {
        "layers_total": len(plan.layers),
        "layers_changed": len(plan.changed),
        "relative_error": report.relative_error,
        "size_before": plan.size_before,
        "size_after": report.written.size,
    }
    return _conclude(work, report.to_dict(), summary)


def merge(work: Work) -> dict[str, Any]:
    from ...merging.api import merge as write

    inputs = work.params["inputs"]
    report = write(
        [work.path_of(one["adapter"]) for one in inputs],
        [one["weight"] for one in inputs],
        work.output_path(work.params["output"]),
        layer_weights=[one.get("layer_weights") for one in inputs],
        base=work.base_path(),
        progress=work.progress("bytes"),
        cancel=work.cancelled,
        **work.params["options"],
    )
    summary = {
        "layers_total": len(report.layers),
        "relative_error": report.relative_error,
        "size_after": report.written.size,
    }
    return _conclude(work, report.to_dict(), summary)


def convert(work: Work) -> dict[str, Any]:
    from ...converting.api import convert as write

    report = write(
        work.path_of(work.params["adapter"]),
        output=work.output_path(work.params["output"]),
        progress=work.progress("bytes"),
        cancel=work.cancelled,
        **work.params["options"],
    )
    document = report.to_dict()
    wanted = ("layers_before", "layers_after", "actions", "size_before", "size_after", "relative_error")
    summary = {name: document[name] for name in wanted}
    return _conclude(work, document, summary | {"missing": len(document["missing"])})


def bake(work: Work) -> dict[str, Any]:
    from ...baking.api import bake as write
    from ...baking.writing import BakeReport

    inputs = work.params["inputs"]
    report = write(
        work.checkpoint_path(work.params["base"]),
        [work.path_of(one["adapter"]) for one in inputs],
        [one["weight"] for one in inputs],
        work.output_path(work.params["output"]),
        progress=work.progress("bytes"),
        cancel=work.cancelled,
        **work.params["options"],
    )
    assert isinstance(report, BakeReport)  # no dry run
    document = report.to_dict()
    wanted = ("tensors", "tensors_changed", "rounding")
    summary = {name: document[name] for name in wanted}
    return _conclude(work, document, {**summary, "size_after": report.size, "skipped": len(document["skipped"])})


def extract(work: Work) -> dict[str, Any]:
    from ...extracting.api import extract as write
    from ...extracting.extraction import ExtractReport

    report = write(
        work.checkpoint_path(work.params["tuned"]),
        work.checkpoint_path(work.params["base"]),
        work.output_path(work.params["output"]),
        compared=work.progress("weights"),
        progress=work.progress("bytes"),
        cancel=work.cancelled,
        **work.params["options"],
    )
    assert isinstance(report, ExtractReport)  # no dry run
    document = report.to_dict()
    wanted = ("layers_extracted", "unchanged", "relative_error")
    summary = {name: document[name] for name in wanted}
    return _conclude(work, document, {**summary, "size_after": report.size, "skipped": len(document["skipped"])})


def _conclude(work: Work, report: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    item = work.catalogue(work.output_root(), work.params["output"])
    work.leave({**report, "adapter": item})
    return {**summary, "adapter": item}
