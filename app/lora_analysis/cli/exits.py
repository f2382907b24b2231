"""Exit codes, and the one table from errors to them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from ..errors import CancelledError, LoraAnalysisError, MissingExtraError, OptionError


class Exit(IntEnum):
    """What ``lora`` returns to the shell. docs/cli.md explains each to users."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PROBLEMS = 3  # `lora check` found something
    PARTIAL = 4  # some of many files failed
    MISSING_EXTRA = 5
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


# First match wins, so the most specific types come first.
ERROR_CODES: tuple[tuple[type[LoraAnalysisError], Exit], ...] = (
    (MissingExtraError, Exit.MISSING_EXTRA),
    (OptionError, Exit.USAGE),
    (CancelledError, Exit.INTERRUPTED),
    (LoraAnalysisError, Exit.FAILURE),
)


def exit_code(error: LoraAnalysisError) -> Exit:
    """The exit code that stands for ``error``."""
    return next((code for kind, code in ERROR_CODES if isinstance(error, kind)), Exit.FAILURE)


def code_for_many(codes: Sequence[Exit]) -> Exit:
    """Every file read: OK; none of them: FAILURE; anything between: PARTIAL."""
    failed = sum(code != Exit.OK for code in codes)
    if not failed:
        return Exit.OK
    return Exit.FAILURE if failed == len(codes) else Exit.PARTIAL
