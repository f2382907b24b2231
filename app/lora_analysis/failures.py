"""What went wrong, as the dict that applications get instead of an exception."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from .errors import LoraAnalysisError
from .text import printable


def caught(work: Callable[[], None], *, doing: str, path: Any, logger: logging.Logger) -> dict[str, str] | None:
    """The error that ``work`` ended with, logged, as ``{"type", "code", "message"}``; None where it did not.

    ``doing`` and ``path`` say in the log what failed where it is a defect of this package: its code is ``internal``.
    """
    try:
        work()
    except LoraAnalysisError as error:
        logger.error("%s", error.message)
        return error.to_dict()
    except Exception as error:  # a defect of ours must not take the application down; the log has the trace
        logger.exception("%s failed: %s", doing, printable(path, limit=200))
        message = printable(f"unexpected {type(error).__name__}: {error}", limit=300)
        return {"type": type(error).__name__, "code": "internal", "message": message}
    return None
