"""Typed values out of header text.

Every value of a safetensors header should be a string, so trainers print what they hold: ``"None"``,
``"True"``, ``"1e-4"``, ``"nan"``, ``"(512, 768)"``, JSON in a string. Web sites and editors store the
same values parsed. Each function here takes either and returns a value, None where the text means
"nothing", or raises :class:`UnreadableError`, which never leaves this package: see ``Draft``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, isnan
from typing import Any, Literal

from ...errors import FormatError
from ..strict_json import loads

Dynamic = Literal["Dynamic"]  # what resize scripts write where every layer has its own rank
Size = tuple[int, int]  # width, height in pixels

MAX_DOCUMENT_CHARS = 4_000_000  # of JSON inside one header value; the tag lists of large data sets take 1 MB
_MAX_NUMBER_CHARS = 64
_MAX_INTEGER = 2**63
_NULLS = frozenset({"", "None", "none", "null", "NULL", "undefined"})
_NOT_A_NUMBER = frozenset({"nan", "NaN", "-nan"})
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_SIZE = re.compile(r"\s*[(\[]?\s*(\d{1,7})(?:\s*[,xX×]\s*(\d{1,7}))?\s*,?\s*[)\]]?\s*")
_INTEGER = re.compile(r"[+-]?\d{1,19}")


class UnreadableError(ValueError):
    """The text is not what its key promises; the argument says what was expected."""


def is_null(value: Any) -> bool:
    """Whether the value is a way of writing "nothing"."""
    return value is None or (isinstance(value, str) and value.strip() in _NULLS)


def text(value: Any) -> str | None:
    """A string; numbers and booleans as printed."""
    if value is None or (isinstance(value, str) and value.strip() in {"", "None", "null"}):
        return None
    if isinstance(value, (str, bool, float)) or (isinstance(value, int) and abs(value) < _MAX_INTEGER):
        return str(value)
    raise UnreadableError("text")


def number(value: Any) -> float | None:
    """A finite number. ``nan`` counts as nothing: trainers print it where an option is unset."""
    if is_null(value) or (isinstance(value, str) and value.strip() in _NOT_A_NUMBER):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise UnreadableError("a number")
    if isinstance(value, str) and (len(value) > _MAX_NUMBER_CHARS or "_" in value):
        raise UnreadableError("a number")
    try:
        result = float(value)
    except (ValueError, OverflowError):
        raise UnreadableError("a number") from None
    if isnan(result):
        return None
    if not isfinite(result):
        raise UnreadableError("a finite number")
    return result


def integer(value: Any) -> int | None:
    """A whole number; ``"1.0"`` is one."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        result = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        result = value
    else:
        parsed = number(value)
        if parsed is None:
            return None
        if not parsed.is_integer():
            raise UnreadableError("a whole number")
        result = int(parsed)
    if abs(result) >= _MAX_INTEGER:
        raise UnreadableError("a whole number below 2**63")
    return result


def count(value: Any) -> int | None:
    """A whole number that is not negative."""
    result = integer(value)
    if result is not None and result < 0:
        raise UnreadableError("a count, zero or more")
    return result


def rank(value: Any) -> int | Dynamic | None:
    """A positive whole number, or the word ``Dynamic``."""
    if isinstance(value, str) and value.strip().lower() == "dynamic":
        return "Dynamic"
    result = integer(value)
    if result is not None and result < 1:
        raise UnreadableError("a positive whole number")
    return result


def alpha(value: Any) -> float | Dynamic | None:
    """A number, or the word ``Dynamic``."""
    if isinstance(value, str) and value.strip().lower() == "dynamic":
        return "Dynamic"
    return number(value)


def flag(value: Any) -> bool | None:
    """A boolean, however it is spelled."""
    if isinstance(value, bool):
        return value
    if is_null(value):
        return None
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise UnreadableError("True or False")


def size(value: Any) -> Size | None:
    """``(width, height)`` from ``"(512, 768)"``, ``"512,768"``, ``"1024x1024"``, ``[512, 768]`` or one number."""
    if is_null(value):
        return None
    if isinstance(value, (list, tuple)) and len(value) == 2:
        width, height = count(value[0]), count(value[1])
        if width is not None and height is not None:
            return width, height
    elif isinstance(value, (int, float)):
        side = count(value)
        if side is not None:
            return side, side
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value[:_MAX_NUMBER_CHARS])):
        return int(match[1]), int(match[2] or match[1])
    raise UnreadableError("a width and a height")


def numbers(value: Any) -> float | tuple[float, ...] | None:
    """One number, or several (a learning rate per text encoder)."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = document(value)
    if isinstance(value, (list, tuple)):
        return tuple(item for item in map(number, value[:64]) if item is not None)
    return number(value)


def names(value: Any) -> tuple[str, ...] | None:
    """A list of strings, from a list or from text separated by commas."""
    if is_null(value):
        return None
    if isinstance(value, str):
        parts = value.split(",")
    elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        parts = list(value)
    else:
        raise UnreadableError("a list of names")
    return tuple(part.strip() for part in parts if part.strip())


def document(value: Any) -> Any:
    """JSON in a string, or the value itself where somebody parsed it already."""
    if not isinstance(value, str):
        return value
    if is_null(value):
        return None
    if len(value) > MAX_DOCUMENT_CHARS:
        raise UnreadableError(f"at most {MAX_DOCUMENT_CHARS:,} characters of JSON")
    try:
        return loads(value, what="value", finite=False)  # json_ready takes NaN out again
    except FormatError as error:
        raise UnreadableError(f"JSON ({error.message.removeprefix('value: ')})") from error


def mapping(value: Any) -> Mapping[str, Any] | None:
    """A JSON object."""
    found = document(value)
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise UnreadableError("a JSON object")
    return found


def sequence(value: Any) -> list[Any] | None:
    """A JSON list."""
    found = document(value)
    if found is None:
        return None
    if not isinstance(found, list):
        raise UnreadableError("a JSON list")
    return found


def scalar(value: Any) -> Any:
    """The value that text without a schema most likely stands for; text where nothing else fits."""
    if not isinstance(value, str):
        return value
    word = value.strip()
    if word in _NULLS or word in _NOT_A_NUMBER:
        return None
    if word in ("True", "true", "False", "false"):
        return word in ("True", "true")
    if len(word) <= _MAX_NUMBER_CHARS and word[:1] in "+-.0123456789":
        try:
            return integer(word) if _INTEGER.fullmatch(word) else number(word)
        except UnreadableError:
            return value
    if word[:1] in ("{", "["):
        try:
            return document(word)
        except UnreadableError:
            return value
    return value
