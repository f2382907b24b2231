"""DoRA inputs beside their base checkpoint: every DoRA layer becomes the difference that it makes, exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from ..adapter import Adapter, FloatArray, Layer, Update
from ..errors import CancelledError, OptionError, ShapeError
from ..formats.base_weights import Rows, base_matrix, match_base_weights
from ..formats.checkpoint import Checkpoint
from .options import BaseRecord, MergeOptions

KIND = "dora"  # of such a layer: its update is the whole difference


def merged_beside(
    adapters: Sequence[Adapter],
    checkpoint: Checkpoint,
    options: MergeOptions,
    cancel: Callable[[], bool] | None = None,
) -> tuple[list[Adapter], MergeOptions]:
    """The adapters with their DoRA layers as differences, and the options with a record of the checkpoint.

    Values are read when a layer is asked for: keep the checkpoint open until then. Weights are found through the
    module table of each adapter's base model where their names differ; a fused layer finds those of its parts.

    Raises: OptionError where no input is DoRA, a DoRA layer finds no weight of its name and size in the checkpoint,
    or the options record another one; CancelledError.
    """
    tensors = checkpoint.tensors
    made, keys = [], set[str]()
    for adapter in adapters:
        dora = {name: layer for name, layer in adapter.layers.items() if layer.magnitude_axis}
        weights = match_base_weights(dora, tensors, adapter.base_model.family)
        missing = [name for name in dora if name not in weights]
        if missing:
            raise OptionError(
                f"{checkpoint.name}: {len(missing)} of {len(dora)} DoRA layers find no weight of their name "
                f"and size there, e.g. {missing[0]}; give the checkpoint the adapter was trained on"
            )
        layers = {
            name: _difference(layer, checkpoint, weights[name]) if name in dora else layer
            for name, layer in adapter.layers.items()
        }
        keys |= {part.key for rows in weights.values() for part in rows}
        made.append(replace(adapter, layers=layers) if dora else adapter)
    if not keys:
        raise OptionError("a base checkpoint serves DoRA adapters; none of the inputs is one")
    record = BaseRecord(checkpoint.name, _digest(checkpoint, keys, cancel or (lambda: False)))
    if options.base not in (None, record):
        raise OptionError(f"{record.name} is not the checkpoint of the recipe: its weights have changed")
    return made, replace(options, base=record)


def _digest(checkpoint: Checkpoint, keys: Iterable[str], cancel: Callable[[], bool]) -> str:
    """SHA-256 of the weights that were used, in the order of their names."""
    found = hashlib.sha256()
    for key in sorted(keys):
        if cancel():
            raise CancelledError("stopped while the base weights were hashed")
        found.update(checkpoint.raw(key))
    return found.hexdigest()


def _difference(layer: Layer, checkpoint: Checkpoint, rows: tuple[Rows, ...]) -> Layer:
    if layer.experts or layer.reshape is not None:
        raise ShapeError(f"{layer.name}: DoRA of experts or of a padded weight is not known")
    return replace(
        layer,
        kind=KIND,
        magnitude_axis=None,
        load_magnitude=None,
        load=partial(_load, layer, checkpoint.array, rows),
    )


def _load(layer: Layer, array: Callable[[str], FloatArray], rows: tuple[Rows, ...]) -> Update:
    from ..linalg.dora import dora_difference

    magnitude = layer.magnitude()
    assert magnitude is not None  # only such layers are asked
    matrix = base_matrix(array, rows, is_transposed=layer.base_transposed)
    return dora_difference(layer.update(), magnitude, matrix)
