"""Results of a principal component analysis as files: strict JSON, CSV or NPZ, whole or not at all. Loads numpy."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from .errors import OptionError
from .formats.atomic import atomic_file
from .formats.strict_json import dumps
from .json_ready import json_ready
from .text import printable

SUFFIXES = (".json", ".csv", ".npz")
_ARRAYS = ("singular_values", "explained_variance_ratio", "cumulative_variance", "components", "transformed_data")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what spreadsheets take for the beginning of a formula


def write_results(result: Mapping[str, Any], path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Write the dict of :meth:`.pca.LoraPcaAnalyzer.analyze_lora_pca` in the form that the suffix names.

    JSON is the dict. CSV has a line per matrix and component. NPZ has an array per matrix and measure, named
    ``<matrix>/<measure>``. The same results give the same bytes.
    Raises: OptionError for another suffix, or where the analysis had failed; OutputError.
    """
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"{os.fspath(path)}: results are written as {', '.join(SUFFIXES)}")
    if not result.get("success"):
        raise OptionError("the analysis did not succeed: there is nothing to write")
    with atomic_file(path, overwrite=overwrite) as file:
        if suffix == ".npz":
            _write_npz(result, file)
        else:
            text = dumps(json_ready(result)) if suffix == ".json" else csv_text(result)
            file.write(text.encode("utf-8"))


def csv_text(result: Mapping[str, Any]) -> str:
    """One line per matrix and component under a line of headings: RFC 4180 with line feeds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("matrix", "component", "singular_value", "explained_variance_ratio", "cumulative_variance"))
    for name, found in result["pca_results"].items():
        shown = printable(name)
        measures = (found["singular_values"], found["explained_variance_ratio"], found["cumulative_variance"])
        for number, values in enumerate(zip(*measures, strict=True), start=1):
            writer.writerow((f"'{shown}" if shown.startswith(_FORMULA) else shown, number, *values))
    return text.getvalue()


def _write_npz(result: Mapping[str, Any], file: Any) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, found in result["pca_results"].items():
            for measure in _ARRAYS:
                if found.get(measure) is not None:
                    # numpy's own savez stamps the members with the time of day. No member's name may leave the archive.
                    member = f"{printable(name).replace('/', '|')}/{measure}.npy"
                    with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as stream:
                        np.lib.format.write_array(stream, np.asarray(found[measure], np.float64), allow_pickle=False)
