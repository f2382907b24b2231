"""Spectra for other programs: the measures as CSV, the singular values too as NPZ. Loads numpy."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..formats.atomic import atomic_file
from ..linalg.spectrum import SpectrumSummary
from ..text import printable
from .values import EXTRA_MEASURES, LayerSpectrum

Column: TypeAlias = Sequence[str | float | None]

MEASURES = tuple(field.name for field in fields(SpectrumSummary))
NONE = -1  # in columns of NPZ files that hold counts
_NAME_BYTES_LIMIT = 1 << 28  # of one column of text, which NPZ pads to its longest cell
# What spreadsheets take for the beginning of a formula, in the wide forms of East Asian fonts too.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # fmt: skip


def csv_text(layers: Sequence[LayerSpectrum]) -> str:
    """One line per layer under a line of headings: RFC 4180 with line feeds, no singular values.

    Control characters in names are escaped, and a name that a spreadsheet would calculate has an apostrophe in
    front. Numbers are written so that reading them gives the same float64; what a layer has not is empty.
    """
    columns = _columns(layers)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow([_inert(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue()


def write_npz(layers: Sequence[LayerSpectrum], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write what the CSV holds as one array per column, and all singular values; whole or not at all.

    Layer ``i`` has the values ``singular_values[offsets[i] : offsets[i + 1]]``. A count that a layer has not is -1.
    The same layers give the same bytes. No array needs pickle.
    Raises: OptionError where a name is too long for an array of text; OutputError.
    """
    arrays = {name: _array(name, column) for name, column in _columns(layers).items()}
    values = [layer.singular_values for layer in layers]
    arrays["singular_values"] = np.concatenate([np.empty(0), *values])
    arrays["offsets"] = np.cumsum([0, *(len(each) for each in values)], dtype=np.int64)
    with atomic_file(path, overwrite=overwrite) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # numpy's own savez stamps the members with the time of day.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _columns(layers: Sequence[LayerSpectrum]) -> dict[str, Column]:
    columns: dict[str, Column] = {
        "layer": [printable(layer.name) for layer in layers],
        "expert": [layer.expert for layer in layers],
        "component": [layer.component for layer in layers],
        "block": [layer.block or "" for layer in layers],
        "kind": [layer.kind for layer in layers],
        "shape": ["x".join(map(str, layer.shape)) for layer in layers],
        "rank": [layer.rank for layer in layers],
        "scale": [layer.scale for layer in layers],
        "has_magnitude": [int(layer.has_magnitude) for layer in layers],
    }
    for measure in MEASURES:
        columns[measure] = list(map(attrgetter(f"summary.{measure}"), layers))
    for measure in EXTRA_MEASURES:
        columns[measure] = [getattr(layer, measure) for layer in layers]
    columns["role"] = [layer.role for layer in layers]
    columns["stage"] = [layer.stage or "" for layer in layers]
    return columns


def _inert(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _array(name: str, column: Column) -> NDArray[Any]:
    if not any(isinstance(cell, str) for cell in column):
        return np.array([NONE if cell is None else cell for cell in column])
    longest = max(len(str(cell)) for cell in column)
    if longest * len(column) * np.dtype("U1").itemsize > _NAME_BYTES_LIMIT:
        raise OptionError(f"a {name} has {longest:,} characters, too many for an array of text; write JSON instead")
    return np.array(column)
