"""Where the grammars put what they read, and where what they could not read becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ...adapter import Finding
from ...text import printable
from .values import UnreadableError

T = TypeVar("T")
Table = Mapping[str, tuple[str, Callable[[Any], Any]]]  # header key -> (name of the fact, how to read it)

_SHOWN_CHARS = 60


class Draft:
    """Facts found so far. The first grammar to state a fact keeps it; a value of None states nothing."""

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self.findings: list[Finding] = []

    def state(self, **facts: Any) -> None:
        """Add facts by name."""
        for name, value in facts.items():
            if value is not None and self.facts.get(name) is None:
                self.facts[name] = value

    def read(self, source: Mapping[str, Any], key: str, parse: Callable[[Any], T | None]) -> T | None:
        """The value of ``key``, or None where it is absent, means nothing, or cannot be read (then warned of)."""
        if key not in source:
            return None
        return self.parsed(key, source[key], parse)

    def parsed(self, key: str, value: Any, parse: Callable[[Any], T | None]) -> T | None:
        """``value`` read by ``parse``; where that fails, None and a warning that names ``key``."""
        try:
            return parse(value)
        except UnreadableError as error:
            self.warn("header-value", f"{key} is {_shown(value)}; expected {error}")
            return None

    def take(self, source: Mapping[str, Any], table: Table) -> None:
        """Read every key that ``table`` knows and ``source`` has."""
        for key, (fact, parse) in table.items():
            if key in source:
                self.state(**{fact: self.parsed(key, source[key], parse)})

    def set_aside(self, settings: Iterable[tuple[str, Any]]) -> None:
        """Keep options that have no name of their own here."""
        for name, value in settings:
            if value is not None:
                self.settings.setdefault(name, value)

    def warn(self, code: str, message: str) -> None:
        self.findings.append(Finding("warning", code, printable(message, limit=300)))


def _shown(value: Any) -> str:
    if isinstance(value, str):
        shown = value if len(value) <= _SHOWN_CHARS else f"{value[:_SHOWN_CHARS]}… ({len(value):,} characters)"
        return f'"{printable(shown)}"'
    if isinstance(value, int) and value.bit_length() > 1_024:
        return "an integer of hundreds of digits"
    if isinstance(value, (bool, int, float)) or value is None:
        return str(value)
    return f"a {type(value).__name__}"
