"""Norms of the base weights under an adapter, calculated once per checkpoint and kept in a file beside it.

The file is ``<checkpoint>.norms.json``, or ``<index>.norms.json`` of a checkpoint in shards, whether that was named by
its index or its folder: every file's name, size and modification time, and two numbers per weight. It is used while
all of them still hold, and rewritten otherwise: norms of a weight can lie in several shards, and one of another shard
is cheap to calculate again. Where it cannot be written, nothing but time is lost.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..adapter import Layer, TensorInfo
from ..errors import LoraAnalysisError, NonFiniteError, OptionError
from ..formats.atomic import atomic_file
from ..formats.base_weights import Rows, base_matrix, match_base_weights
from ..formats.checkpoint import NORMS_SUFFIX, Checkpoint, open_checkpoint
from ..formats.files import read_small_file
from ..formats.strict_json import dumps, loads
from ..linalg.floats import widen
from ..linalg.spectral_norm import spectral_norm
from ..linalg.streams import map_layers

logger = logging.getLogger(__name__)
_MAX_SIDECAR_BYTES = 25_000_000
_VERSION = 2


class BaseNorms(NamedTuple):
    """Of one base weight as a matrix ``(out, in * k)``, in weight units."""

    spectral: float  # largest singular value
    frobenius: float


def base_norms(
    checkpoint: str | os.PathLike[str],
    layers: Mapping[str, Layer],
    *,
    family: str | None = None,
    workers: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> dict[str, BaseNorms]:
    """Norms of the base weight of every layer, by layer name. ``checkpoint``: a file, a folder or an index of shards.

    Raises: OptionError where a layer finds no weight of its name and size in the checkpoint; NonFiniteError naming
    the weight; what ``open_checkpoint`` raises; CancelledError.
    """
    with open_checkpoint(checkpoint) as source:
        tensors = source.tensors
        weights = match_base_weights(layers, tensors, family)
        missing = [name for name in layers if name not in weights]
        if missing:
            raise OptionError(
                f"{source.name}: {len(missing)} of {len(layers)} layers find no weight of their name and size there, "
                f"e.g. {missing[0]}; give the checkpoint this adapter was trained on"
            )
        stamp = _stamp(source)
        known = _read_sidecar(source, stamp)
        labels = {rows: _label(rows, tensors) for rows in weights.values()}
        wanted = [rows for rows, label in labels.items() if label not in known]
        found = map_layers(lambda rows: _norms(source, rows), wanted, workers=workers, cancel=cancel)
        known.update((labels[rows], norms) for rows, norms in zip(wanted, found, strict=True))
        if wanted and _stamp(source) == stamp:  # else somebody writes to it, and nobody knows what was read
            _write_sidecar(source, stamp, known)
    return {name: known[labels[rows]] for name, rows in weights.items()}


def _label(rows: tuple[Rows, ...], tensors: Mapping[str, TensorInfo]) -> str:
    """How a weight is called in the sidecar: by the tensors it is in, and their rows where it has not all of them."""
    return "+".join(
        key if stop - start == tensors[key].shape[0] else f"{key}[{start}:{stop}]" for key, start, stop in rows
    )


def _norms(source: Checkpoint, rows: tuple[Rows, ...]) -> BaseNorms:
    matrix = widen(base_matrix(source.array, rows), "float32")
    frobenius = float(np.sqrt(np.sum(np.square(matrix, dtype=np.float64))))
    if not np.isfinite(frobenius):
        raise NonFiniteError(f"{rows[0].key}: the base weight holds NaN or infinity")
    return BaseNorms(spectral_norm(matrix), frobenius)


# -- the file beside the checkpoint ----------------------------------------------------------------------


def sidecar_of(main_file: Path) -> Path:
    """Where the norms of a checkpoint are kept, by its only file or its index."""
    return main_file.with_name(f"{main_file.name}{NORMS_SUFFIX}")


def _stamp(checkpoint: Checkpoint) -> dict[str, Any]:
    """What the norms were calculated from: of the open files, which a new file of the same name is not."""
    found = {name: shard.identity for name, shard in checkpoint.shards.items()}
    return {"version": _VERSION, "files": {name: [one.size, one.modified_ns] for name, one in found.items()}}


def _read_sidecar(checkpoint: Checkpoint, stamp: Mapping[str, Any]) -> dict[str, BaseNorms]:
    """What is kept and still true. A file that is missing, stale or not ours is no error: it will be made anew."""
    path = sidecar_of(checkpoint.main_file)
    if not path.exists():
        return {}
    try:
        document = loads(read_small_file(path, _MAX_SIDECAR_BYTES), what=path.name)
        if {key: document[key] for key in stamp} != stamp:
            return {}
        return {str(key): BaseNorms(float(pair[0]), float(pair[1])) for key, pair in document["norms"].items()}
    except (LoraAnalysisError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        logger.info("%s is not usable and will be written anew", path.name)
        return {}


def _write_sidecar(checkpoint: Checkpoint, stamp: Mapping[str, Any], norms: Mapping[str, BaseNorms]) -> None:
    document = {**stamp, "norms": {key: list(pair) for key, pair in norms.items()}}
    try:
        with atomic_file(sidecar_of(checkpoint.main_file), overwrite=True) as file:
            file.write(dumps(document).encode())
    except LoraAnalysisError as error:
        logger.warning("the norms of %s could not be kept: %s", checkpoint.name, error.message)
