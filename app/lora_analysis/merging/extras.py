"""Tensors that are no update: full copies of parameters, embeddings, markers. They have no weighted sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..adapter import Adapter
from ..errors import OptionError
from .inputs import MergeInput
from .matching import Dropped
from .options import MergeOptions
from .tensors import Carried

_UNUSED = frozenset({"broken", "duplicate", "empty"})  # no loader applies these


class Extras(NamedTuple):
    """What becomes of the tensors outside the layers."""

    carried: dict[str, Carried]
    dropped: tuple[Dropped, ...]


def sort_extras(inputs: Sequence[MergeInput], options: MergeOptions) -> Extras:
    """A tensor is carried where all inputs that hold it agree on every byte of it.

    Raises: OptionError where they do not, unless such tensors are to be dropped.
    """
    carried: dict[str, Carried] = {}
    dropped: list[Dropped] = []
    conflicts: dict[str, list[int]] = {}
    holder: dict[str, int] = {}
    for number, item in enumerate(inputs):
        for key, category, note in _tensors(item.adapter):
            if not item.weight or category in _UNUSED:
                dropped.append(Dropped(key, number, note if item.weight else "the weight of its input is 0"))
            elif key not in carried:
                carried[key], holder[key] = Carried(item.adapter.source, key), number
            elif not _are_equal(carried[key], Carried(item.adapter.source, key)):
                conflicts.setdefault(key, [holder[key]]).append(number)
    if conflicts and not options.drop_unsupported:
        raise OptionError(_refusal(inputs, conflicts))
    for key, numbers in conflicts.items():
        del carried[key]
        dropped += [Dropped(key, number, "it differs between the inputs and has no sum") for number in numbers]
    return Extras(carried, tuple(dropped))


def _tensors(adapter: Adapter) -> Iterator[tuple[str, str, str]]:
    """Name, category and remark of every tensor outside the layers."""
    for extra in adapter.extras:
        yield extra.key, extra.category, extra.note
    for key in adapter.unrecognised_keys:
        yield key, "unrecognised", "its name is not recognised"


def _are_equal(a: Carried, b: Carried) -> bool:
    return a.info[:2] == b.info[:2] and a.source.raw(a.key) == b.source.raw(b.key)


def _refusal(inputs: Sequence[MergeInput], conflicts: dict[str, list[int]]) -> str:
    key, (first, second, *_) = next(iter(conflicts.items()))
    return (
        f"{key} is no difference but a value of its own, and not the same in {inputs[first].name} and "
        f"{inputs[second].name} ({len(conflicts)} such tensors); --drop-unsupported leaves them out"
    )
