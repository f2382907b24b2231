"""Optimizers as kohya's trainers print them: ``module.Class(name=value,name=(a, b))``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from .values import scalar

_CALL = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_MAX_CHARS = 10_000
_MAX_DEPTH = 4


class Optimizer(NamedTuple):
    """The class alone, its full path, and the arguments with their types."""

    name: str
    path: str
    arguments: dict[str, Any]


def parse_optimizer(printed: str) -> Optimizer:
    """Split class and arguments. Text of another shape is a name without arguments."""
    match = _CALL.fullmatch(printed[:_MAX_CHARS])
    if match is None:
        return Optimizer(printed, printed, {})
    path = match[1]
    return Optimizer(path.rpartition(".")[2] or path, path, _arguments(match[2] or ""))


def _arguments(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in _split(printed):
        name, equals, value = part.partition("=")
        if equals and name.strip():
            found[name.strip()] = _value(value.strip(), _MAX_DEPTH)
    return found


def _value(printed: str, depth: int) -> Any:
    """A Python literal: tuple or list of literals, quoted text, number, boolean or None; else the text."""
    first, last = printed[:1], printed[-1:]
    if depth and (first, last) in {("(", ")"), ("[", "]")}:
        return [_value(part.strip(), depth - 1) for part in _split(printed[1:-1])]
    if len(printed) > 1 and first == last and first in "'\"":
        return printed[1:-1]
    return printed if first in ("{", "[") else scalar(printed)


def _split(printed: str) -> Iterator[str]:
    """Parts between the commas that stand outside all brackets."""
    depth = start = 0
    for index, character in enumerate(printed):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            yield printed[start:index]
            start = index + 1
    if printed[start:].strip():
        yield printed[start:]
