"""What a dialect may look at to recognise its own: gathered once per file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...adapter import EMPTY


@dataclass(frozen=True, slots=True)
class KeyView:
    """A file's names: modules with their roles, the rest, and what the container says."""

    modules: Mapping[str, Mapping[str, str]]  # module -> role -> tensor name
    tails: Collection[str]  # how the names in modules end
    rest: tuple[str, ...]  # names outside every module
    metadata: Mapping[str, Any]
    config: Mapping[str, Any] | None
    container: str

    def count(self, *prefixes: str) -> int:
        """How many modules start with one of ``prefixes``."""
        return len([None for module in self.modules if module.startswith(prefixes)])

    def any_key(self, ending: str) -> bool:
        """Whether any tensor name inside a module ends with ``ending``."""
        return any(tail.endswith(ending) for tail in self.tails)

    def mostly(self, *prefixes: str) -> bool:
        """Whether at least half of the modules start with one of ``prefixes``."""
        return bool(self.modules) and 2 * self.count(*prefixes) >= len(self.modules)

    @property
    def settings(self) -> Mapping[str, Any]:
        """adapter_config.json, or nothing."""
        return self.config if self.config is not None else EMPTY

    def names(self) -> Iterable[str]:
        """Every module's name and every name outside a module."""
        yield from self.modules
        yield from self.rest


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way of naming tensors. ``speaks`` is asked in the registry's order; the first yes wins."""

    name: str
    title: str
    speaks: Callable[[KeyView], bool]
