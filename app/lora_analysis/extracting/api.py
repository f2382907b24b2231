"""``extract`` with plain keywords."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..errors import OptionError
from ..formats.checkpoint import open_checkpoint
from .extraction import ExtractReport, check_extract_output, write_extraction
from .options import ExtractOptions
from .plan import ExtractPlan, plan_extract

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


def extract(
    tuned: PathLike,
    base: PathLike,
    output: PathLike | None,
    *,
    to: str = "kohya",
    dry_run: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    compared: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> ExtractPlan | ExtractReport:
    """The adapter that turns ``base`` into ``tuned``: one truncated SVD per weight, with the error measured.

    ``asked``: one of ``rank``, ``energy``, ``error``, ``size``; further ``max_rank``, ``dtype``, ``seed``, ``power``,
    ``full_norms``, ``component``, ``family``; see :class:`.options.ExtractOptions`. ``to`` is the output's dialect.
    Returns the plan for ``dry_run``: both headers are read, and no value. ``compared(weights_done, weights_in_all)`` is
    called before anything is written, ``progress`` with bytes from then on.

    Raises: OptionError, FileAccessError, HeaderError, NonFiniteError naming the layer, OutputError, CancelledError.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    unknown = [key for key in given if key not in ExtractOptions.__dataclass_fields__]
    if unknown:
        raise OptionError(f"no option of an extraction is named {unknown[0]!r}")
    options = ExtractOptions(to=to, **given)  # type: ignore[arg-type]  # checked there
    with open_checkpoint(tuned) as new, open_checkpoint(base) as old:
        plan = plan_extract(new, old, options)
        place = None if output is None else check_extract_output(plan, output, overwrite=overwrite)
        if dry_run or place is None:
            return plan
        return write_extraction(
            plan, place,
            overwrite=overwrite, workers=workers, progress=progress, compared=compared, cancel=cancel,
        )  # fmt: skip
