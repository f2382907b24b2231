"""The adapters of a merge, with their weights, and the parts each has in every layer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple

from ..adapter import Adapter, Layer, TensorInfo
from ..formats.folder import WEIGHT_NAMES
from ..linalg.moves import Move
from .layer_weights import LayerWeights


@dataclass(frozen=True, slots=True, eq=False)
class MergeInput:
    """One adapter and the weight that its deltas get."""

    adapter: Adapter
    weight: float  # as it acts, after normalisation
    requested_weight: float
    layer_weights: LayerWeights | None = None  # factors on it for some layers

    @property
    def name(self) -> str:
        """File name, or that of its folder where every such file has the same name.

        Not the path: it goes into files that are shared, and a path can name a person.
        """
        path = PurePath(os.path.abspath(self.adapter.path))
        return path.parent.name if path.name in WEIGHT_NAMES and path.parent.name else path.name


class Share(NamedTuple):
    """One input's part of a layer."""

    input: int  # its number, from 0
    weight: float
    adapter: Adapter
    layer: Layer
    moves: tuple[Move, ...] = ()  # where its rows go in a layer that is fused or split otherwise; () for all of them
    rows: int = 0  # of that layer, where rows are moved

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the delta where it belongs to: with the rows of the layer it is moved into."""
        shape = self.layer.shape or ()
        return (self.rows, *shape[1:]) if self.moves else shape

    def infos(self) -> dict[str, TensorInfo]:
        """Header entries of the layer's tensors, by role."""
        return {role: self.adapter.source.tensors[key] for role, key in self.layer.keys.items()}


def own_share(number: int, item: MergeInput, layer: Layer) -> Share:
    """An input's part in one of its own layers."""
    weight = item.weight if item.layer_weights is None else item.weight * item.layer_weights.factor(layer)
    return Share(number, weight, item.adapter, layer)


def summed_together(shares: Sequence[Share]) -> list[Share]:
    """Those that change the weight. A module that is only a bias counts where no holder has more."""
    return [share for share in shares if share.layer.kind != "bias"] or list(shares)
