"""JSON as RFC 8259 means it, for documents nobody has vouched for.

Python's parser takes a byte order mark or UTF-16 when it is given bytes, keeps the last of two equal
names, reads ``NaN`` and lone surrogates, and answers deep nesting with RecursionError. Here all of
that is one FormatError.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ..errors import FormatError, NonFiniteError

# Ten bytes of JSON can become three hundred of Python objects. Documents below the size are small whatever they hold;
# a larger one may hold as many strings, containers and commas as 300,000 tensors need.
_UNCHECKED_CHARS = 1_000_000
_MAX_STRINGS = 1_600_000
_MAX_CONTAINERS = 1_000_000
_MAX_COMMAS = 4_000_000
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)  # possessive: no backtracking record per character
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(document: str | bytes, *, what: str, unique_keys: bool = True, finite: bool = True) -> Any:
    """The value of a JSON document; ``what`` names it in messages.

    ``unique_keys`` refuses an object that has one name twice; ``finite`` refuses NaN, infinities and
    numbers beyond the range of a double. Strings of the result can always be encoded as UTF-8.

    Raises: FormatError.
    """
    text = _decoded(document, what)
    _check_amount(text, what)
    try:
        value = _decoder(unique_keys, finite).decode(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"{what}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise FormatError(f"{what}: JSON nested too deeply") from error
    except ValueError as error:  # ours, and int() above 4,300 digits
        reason = error.args[0] if isinstance(error, _RefusedError) else "a number has too many digits"
        raise FormatError(f"{what}: {reason}") from error
    if _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value, what)
    return value


def dumps(value: object, *, indent: int | None = None) -> str:
    """``value`` as strict JSON that can be encoded as UTF-8.

    Half characters, as in file names that are no Unicode, become U+FFFD.
    Raises: NonFiniteError where a number is NaN or infinite.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent)
    except ValueError as error:
        raise NonFiniteError("JSON has no NaN and no infinity; replace them before writing") from error
    return _SURROGATE.sub("\ufffd", text)


def count_strings(text: str) -> int:
    """How many strings, names included, the valid JSON document ``text`` holds."""
    first = text.find("\\")
    if first < 0:
        return text.count('"') // 2
    end = text.rfind("\\") + 2  # escapes stand close together: in the documents inside a header's metadata
    # A run of backslashes starts inside a string and is read in pairs from its left, as str.replace does.
    escaped = text[first:end].replace("\\\\", "").replace('\\"', "")
    return (text.count('"', 0, first) + escaped.count('"') + text.count('"', end)) // 2


class _RefusedError(ValueError):
    """Valid to Python's parser, not to us."""


def _decoded(document: str | bytes, what: str) -> str:
    if isinstance(document, str):
        return document
    try:
        return document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{what}: not UTF-8 (byte {error.start}); expected JSON in UTF-8") from error


def _check_amount(text: str, what: str) -> None:
    if len(text) <= _UNCHECKED_CHARS:
        return
    outline = _STRING.sub('"', text)
    strings, containers = outline.count('"'), outline.count("[") + outline.count("{")
    commas = outline.count(",")
    if strings > _MAX_STRINGS or containers > _MAX_CONTAINERS or commas > _MAX_COMMAS:
        raise FormatError(f"{what}: {strings + containers + commas:,} strings, lists and values are more than is read")


@lru_cache
def _decoder(unique_keys: bool, finite: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_unique if unique_keys else None,
        parse_constant=_refuse_constant if finite else None,
        parse_float=_finite if finite else None,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise _RefusedError(f'the name "{twice}" is there twice in one object')
    return found


def _refuse_constant(text: str) -> float:
    raise _RefusedError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _RefusedError(f"the number {text[:40]} is too large")
    return value


def _check_surrogates(value: Any, what: str) -> None:
    for text in _strings(value):
        if _SURROGATE.search(text):
            raise FormatError(f"{what}: half a character (a lone surrogate) in {text[:80]!r}")


def _strings(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            yield from item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
