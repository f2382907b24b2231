"""Values that every JSON reader accepts: no NaN, no lone surrogates, no endless nesting.

Python's own ``json`` writes ``NaN`` and ``"\\ud800"``, which others refuse, and stops with an exception
at deep nesting or at integers of thousands of digits. Values taken from untrusted headers hold all four.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

MAX_DEPTH = 64
_MAX_INTEGER_BITS = 1_024  # Python refuses to print integers of more than 4,300 digits
_DEEPER = "(nested too deep to show)"


def json_ready(value: Any, *, depth: int = MAX_DEPTH) -> Any:
    """``value`` as plain dicts, lists, strings, numbers, booleans and None, fit for any JSON writer.

    NaN and infinity become None, lone surrogates a ``\\udcNN`` escape in plain text, whatever is nested
    deeper than ``depth`` a note that says so, and anything else its ``str``.
    """
    if type(value) is float:  # first: of some documents, spectra among them, nearly every value is one
        return value if isfinite(value) else None
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if value.isascii() else encodable(value)
    if isinstance(value, int):
        return int(value) if value.bit_length() <= _MAX_INTEGER_BITS else None
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        if depth <= 0:
            return _DEEPER
        return {encodable(str(key)): json_ready(item, depth=depth - 1) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray)):
        return [json_ready(item, depth=depth - 1) for item in value] if depth > 0 else _DEEPER
    return encodable(str(value))


def encodable(text: str) -> str:
    """``text`` with lone surrogates (file names that are no UTF-8 have them) spelled out as escapes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
