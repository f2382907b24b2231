"""Many adapters at once: as a table, as Markdown, as one JSON document or a line of JSON each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from .exits import Exit, code_for_many
from .inputs import Inputs
from .looking import Options, Outcome, look_at_all
from .output import complain, emit, show, to_json
from .progress import counted

SCHEMA = "lora-analysis/inspect/1"


class Format(StrEnum):
    """How to print for people."""

    TEXT = "text"
    MARKDOWN = "md"
    TABLE = "table"


class Result(Protocol):
    """What every condensed outcome keeps."""

    @property
    def code(self) -> Exit: ...
    @property
    def complaint(self) -> str | None: ...


R = TypeVar("R", bound=Result)


class Line(NamedTuple):
    """An outcome as text, made where the outcome was made."""

    text: str
    code: Exit
    complaint: str | None


def line_of(outcome: Outcome) -> Line:
    """An outcome as one line of JSON that stands for itself; runs in the workers."""
    return Line(to_json({"schema": SCHEMA, **outcome.to_dict()}), outcome.code, outcome.complaint)


def element_of(outcome: Outcome) -> Line:
    """An outcome as an element of the one JSON document; runs in the workers."""
    return Line(to_json(outcome.to_dict()), outcome.code, outcome.complaint)


def print_json(inputs: Inputs, options: Options, *, lines: bool) -> Exit:
    """``lines``: JSON Lines, written as they come. Otherwise one document with a list under ``adapters``."""
    if lines:
        return _conclude([_printed(line, "") for line in _results(inputs, options, line_of)], inputs)
    emit(f'{{"schema": {to_json(SCHEMA)}, "adapters": [')
    last = len(inputs.paths) - 1
    done = [_printed(line, "," * (i != last)) for i, line in enumerate(_results(inputs, options, element_of))]
    emit("]}")
    return _conclude(done, inputs)


def _printed(line: Line, end: str) -> Line:
    """Write the text and forget it."""
    emit(line.text + end)
    return line._replace(text="")


def print_table(inputs: Inputs, options: Options, form: Format) -> Exit:
    """One row per adapter, for reading or as Markdown."""
    from .rows import markdown_table, rich_table, row_of

    rows = list(_results(inputs, options, row_of))
    if form == Format.MARKDOWN:
        emit(markdown_table(rows))
    else:
        show(rich_table(rows))
    return _conclude(rows, inputs)


def _results(inputs: Inputs, options: Options, condense: Callable[[Outcome], R]) -> Iterator[R]:
    results = look_at_all(inputs.paths, options, condense=condense)
    return counted(results, len(inputs.paths))


def _conclude(results: Sequence[Result], inputs: Inputs) -> Exit:
    """What went wrong, on stderr after everything else, and the exit code that stands for it."""
    for path in inputs.skipped:
        complain(f"{path}: not a regular file; skipped", kind="note")
    for result in results:
        if result.complaint:
            complain(result.complaint)
    return code_for_many([result.code for result in results])
