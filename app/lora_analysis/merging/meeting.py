"""Which layers of different inputs are one layer of the output, whatever their dialects call and fuse them.

The module table says which base weights a layer's rows belong to. Layers that share one are put together: the output
has them as its dialect does, fused or split, and rows of the others are moved there, exactly. Names that the table does
not know meet by spelling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..adapter import Adapter, Layer
from ..errors import OptionError
from ..formats.architectures import DIALECTS, Part, canonical_parts, spelled_in
from ..formats.families import UNKNOWN
from ..linalg.moves import Move
from .inputs import MergeInput, Share, own_share


class Home(NamedTuple):
    """The name and the spelling of a layer of the output that no input in its dialect has."""

    layer: Layer
    adapter: Adapter  # whose other layers show how tensors are called


class Union(NamedTuple):
    """Every layer of the output with the parts that inputs have in it."""

    layers: dict[str, list[Share]]
    homes: Mapping[str, Home]
    translated: int  # layers that are called, or fused, otherwise in some input


class _Known(NamedTuple):
    """A share and the base weights that its rows belong to."""

    share: Share
    parts: tuple[Part, ...]

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(part.module for part in self.parts)


class _Target(NamedTuple):
    """A layer of the output: the base weights it stacks, with their rows."""

    name: str
    modules: tuple[str, ...]
    sizes: tuple[int, ...]
    home: Home | None

    @property
    def starts(self) -> dict[str, int]:
        found, start = {}, 0
        for module, size in zip(self.modules, self.sizes, strict=True):
            found[module] = start
            start += size
        return found


def union_of(inputs: Sequence[MergeInput]) -> Union:
    """The union of all layers, in the order in which the inputs show them."""
    family = next((item.adapter.base_model.family for item in inputs if _family(item) != UNKNOWN), UNKNOWN)
    layers: dict[str, list[Share]] = {}
    homes: dict[str, Home] = {}
    translated = 0
    for group in _groups(inputs, family):
        if isinstance(group, Share):
            layers.setdefault(group.layer.name, []).append(group)
            continue
        found = list(_settled(group, inputs[0].adapter, family))
        for target, shares in found:
            layers.setdefault(target.name, []).extend(shares)
            if target.home is not None:
                homes[target.name] = target.home
        translated += len({one.share.layer.name for one in group}) > len(found)
    for shares in layers.values():
        shares.sort(key=lambda share: share.input)
    return Union(layers, homes, translated)


def _family(item: MergeInput) -> str:
    return item.adapter.base_model.family


def _groups(inputs: Sequence[MergeInput], family: str) -> Iterable[list[_Known] | Share]:
    """Shares that have a base weight in common, directly or through others; those of unknown names by themselves."""
    groups: dict[int, list[_Known] | Share] = {}
    of_module: dict[str, int] = {}
    for number, item in enumerate(inputs):
        for layer in item.adapter.layers.values():
            share = own_share(number, item, layer)
            parts = _parts(layer, family)
            if not parts:
                groups[len(groups)] = share
                continue
            met = sorted({of_module[part.module] for part in parts if part.module in of_module})
            place = met[0] if met else len(groups)
            group = groups.setdefault(place, [])
            assert isinstance(group, list)  # places of shares are not in of_module
            for other in met[1:]:
                joined = groups[other]
                assert isinstance(joined, list)
                group += joined
                groups[other] = []
            group.append(_Known(share, parts))
            of_module.update({part.module: place for known in group for part in known.parts})
    return [group for group in groups.values() if group]


def _parts(layer: Layer, family: str) -> tuple[Part, ...] | None:
    """None where the table does not help: rows that nobody knows, experts, whose matrices are stacked anyway."""
    if family == UNKNOWN or layer.shape is None or layer.experts:
        return None
    return canonical_parts(layer, family)


# -- one group ---------------------------------------------------------------------------------------


def _settled(group: list[_Known], first: Adapter, family: str) -> Iterable[tuple[_Target, list[Share]]]:
    """The output's layers for a group, each with its shares."""
    for target in _targets(group, first, family):
        shares = [moved for known in group if (moved := _moved(known, target)) is not None]
        yield target, shares


def _moved(known: _Known, target: _Target) -> Share | None:
    """The share as it belongs to the target: as it is, or with its rows moved. None where nothing of it does."""
    if known.modules == target.modules:
        return known.share
    starts = target.starts
    moves = tuple(Move(part.start, part.stop, starts[part.module]) for part in known.parts if part.module in starts)
    return known.share._replace(moves=moves, rows=sum(target.sizes)) if moves else None


def _targets(group: list[_Known], first: Adapter, family: str) -> list[_Target]:
    """Layers that hold every base weight of the group once: as inputs in the output's dialect have them, else as that
    dialect names them, else as any input has them.

    Raises: OptionError where the inputs fuse weights in ways that cannot be had together.
    """
    sizes = {part.module: part.stop - part.start for known in group for part in known.parts}
    own = [known for known in group if known.share.adapter.dialect == first.dialect]
    chosen = _disjoint(own) if own else []
    covered = {module for known in chosen or () for module in known.modules}
    targets = [_as_it_is(known) for known in chosen or ()]
    left = [module for module in sizes if module not in covered]
    if chosen is not None and left:
        named = _named(left, covered, sizes, group, first, family)
        if named is not None:
            return [*targets, *named]
        others = [known for known in group if not covered & set(known.modules)]
        rest = _disjoint(others) or []
        if {module for known in rest for module in known.modules} == set(left):
            return [*targets, *map(_as_it_is, rest)]
    if chosen is not None and not left:
        return targets
    whole = _disjoint(sorted(group, key=lambda known: -len(known.parts)))
    if whole is None or {module for known in whole for module in known.modules} != sizes.keys():
        names = sorted({known.share.layer.name for known in group})
        raise OptionError(f"{', '.join(names[:3])} divide the same weights in ways that do not fit; convert one first")
    return [_as_it_is(known) for known in whole]


def _as_it_is(known: _Known) -> _Target:
    return _Target(
        known.share.layer.name, known.modules, tuple(part.stop - part.start for part in known.parts), None
    )  # fmt: skip


def _disjoint(group: Sequence[_Known]) -> list[_Known] | None:
    """The layers that hold every module once, the first of each kind; None where two overlap only in part."""
    for order in (group, sorted(group, key=lambda known: -len(known.parts))):
        chosen: list[_Known] = []
        covered: set[str] = set()
        for known in order:
            modules = set(known.modules)
            if modules <= covered:
                continue
            if modules & covered:
                break
            chosen.append(known)
            covered |= modules
        else:
            return chosen
    return None


def _named(
    left: Sequence[str],
    covered: set[str],
    sizes: Mapping[str, int],
    group: Sequence[_Known],
    first: Adapter,
    family: str,
) -> list[_Target] | None:
    """Layers for modules that no input in the output's dialect has, as that dialect names and fuses them."""
    dialect = next((known for known in DIALECTS if known == first.dialect), None)
    if dialect is None:
        return None
    found = {}
    for module in left:
        held = spelled_in(dialect, module, family)
        if held is None or covered & set(held.modules):
            return None
        unit, rest = divmod(sizes[module], held.shares[held.modules.index(module)])
        if rest:
            return None
        sample = next(known.share.layer for known in group if module in known.modules)
        rows = tuple(share * unit for share in held.shares)
        shape = (sum(rows), *(sample.shape or ())[1:])
        layer = replace(sample, name=held.name, keys={}, shape=shape, load_bias=None, load_magnitude=None)
        found[held.name] = _Target(held.name, held.modules, rows, Home(layer, first))
    return list(found.values())
