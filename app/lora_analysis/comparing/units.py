"""What is compared with what: the layers of several adapters that change the same base weight.

Names and shapes only, before any value is read. A fused layer (``qkv``) of one adapter meets the three layers of
another as slices of its rows, where the module table of the base model knows both names; elsewhere layers meet by name.
The difference of a module's bias is a unit of its own, ``<module>.bias``: a vector, fused where its weight is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, prod
from typing import NamedTuple

from ..adapter import Adapter, Layer
from ..formats.architectures import Part, canonical_parts
from ..formats.base_weights import spelled_alike

BIAS = ".bias"
_ROWS = 512  # of small matrices that numpy decomposes in one call: from about there it lets other threads run
_VALUES = 1 << 21  # of all factors that are compared at once, 16 MB in float64


class Piece(NamedTuple):
    """A layer of one adapter, or some of its rows."""

    layer: Layer
    rows: tuple[int, int] | None  # None for all of them

    @property
    def asked_by(self) -> str:
        """The name that patterns are matched against: of a bias beside a weight, its module's."""
        return self.layer.name.removesuffix(BIAS) if self.layer.kind == "bias" else self.layer.name

    @property
    def columns(self) -> int:
        return prod((self.layer.shape or (0,))[2 if self.layer.experts else 1 :])


class Unit(NamedTuple):
    """One base weight, or several that every holder keeps fused, and what each adapter has for it."""

    name: str
    pieces: tuple[Piece | None, ...]  # by adapter; None where it has nothing

    @property
    def holders(self) -> list[int]:
        return [number for number, piece in enumerate(self.pieces) if piece is not None]


def units_of(adapters: Sequence[Adapter], family: str) -> tuple[Unit, ...]:
    """Every base weight that any of the adapters changes, in the order in which they show them."""
    found: dict[str, list[Piece | None]] = {}
    parts = [_parts_by_layer(adapter, family) for adapter in adapters]
    splits = _to_be_split(parts)
    for number, adapter in enumerate(adapters):
        spelled = _spelled_alike(adapter)
        for name, layer in adapter.layers.items():
            for module, rows in _modules(spelled[name], parts[number].get(name), splits):
                for one, unit in _weight_and_bias(layer, module):
                    pieces = found.setdefault(unit, [None] * len(adapters))
                    if pieces[number] is not None:  # two layers for one weight: the second is no one's counterpart
                        pieces = found.setdefault(f"{unit} [{name}]", [None] * len(adapters))
                    pieces[number] = Piece(one, rows)
    return tuple(Unit(module, tuple(pieces)) for module, pieces in found.items())


def stacks(units: Sequence[Unit]) -> list[list[int]]:
    """The units by number, each once, a few at a time: those that are alike by kind, shape and rank together.

    As many as make the calls to numpy few and long, whose matrices still stay small beside the file.
    """
    alike: dict[tuple[object, ...], list[int]] = {}
    for number, unit in enumerate(units):
        alike.setdefault(tuple(_form(piece) for piece in unit.pieces), []).append(number)
    found = []
    for form, numbers in alike.items():
        count = _together(units[numbers[0]]) if any(form) else 1
        found += [numbers[start : start + count] for start in range(0, len(numbers), count)]
    return found


def _form(piece: Piece | None) -> tuple[object, ...] | None:
    return piece and (piece.layer.kind, piece.layer.shape, piece.layer.rank, piece.rows)


def _together(unit: Unit) -> int:
    """How many units of this form to compare at once: fewer where ranks or factors are large."""
    layers = [piece.layer for piece in unit.pieces if piece is not None]
    if any(not layer.rank or not layer.shape or layer.experts for layer in layers):
        return 1
    rank = max(layer.rank or 1 for layer in layers)
    values = sum((layer.rank or 1) * (layer.shape[0] + prod(layer.shape[1:])) for layer in layers if layer.shape)
    return max(1, min(ceil(_ROWS / rank), _VALUES // values))


def _weight_and_bias(layer: Layer, module: str) -> Iterator[tuple[Layer, str]]:
    """The layer and its unit; and what it adds to the module's bias, as a layer of its own."""
    if layer.kind == "bias":
        yield layer, module + BIAS
        return
    yield layer, module
    if layer.load_bias is not None:
        bias = layer.varied(
            name=layer.name + BIAS,
            kind="bias",
            shape=layer.shape[:1] if layer.shape and not layer.experts else None,
            rank=None,
            experts=0,
            opaque=None,
            magnitude_axis=None,
            load=layer.load_bias,
            load_bias=None,
        )
        yield bias, module + BIAS


def _parts_by_layer(adapter: Adapter, family: str) -> dict[str, tuple[Part, ...]]:
    """The base weights of the layers that the module table knows."""
    found = ((name, canonical_parts(layer, family)) for name, layer in adapter.layers.items())
    return {name: parts for name, parts in found if parts}


def _to_be_split(parts: Sequence[Mapping[str, tuple[Part, ...]]]) -> set[str]:
    """Modules of fused layers that another adapter holds otherwise, alone or in another fusion."""
    forms: dict[str, set[tuple[str, ...]]] = {}
    for known in parts:
        for of in known.values():
            together = tuple(part.module for part in of)
            for module in together:
                forms.setdefault(module, set()).add(together)
    return {module for module, found in forms.items() if len(found) > 1}


def _spelled_alike(adapter: Adapter) -> dict[str, str]:
    """Layer name -> the spelling by which other dialects are met; its own name where two layers would share one."""
    spelled = {name: spelled_alike(name) for name in adapter.layers}
    counts = Counter(spelled.values())
    return {name: found if counts[found] == 1 else name for name, found in spelled.items()}


def _modules(
    spelled: str, parts: tuple[Part, ...] | None, splits: set[str]
) -> list[tuple[str, tuple[int, int] | None]]:
    if parts is None:
        return [(spelled, None)]
    if len(parts) == 1:
        return [(parts[0].module, None)]
    if not any(part.module in splits for part in parts):
        return [(_fused_name(parts), None)]
    return [(part.module, (part.start, part.stop)) for part in parts]


def _fused_name(parts: Sequence[Part]) -> str:
    """``blocks.0.attn.to_q+to_k+to_v``."""
    folders, _, _ = parts[0].module.rpartition(".")
    return "+".join((parts[0].module, *(part.module.removeprefix(f"{folders}.") for part in parts[1:])))
