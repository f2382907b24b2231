"""DoRA inputs beside their base checkpoint: every DoRA layer becomes the difference that it makes, exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePath

from ..adapter import Adapter, Layer, TensorSource, Update
from ..errors import CancelledError, OptionError, ShapeError
from ..formats.base_weights import BaseWeight, match_base_weights
from .options import BaseRecord

HEADER_LIMIT = 100_000_000  # bytes: checkpoints have many tensors
KIND = "dora"  # of such a layer: its update is the whole difference


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """An open checkpoint and which of its weights were used."""

    source: TensorSource
    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        return PurePath(self.source.path).name

    def record(self, cancel: Callable[[], bool] | None = None) -> BaseRecord:
        """What the output says of it. Raises: CancelledError."""
        return BaseRecord(self.name, self._digest(cancel or (lambda: False)))

    def _digest(self, cancel: Callable[[], bool]) -> str:
        """SHA-256 of the weights that were used, in the order of their names."""
        found = hashlib.sha256()
        for key in self.keys:
            if cancel():
                raise CancelledError("stopped while the base weights were hashed")
            found.update(self.source.raw(key))
        return found.hexdigest()


def beside_base(adapters: Iterable[Adapter], source: TensorSource) -> tuple[list[Adapter], Base]:
    """The adapters with their DoRA layers as differences. Values are read when a layer is asked for.

    Weights are found through the module table of each adapter's base model where their names differ.

    Raises: OptionError where no input is DoRA, or a DoRA layer finds no weight of its name and size in the checkpoint.
    """
    made, keys = [], set[str]()
    for adapter in adapters:
        dora = {name: layer for name, layer in adapter.layers.items() if layer.magnitude_axis}
        weights = match_base_weights(dora, source.tensors, adapter.base_model.family)
        missing = [name for name in dora if name not in weights]
        if missing:
            raise OptionError(
                f"{PurePath(source.path).name}: {len(missing)} of {len(dora)} DoRA layers find no weight of their name "
                f"and size there, e.g. {missing[0]}; give the checkpoint the adapter was trained on"
            )
        layers = {
            name: _difference(layer, source, weights[name]) if name in dora else layer
            for name, layer in adapter.layers.items()
        }
        keys |= {weight.key for weight in weights.values()}
        made.append(replace(adapter, layers=layers) if dora else adapter)
    if not keys:
        raise OptionError("a base checkpoint serves DoRA adapters; none of the inputs is one")
    return made, Base(source, tuple(sorted(keys)))


def _difference(layer: Layer, source: TensorSource, weight: BaseWeight) -> Layer:
    if layer.experts or layer.reshape is not None:
        raise ShapeError(f"{layer.name}: DoRA of experts or of a padded weight is not known")
    return replace(
        layer, kind=KIND, magnitude_axis=None, load_magnitude=None, load=partial(_load, layer, source, weight)
    )  # fmt: skip


def _load(layer: Layer, source: TensorSource, weight: BaseWeight) -> Update:
    from ..linalg.dora import dora_difference

    stored = source.array(weight.key)
    rows = stored.shape[0] // weight.parts
    matrix = stored[weight.part * rows : (weight.part + 1) * rows].reshape(rows, -1)
    magnitude = layer.magnitude()
    assert magnitude is not None  # only such layers are asked
    return dora_difference(layer.update(), magnitude, matrix.T if layer.base_transposed else matrix)
