"""Strings from untrusted files, made safe to show.

A tensor name or a header value may hold terminal escapes, bidirectional overrides, NULs or eight
million letters. They are kept as they are in values and in JSON; whatever goes to a terminal, a log
or a message goes through :func:`printable` first.
"""

from __future__ import annotations

import re
from itertools import chain

# C0, DEL and C1; line and paragraph separators; bidirectional marks, overrides and isolates (Unicode
# UAX #9): the last can make "gpj.exe" read as "exe.jpg".  Lone surrogates cannot be encoded at all.
_UNSAFE_RANGES = (
    range(0x20),
    range(0x7F, 0xA0),
    (0x061C, 0x200E, 0x200F, 0x2028, 0x2029),
    range(0x202A, 0x202F),
    range(0x2066, 0x206A),
    (0xFEFF,),
)
_UNSAFE = re.compile("[" + "".join(re.escape(chr(c)) for c in chain(*_UNSAFE_RANGES)) + "\ud800-\udfff]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(text: object, *, limit: int | None = None, newlines: bool = False) -> str:
    r"""``text`` with every control or direction-changing character shown as ``\xNN`` or ``\uNNNN``.

    ``limit`` cuts the result to that many characters, the last one then being an ellipsis.
    ``newlines`` keeps line breaks and tabs.
    """
    raw = text if isinstance(text, str) else str(text)
    if limit is not None and len(raw) > 4 * limit:  # do not escape megabytes to show a line of them
        raw = raw[: 4 * limit]
    if newlines:
        shown = "".join(c if c in "\n\t" else _UNSAFE.sub(_escape, c) for c in raw) if _UNSAFE.search(raw) else raw
    else:
        shown = _UNSAFE.sub(_escape, raw)
    if limit is not None and len(shown) > limit:
        shown = shown[: limit - 1] + "…"
    return shown


def printable_ends(text: str, limit: int) -> str:
    """As ``printable`` with a limit, but what is cut is in the middle: a message ends with what matters most."""
    if len(text) > 8 * limit:  # do not escape megabytes to show a line of them
        text = text[: 4 * limit] + text[-4 * limit :]
    shown = printable(text)
    if len(shown) <= limit:
        return shown
    end = (limit - 1) // 2
    return f"{shown[: limit - 1 - end]}…{shown[-end:]}"


def size(count: int | None) -> str:
    """Bytes in decimal units, as file managers and model sites count, to three digits: ``1.73 MB``."""
    if count is None:
        return "?"
    if count < 1000:
        return quantity(count, "byte")
    value, unit = count / 1000, "kB"
    for larger in ("MB", "GB"):
        if value >= 999.5:
            value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if value >= 99.5 else f"{value:.3g} {unit}"


def quantity(count: int, noun: str) -> str:
    """``1 layer``, ``2,166 layers``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
