"""Norms of the base weights under an adapter, calculated once per checkpoint and kept in a file beside it.

The file is ``<checkpoint>.norms.json``: the checkpoint's size and modification time, and two numbers per weight. It
is used while both still hold, and rewritten otherwise; where it cannot be written, nothing but time is lost.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..adapter import FloatArray, Layer, TensorInfo, TensorSource
from ..errors import LoraAnalysisError, NonFiniteError, OptionError
from ..formats.atomic import atomic_file
from ..formats.base_weights import Rows, base_matrix, match_base_weights
from ..formats.container import open_source
from ..formats.files import read_small_file
from ..formats.strict_json import dumps, loads
from ..linalg.floats import widen
from ..linalg.streams import map_layers

logger = logging.getLogger(__name__)
_ITERATIONS = 64  # of the power method: the relative error is far below what a score, a logarithm, can see
_MAX_SIDECAR_BYTES = 25_000_000
_VERSION = 1


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
    """Norms of the base weight of every layer, by layer name.

    Raises: OptionError where a layer finds no weight of its name and size in the checkpoint; NonFiniteError naming
    the weight; FileAccessError and HeaderError for the checkpoint itself; CancelledError.
    """
    path = Path(checkpoint)
    with open_source(path, header_limit=100_000_000) as source:
        weights = match_base_weights(layers, source.tensors, family)
        missing = [name for name in layers if name not in weights]
        if missing:
            raise OptionError(
                f"{path.name}: {len(missing)} of {len(layers)} layers find no weight of their name and size there, "
                f"e.g. {missing[0]}; give the checkpoint this adapter was trained on"
            )
        known = _read_sidecar(path)
        labels = {rows: _label(rows, source.tensors) for rows in weights.values()}
        wanted = [rows for rows, label in labels.items() if label not in known]
        found = map_layers(lambda rows: _norms(source, rows), wanted, workers=workers, cancel=cancel)
        known.update((labels[rows], norms) for rows, norms in zip(wanted, found, strict=True))
    if wanted:
        _write_sidecar(path, known)
    return {name: known[labels[rows]] for name, rows in weights.items()}


def _label(rows: tuple[Rows, ...], tensors: Mapping[str, TensorInfo]) -> str:
    """How a weight is called in the sidecar: by the tensors it is in, and their rows where it has not all of them."""
    return "+".join(
        key if stop - start == tensors[key].shape[0] else f"{key}[{start}:{stop}]" for key, start, stop in rows
    )


def _norms(source: TensorSource, rows: tuple[Rows, ...]) -> BaseNorms:
    matrix = widen(base_matrix(source.array, rows), "float32")
    frobenius = float(np.sqrt(np.sum(np.square(matrix, dtype=np.float64))))
    if not np.isfinite(frobenius):
        raise NonFiniteError(f"{rows[0].key}: the base weight holds NaN or infinity")
    return BaseNorms(_largest_singular_value(matrix), frobenius)


def _largest_singular_value(matrix: FloatArray) -> float:
    """By the power method on the smaller Gram side, from a fixed start: the same matrix gives the same value."""
    rows = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    vector = np.asarray(np.random.default_rng(0).standard_normal(rows.shape[0]), np.float32)
    value = 0.0
    for _ in range(_ITERATIONS):
        length = float(np.linalg.norm(vector))
        if length == 0.0:
            return 0.0
        vector = rows @ (rows.T @ (vector / length))
        value = float(np.linalg.norm(vector))
    return float(np.sqrt(value))


# -- the file beside the checkpoint ----------------------------------------------------------------------


def sidecar_of(checkpoint: Path) -> Path:
    """Where the norms of a checkpoint are kept."""
    return checkpoint.with_name(f"{checkpoint.name}.norms.json")


def _stamp(checkpoint: Path) -> dict[str, Any]:
    found = checkpoint.stat()
    return {"version": _VERSION, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _read_sidecar(checkpoint: Path) -> dict[str, BaseNorms]:
    """What is kept and still true. A file that is missing, stale or not ours is no error: it will be made anew."""
    path = sidecar_of(checkpoint)
    if not path.exists():
        return {}
    try:
        document = loads(read_small_file(path, _MAX_SIDECAR_BYTES), what=path.name)
        if {key: document[key] for key in _stamp(checkpoint)} != _stamp(checkpoint):
            return {}
        return {str(key): BaseNorms(float(pair[0]), float(pair[1])) for key, pair in document["norms"].items()}
    except (LoraAnalysisError, KeyError, TypeError, ValueError, IndexError, AttributeError):
        logger.info("%s is not usable and will be written anew", path.name)
        return {}


def _write_sidecar(checkpoint: Path, norms: Mapping[str, BaseNorms]) -> None:
    document = {**_stamp(checkpoint), "norms": {key: list(pair) for key, pair in norms.items()}}
    try:
        with atomic_file(sidecar_of(checkpoint), overwrite=True) as file:
            file.write(dumps(document).encode())
    except LoraAnalysisError as error:
        logger.warning("the norms of %s could not be kept: %s", checkpoint.name, error.message)
