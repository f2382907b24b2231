"""One network's weights under every name they are known by: the table that undoes underscores and fusions.

A *style* is one way of naming the same network: ``diffusers`` (dotted names of the diffusers or transformers module),
``native`` (the original checkpoint, also ComfyUI's), sometimes ``kohya`` where a trainer names modules in a third way.
A weight of one style can hold several weights of another (``qkv`` holds ``to_q``, ``to_k`` and ``to_v``), so every
entry lists the *canonical* modules its rows belong to, in order, and how many rows each has in relation to the others.

Templates spell an index as ``{}`` and are matched as a whole, with dots or underscores between the parts: the table,
not a rule about strings, knows that ``attn_to_out_0`` is ``attn.to_out.0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import NamedTuple, TypeAlias

_NUMBER = re.compile(r"(?<![^._])(\d{1,6})(?![^._])")
_LONGEST_NAME = 512  # characters; no module name is longer

Style = str  # "diffusers", "native", "kohya", "alias"
# Words of a name -> places of the numbers that the entry fixes -> those numbers -> the entry.
_Patterns: TypeAlias = "dict[str, dict[tuple[int, ...], dict[tuple[str, ...], Entry]]]"


class Entry(NamedTuple):
    """One weight in one style: its name, and the canonical modules whose rows it stacks."""

    template: str
    modules: tuple[str, ...]  # templates with the same indices
    shares: tuple[int, ...]  # rows of each module in relation to the others


class Held(NamedTuple):
    """A weight by its actual name, with the canonical modules it holds from the first row to the last."""

    name: str
    modules: tuple[str, ...]
    shares: tuple[int, ...]


class Names(NamedTuple):
    """One weight, or the weights that ``native`` fuses, by all of their names."""

    diffusers: tuple[str, ...]
    native: str | None = None
    kohya: str | None = None  # where trainers use a third name
    shares: tuple[int, ...] = (1,)
    halves: tuple[str, str] | None = None  # names of the halves that the two styles store the other way round
    aliases: tuple[str, ...] = ()  # names that are read and never written


def same(*templates: str) -> tuple[Names, ...]:
    """Weights with one name everywhere."""
    return tuple(Names((template,), template) for template in templates)


def renamed(names: Mapping[str, str]) -> tuple[Names, ...]:
    """``{native: diffusers}``."""
    return tuple(Names((diffusers,), native) for native, diffusers in names.items())


def fused(native: str, folder: str, modules: Iterable[str], shares: tuple[int, ...] = ()) -> Names:
    """``native`` stacks ``folder.module`` for each of ``modules``; equal shares unless given."""
    parts = tuple(f"{folder}.{module}" for module in modules)
    return Names(parts, native, shares=shares or (1,) * len(parts))


def swapped(native: str, diffusers: str, halves: tuple[str, str] = ("shift", "scale")) -> Names:
    """One weight in both styles whose halves are in the other order; ``halves`` in native order."""
    return Names((diffusers,), native, shares=(1, 1), halves=halves)


class Table:
    """The names of one network. Raises ValueError, when first asked, where one name would mean two things."""

    def __init__(self, names: Iterable[Names]) -> None:
        self._names = tuple(names)

    @cached_property
    def _patterns(self) -> tuple[_Patterns, dict[Style, _Patterns]]:
        """By the weights' names, and by canonical module in each style. Made when first asked for: most never are."""
        by_name: _Patterns = {}
        by_module: dict[Style, _Patterns] = {}
        for weight in self._names:
            for style, entry in _entries(weight):
                _insert(by_name, entry.template, entry)
                for module in () if style == "alias" else entry.modules:
                    _insert(by_module.setdefault(style, {}), module, entry)
        return by_name, by_module

    def modules(self) -> list[str]:
        """Templates of every canonical module."""
        entries = (e for found in self._patterns[0].values() for places in found.values() for e in places.values())
        return sorted({module for entry in entries for module in entry.modules})

    def read(self, name: str) -> Held | None:
        """What a weight's name (no prefix of a tool or component before it) stands for; None where unknown."""
        found = _find(self._patterns[0], name)
        return _filled(*found) if found else None

    def spell(self, module: str, style: Style) -> Held | None:
        """The weight that holds a canonical module in ``style``; None where the style has no name for it."""
        found = _find(self._patterns[1].get(style, {}), module)
        return _filled(*found) if found else None


def _entries(weight: Names) -> Iterable[tuple[Style, Entry]]:
    if weight.halves:
        (whole,), (first, second) = weight.diffusers, weight.halves
        parts = {half: f"{whole}.{half}" for half in weight.halves}
        yield "diffusers", Entry(whole, (parts[second], parts[first]), (1, 1))
        if weight.native:
            yield "native", Entry(weight.native, (parts[first], parts[second]), (1, 1))
        return
    for part in weight.diffusers:
        yield "diffusers", Entry(part, (part,), (1,))
    for style, template in (("native", weight.native), ("kohya", weight.kohya or weight.native)):
        if template:
            yield style, Entry(template, weight.diffusers, weight.shares)
    for template in weight.aliases:
        yield "alias", Entry(template, weight.diffusers, weight.shares)


# -- patterns ----------------------------------------------------------------------------------------


class _Flat(NamedTuple):
    """A name without its numbers: "transformer_blocks_#_attn_to_out_#" and ("3", "0")."""

    pattern: str
    numbers: tuple[str, ...]


@lru_cache(maxsize=1 << 16)  # a folder of adapters repeats the same few thousand names
def _flatten(name: str) -> _Flat:
    if len(name) > _LONGEST_NAME:
        return _Flat("", ())
    return _Flat(_NUMBER.sub("#", name).replace(".", "_"), tuple(_NUMBER.findall(name)))


def _insert(patterns: _Patterns, template: str, entry: Entry) -> None:
    """File an entry by its words, then by the positions of its fixed numbers, then by those numbers."""
    # "{}" stands where a number will: "0" marks the place, and which places are free is remembered.
    slots = re.findall(r"(?<![^._])(\d{1,6}|\{\})(?![^._])", template)
    pattern = _flatten(template.replace("{}", "0")).pattern
    fixed = tuple(place for place, slot in enumerate(slots) if slot != "{}")
    known = patterns.setdefault(pattern, {}).setdefault(fixed, {})
    numbers = tuple(slots[place] for place in fixed)
    before = known.setdefault(numbers, entry)
    if before.modules != entry.modules:
        raise ValueError(f"{template} is {before.modules} and {entry.modules}")


def _find(patterns: _Patterns, name: str) -> tuple[Entry, list[str]] | None:
    flat = _flatten(name)
    by_places = patterns.get(flat.pattern)
    if not by_places:
        return None
    # The entry with the most fixed numbers says most: the last block of a model can differ from the others.
    for fixed in sorted(by_places, key=len, reverse=True):
        entry = by_places[fixed].get(tuple(flat.numbers[place] for place in fixed))
        if entry is not None:
            return entry, [number for place, number in enumerate(flat.numbers) if place not in fixed]
    return None


def _filled(entry: Entry, indices: list[str]) -> Held:
    modules = tuple(module.format(*indices) for module in entry.modules)
    return Held(entry.template.format(*indices), modules, entry.shares)
