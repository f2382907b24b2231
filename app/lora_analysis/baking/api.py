"""``bake`` and ``extract`` with plain keywords."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import isfinite

from ..errors import OptionError
from ..formats import open_adapter
from ..formats.checkpoint import open_checkpoint
from .plan import BakePlan, WeightedAdapter, plan_bake
from .writing import BakeReport, check_bake_output, write_bake

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


def bake(
    base: PathLike,
    adapters: Sequence[PathLike],
    weights: Sequence[float] | None,
    output: PathLike | None,
    *,
    family: str | None = None,
    drop: bool = False,
    dry_run: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> BakePlan | BakeReport:
    """Add adapters' deltas to a checkpoint: one safetensors file, or a folder or index of shards.

    Every changed tensor is calculated in float64 and rounded once to its own type; all others keep their bytes.
    ``drop`` leaves out what has no weight in the checkpoint, or is no delta. Returns the plan for ``dry_run``.

    Raises: what ``open_adapter``, ``plan_bake`` and ``write_bake`` raise. The inputs are not touched.
    """
    given = list(weights) if weights is not None else [1.0] * len(adapters)
    if not adapters or len(given) != len(adapters):
        raise OptionError(f"{len(adapters)} adapters and {len(given)} weights were given; each adapter has one")
    wrong = next((weight for weight in given if not isfinite(weight)), None)
    if wrong is not None:
        raise OptionError(f"a weight is {wrong}; it must be a number")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_adapter(path, lenient_metadata=True)) for path in adapters]
        checkpoint = stack.enter_context(open_checkpoint(base))
        inputs = [WeightedAdapter(adapter, weight) for adapter, weight in zip(opened, given, strict=True)]
        plan = plan_bake(checkpoint, inputs, family=family, drop=drop)
        if output is not None:
            check_bake_output(plan, output, overwrite=overwrite)
        if dry_run or output is None:
            return plan
        return write_bake(plan, output, overwrite=overwrite, workers=workers, progress=progress, cancel=cancel)
