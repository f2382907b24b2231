"""``extract`` with plain keywords."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..baking.checkpoint import open_checkpoint
from ..errors import OptionError
from .extraction import ExtractReport, check_extract_output, write_extraction
from .options import ExtractOptions
from .units import find_units

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


def extract(
    tuned: PathLike,
    base: PathLike,
    output: PathLike,
    *,
    to: str = "kohya",
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> ExtractReport:
    """The adapter that turns ``base`` into ``tuned``: one truncated SVD per weight, with the error measured.

    ``asked``: one of ``rank``, ``energy``, ``error``, ``size``; further ``max_rank``, ``dtype``, ``seed``, ``power``,
    ``full_norms``, ``component``, ``family``; see :class:`.options.ExtractOptions`. ``to`` is the output's dialect.

    Raises: OptionError, FileAccessError, HeaderError, NonFiniteError naming the layer, OutputError, CancelledError.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    unknown = [key for key in given if key not in ExtractOptions.__dataclass_fields__]
    if unknown:
        raise OptionError(f"no option of an extraction is named {unknown[0]!r}")
    options = ExtractOptions(to=to, **given)  # type: ignore[arg-type]  # checked there
    with open_checkpoint(tuned) as new, open_checkpoint(base) as old:
        found = find_units(new, old, options)
        place = check_extract_output(options, (new, old), output, overwrite=overwrite)
        return write_extraction(
            found, new, old, options, place, overwrite=overwrite, workers=workers, progress=progress, cancel=cancel
        )
