"""The kinds of jobs, and the function that runs each: one registry for the queue and for the workers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..jobs.store import Family
    from .context import Work


@dataclass(frozen=True, slots=True)
class Kind:
    """``run(work)`` returns the job's summary: a few plain values for a list. Its result goes into a file."""

    name: str
    family: Family
    home: str  # module beside this one
    function: str
    suffix: str = ".json"  # of the file with the result

    def load(self) -> Callable[[Work], dict[str, Any]]:
        """Imports what the job needs, which no other part of the server loads."""
        module = importlib.import_module(f".{self.home}", __package__)
        function: Callable[[Work], dict[str, Any]] = getattr(module, self.function)
        return function


_ALL = (
    Kind("scan", "scan", "scanning", "scan"),
    Kind("add", "analysis", "scanning", "add"),
    Kind("inspect", "analysis", "analyses", "inspect_headers"),
    Kind("layers", "analysis", "analyses", "layers"),
    Kind("spectra", "analysis", "analyses", "spectra", ".bin"),
    Kind("compare", "analysis", "analyses", "compare_adapters"),
    Kind("pca", "analysis", "analyses", "pca"),
    Kind("size-model", "analysis", "plans", "size_model"),
    Kind("plan-resize", "analysis", "plans", "plan_resize"),
    Kind("plan-merge", "analysis", "plans", "plan_merge"),
    Kind("plan-convert", "analysis", "plans", "plan_convert"),
    Kind("plan-bake", "analysis", "plans", "plan_bake"),
    Kind("plan-extract", "analysis", "plans", "plan_extract"),
    Kind("figure", "analysis", "analyses", "figure", ".figure"),
    Kind("verify", "write", "analyses", "verify"),
    # It reads every weight of the base and can take long, so it is listed, and has a write's time.
    Kind("base-spectrum", "write", "analyses", "base_spectrum"),
    Kind("report", "write", "analyses", "report", ".html"),
    Kind("resize", "write", "writes", "resize"),
    Kind("merge", "write", "writes", "merge"),
    Kind("convert", "write", "writes", "convert"),
    Kind("bake", "write", "writes", "bake"),
    Kind("extract", "write", "writes", "extract"),
)
KINDS = {kind.name: kind for kind in _ALL}
