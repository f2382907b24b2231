"""Jobs that bring the catalog up to date."""

from __future__ import annotations

from typing import Any

from ...errors import FileAccessError
from ..catalog.scan import ScanReport, scan_root
from .context import Work


def scan(work: Work) -> dict[str, Any]:
    """Scan the roots named, or all."""
    wanted = work.params.get("roots") or [root.id for root in work.roots]
    report = ScanReport()
    progress = work.progress("adapters")
    for root in work.roots:
        if root.id in wanted:
            scan_root(work.catalog, root, root.label, report, progress=progress, cancel=work.cancelled)
    work.leave(report.to_dict())
    return report.to_dict()


def add(work: Work) -> dict[str, Any]:
    """Put one uploaded file into the catalog."""
    root = next(root for root in work.roots if root.kind == "uploads")
    item = work.catalogue(root, work.params["path"])
    if item is None:
        raise FileAccessError("the uploaded file is gone")
    work.leave({"adapter": item})
    return {"adapter": item}
