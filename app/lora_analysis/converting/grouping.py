"""Which input layers make up each output layer, and with which of their rows and factor columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..adapter import FloatArray, Layer, LowRank
from ..errors import OptionError
from ..formats.architectures import Held, Part, canonical_parts, spelled_in
from .options import ConvertOptions
from .plan import Action, Missing, Move, Source


class Grouped(NamedTuple):
    """One output layer: its name, its rows, and what makes it up."""

    held: Held
    rows: int  # 0 where only the base knows
    sources: tuple[Source, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it is one input layer, row by row."""
        if len(self.sources) != 1:
            return False
        (source,) = self.sources
        moves, shape = source.moves, source.layer.shape
        if shape is None:
            return True
        rows = shape[1 if source.layer.experts else 0] if shape else 0
        return self.rows == rows and all(move.start == move.to for move in moves)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    layer: Layer
    part: Part


def group_layers(
    layers: Iterable[Layer], family: str, options: ConvertOptions
) -> tuple[dict[str, Grouped], list[Missing]]:
    """Output layers by name, in the order of the input, and the layers that find no name.

    Raises: OptionError where two input layers would change the same rows of one weight.
    """
    pieces: dict[str, tuple[Held, dict[str, _Piece]]] = {}
    missing = []
    for layer in layers:
        parts = canonical_parts(layer, family)
        if not parts:
            missing.append(Missing(layer.name, f"the names of {family} hold no such module"))
            continue
        holders = [spelled_in(options.to, part.module, family) for part in parts]
        if any(held is None for held in holders):
            missing.append(Missing(layer.name, f"{options.to} has no name for {parts[0].module}"))
            continue
        for part, held in zip(parts, holders, strict=True):
            assert held is not None
            known = pieces.setdefault(held.name, (held, {}))[1]
            before = known.setdefault(part.module, _Piece(layer, part))
            if before.layer is not layer:
                raise OptionError(f"{before.layer.name} and {layer.name} both change {part.module}; resolve that first")
    found, left_out = {}, []
    for name, (held, known) in pieces.items():
        made = _grouped(held, known)
        if isinstance(made, Missing):
            left_out.append(made)
        else:
            found[name] = made
    return found, [*missing, *left_out]


def _grouped(held: Held, known: Mapping[str, _Piece]) -> Grouped | Missing:
    first = next(iter(known.values()))
    if first.layer.shape is None:  # only the base weight knows: no rows to move
        if len({piece.layer.name for piece in known.values()}) != 1 or len(known) != len(held.modules):
            return Missing(first.layer.name, "its rows are another weight's too, and only the base knows how many")
        return Grouped(held, 0, (Source(first.layer, ()),))
    units = {
        (piece.part.stop - piece.part.start) / share
        for module, share in zip(held.modules, held.shares, strict=True)
        if (piece := known.get(module)) is not None
    }
    if len(units) != 1:
        return Missing(first.layer.name, f"rows of the parts of {held.name} do not fit together")
    unit = int(units.pop())
    moves: list[tuple[Layer, Move]] = []
    start = 0
    for module, share in zip(held.modules, held.shares, strict=True):
        piece = known.get(module)
        if piece is not None:
            moves.append((piece.layer, Move(piece.part.start, piece.part.stop, start)))
        start += share * unit
    layers = dict.fromkeys(layer for layer, _ in moves)
    sources = tuple(Source(layer, tuple(move for owner, move in moves if owner is layer)) for layer in layers)
    return Grouped(held, start, sources)


# -- values ------------------------------------------------------------------------------------------


class Columns(NamedTuple):
    """Which columns of ``up`` each part of a fused layer uses, from the part's first row on."""

    of: Mapping[int, tuple[int, ...]]


def with_columns(groups: Mapping[str, Grouped], family: str) -> tuple[dict[str, Grouped], list[str]]:
    """The same, with each part of stacked factors cut to its own block. Reads ``up`` of layers that are divided.

    A part that no column acts on has a delta of zero: its output layer is left out, and named in the second result.
    """
    divided = {
        source.layer.name: source.layer
        for group in groups.values()
        for source in group.sources
        if source.layer.kind == "lora" and not group.is_whole and len(_parts(source.layer, family)) > 1
    }
    blocks = {name: _blocks(layer, _parts(layer, family)) for name, layer in divided.items()}
    found: dict[str, Grouped] = {}
    zero = []
    for name, group in groups.items():
        sources = [_cut(source, blocks.get(source.layer.name)) for source in group.sources]
        kept = tuple(source for source in sources if source.columns != ())
        if kept:
            found[name] = group._replace(sources=kept)
        else:
            zero.append(name)
    return found, zero


def _parts(layer: Layer, family: str) -> tuple[Part, ...]:
    return canonical_parts(layer, family) or ()


def _cut(source: Source, blocks: Columns | None) -> Source:
    if blocks is None:
        return source
    columns = tuple(sorted({column for move in source.moves for column in blocks.of.get(move.start, ())}))
    return source if len(columns) == source.layer.rank else replace(source, columns=columns)


def _blocks(layer: Layer, parts: tuple[Part, ...]) -> Columns | None:
    """The columns that belong to each part where ``up`` is block-diagonal; None where parts share columns."""
    import numpy as np

    update = layer.update()
    if not isinstance(update, LowRank) or update.core is not None:
        return None
    used = np.array([(update.up[part.start : part.stop] != 0).any(axis=0) for part in parts])  # (parts, rank)
    rank = used.shape[1]
    equal, rest = divmod(rank, len(parts))
    if not rest and equal and _fits(used, equal):  # kohya's split_qkv stacks equal ranks
        return Columns({part.start: tuple(range(n * equal, (n + 1) * equal)) for n, part in enumerate(parts)})
    if (used.sum(axis=0) > 1).any() or rank < 2:
        return None
    return Columns({part.start: tuple(int(c) for c in np.flatnonzero(used[n])) for n, part in enumerate(parts)})


def _fits(used: FloatArray, size: int) -> bool:
    inside = used.copy()
    for number in range(used.shape[0]):
        inside[number, number * size : (number + 1) * size] = False
    return not inside.any()


def shares_down(sources: tuple[Source, ...]) -> bool:
    """Whether several LoRA layers have the same ``down`` and scale, bit for bit. Reads their ``down``."""
    if len(sources) < 2 or any(source.layer.kind != "lora" or source.columns is not None for source in sources):
        return False
    first = sources[0].layer
    if any(one.layer.rank != first.rank or one.layer.scale != first.scale for one in sources):
        return False
    updates = (source.layer.update() for source in sources)
    downs = [update.down for update in updates if isinstance(update, LowRank) and update.core is None]
    alike = [down.dtype == downs[0].dtype and down.tobytes() == downs[0].tobytes() for down in downs[1:]]
    return len(downs) == len(sources) and all(alike)


def action_of(group: Grouped) -> Action:
    """What the group does with its layers, their kind and options left aside."""
    if group.is_whole:
        return "rename"
    if len(group.sources) > 1:
        return "share" if shares_down(group.sources) else "join"
    (source,) = group.sources
    if source.columns is not None:
        return "cut"
    covered = sum(move.stop - move.start for move in source.moves)
    return "reorder" if source.layer.shape and covered == source.layer.shape[0] == group.rows else "slice"
