"""Spectra beside the base model: every delta next to the weight it is added to. Loads numpy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ..adapter import Adapter, Layer
from ..errors import FormatError, NonFiniteError, OptionError, ShapeError
from ..formats.base_weights import Rows, base_matrix, match_base_weights
from ..formats.checkpoint import Checkpoint, open_checkpoint
from ..linalg.against_base import BaseFigures, against_base
from ..linalg.streams import map_layers
from .values import LayerSpectrum, SkippedLayer

__all__ = ["BaseFigures", "beside_base"]


class _Job(NamedTuple):
    spectrum: LayerSpectrum
    layer: Layer
    rows: tuple[Rows, ...]


def beside_base(
    adapter: Adapter,
    layers: Sequence[LayerSpectrum],
    checkpoint: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> tuple[tuple[LayerSpectrum, ...], tuple[SkippedLayer, ...]]:
    """The layers with their figures beside the base weight, and those for which there are none, with the reason.

    Raises: OptionError where no layer finds its weight in the checkpoint, a file, folder or index of shards; what
    ``open_checkpoint`` raises; CancelledError.
    """
    with open_checkpoint(checkpoint) as source:
        wanted = {layer.name: adapter.layers[layer.name] for layer in layers}
        weights = match_base_weights(wanted, source.tensors, adapter.base_model.family)
        if not weights:
            raise OptionError(
                f"{source.name}: none of {len(wanted)} layers finds a weight of its name and size there, e.g. "
                f"{next(iter(wanted), 'none')}; give the checkpoint this adapter was trained on"
            )
        jobs = [_Job(one, wanted[one.name], weights[one.name]) for one in layers if _is_ready(one, wanted, weights)]
        done = map_layers(partial(_figures, source), jobs, workers=workers, progress=progress, cancel=cancel)
        found: dict[tuple[str, int | None], BaseFigures | str] = {
            (job.spectrum.name, job.spectrum.expert): figures for job, figures in zip(jobs, done, strict=True)
        }
    made, skipped = [], []
    for layer in layers:
        figures = found.get((layer.name, layer.expert), "no weight of its name and size in the checkpoint")
        if isinstance(figures, BaseFigures):
            made.append(replace(layer, base=figures))
        else:
            made.append(layer)
            skipped.append(SkippedLayer(layer.name, "no-base", figures, is_error=False))
    return tuple(made), tuple(skipped)


def _is_ready(one: LayerSpectrum, layers: Mapping[str, Layer], weights: Mapping[str, tuple[Rows, ...]]) -> bool:
    return one.name in weights and one.expert is None and layers[one.name].reshape is None


def _figures(source: Checkpoint, job: _Job) -> BaseFigures | str:
    """The figures, or why there are none. Raises: FileAccessError."""
    try:
        weight = base_matrix(source.array, job.rows, is_transposed=job.layer.base_transposed)
        return against_base(job.layer.update(), weight)
    except (FormatError, NonFiniteError, ShapeError) as error:
        return error.message
