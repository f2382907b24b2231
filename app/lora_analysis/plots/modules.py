"""Where a layer stands in its network, as a row (the block) and a column (the module inside it)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple, Protocol, TypeVar

from ..formats.blocks import stage_in_network

# The last number behind a word that counts containers ends the row: "input_blocks_4_1_transformer_blocks_0".
_CONTAINER = re.compile(
    r"(?:^|(?<=[._]))(?:\w*?blocks|middle_block|mid_block|(?<!emb_)(?<!in_)(?<!out_)layers?|h|resnets|attentions"
    r"|(?:noise|context)_refiner|downsamplers|upsamplers)(?:[._]\d+)*(?=[._])"
)
_NUMBERS = re.compile(r"\d+")


class Placed(Protocol):
    """What has a place in the network: the spectrum of a layer, its comparison, its sample."""

    @property
    def name(self) -> str: ...
    @property
    def component(self) -> str: ...
    @property
    def block(self) -> str | None: ...


Layer = TypeVar("Layer", bound=Placed)


class Place(NamedTuple):
    row: str
    column: str


def in_network_order(layers: Iterable[Layer]) -> list[Layer]:
    """Components as they appear, their blocks by stage, kind and number; layers of one block as in the file."""
    listed = list(layers)
    components = {name: n for n, name in enumerate(dict.fromkeys(layer.component for layer in listed))}
    kinds = {name: n for n, name in enumerate(dict.fromkeys(_kind_of(layer) for layer in listed))}

    def key(layer: Placed) -> tuple[int, int, int, tuple[int, ...]]:
        numbers = tuple(int(found) for found in _NUMBERS.findall(place_of(layer).row)[:6])
        return components[layer.component], stage_in_network(layer.block), kinds[_kind_of(layer)], numbers

    return sorted(listed, key=key)


def _kind_of(layer: Placed) -> str:
    """The word of its block: two refiners or two stacks of one stage do not alternate."""
    return (layer.block or "").partition(".")[0]


def place_of(layer: Placed) -> Place:
    """Row and column of a layer. What stands outside of every container is a row of its own.

    >>> # lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k -> input_blocks 4.1.0, attn1_to_k
    """
    name = layer.name.removeprefix("base_model.model.")
    found = None
    for found in _CONTAINER.finditer(name):  # noqa: B007  the last one is wanted
        pass
    block = layer.block or "other"
    if found is None:
        return Place(block, _column(name))
    head = name[: found.end()]
    numbers = ".".join(_NUMBERS.findall(head[_start(head) :]))
    word = block.split(".")[0]
    return Place(f"{word} {numbers}".strip(), _column(name[found.end() + 1 :]))


def _start(head: str) -> int:
    """Where the first container begins, so that the digit of ``lora_te2`` is not counted."""
    first = _CONTAINER.search(head + ".")
    return first.start() if first else 0


def _column(rest: str) -> str:
    """The module in the block, alike in both spellings."""
    return rest.replace(".", "_")
