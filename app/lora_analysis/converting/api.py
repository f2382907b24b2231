"""``plan_convert`` and ``convert`` with plain keywords."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..adapter import Adapter
from ..formats import open_adapter
from .options import convert_options
from .plan import ConvertPlan
from .planning import plan_conversion
from .writing import ConvertReport, check_convert_output, write_conversion

PathLike = str | os.PathLike[str]
Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


def plan_convert(adapter: Adapter, to: str, **asked: Any) -> ConvertPlan:
    """What converting an open adapter will write; ``to`` is ``kohya``, ``peft``, ``diffusers`` or ``comfyui``.

    ``asked``: ``rank`` (of layers that become LoRA from another kind), ``plain``, ``uniform_rank``, ``bake_scale``,
    ``dtype``, ``component``, ``family``, ``drop``; see :class:`.options.ConvertOptions`.

    Raises: OptionError, UnknownDialectError; see :func:`.planning.plan_conversion`.
    """
    return plan_conversion(adapter, convert_options(to=to, **asked))


def convert(
    path: PathLike,
    to: str,
    output: PathLike,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **asked: Any,
) -> ConvertReport:
    """Write an adapter's deltas under the names of another dialect, and measure that they are the same.

    ``asked`` as for :func:`plan_convert`. ``output`` is a file; for PEFT, whose adapters are a weights file and a
    configuration, a folder.

    Raises: what ``open_adapter`` and ``plan_convert`` raise; OutputError, NonFiniteError, CancelledError. In every
    case the input is as it was, and so is whatever was at ``output``.
    """
    options = convert_options(to=to, **asked)
    with open_adapter(path, lenient_metadata=True) as adapter:
        plan = plan_conversion(adapter, options)
        check_convert_output(plan, output, overwrite=overwrite)
        return write_conversion(plan, output, overwrite=overwrite, workers=workers, progress=progress, cancel=cancel)
