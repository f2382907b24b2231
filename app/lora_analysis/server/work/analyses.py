"""Jobs that answer a question about adapters and write nothing but the answer."""

from __future__ import annotations

import json
from typing import Any

from ...errors import OptionError
from ..commands import command_of
from .context import Work

_MOST_VALUES = 2_000_000
SPECTRA_SCHEMA = "lora-analysis/spectra/1"


def inspect_headers(work: Work) -> dict[str, Any]:
    """The inspection, for adapters whose own is too large for the catalog."""
    from ...metadata import inspect

    work.leave(inspect(work.path_of(work.params["adapter"]), cancel=work.cancelled).to_dict())
    return {}


def verify(work: Work) -> dict[str, Any]:
    """Read the whole file: digests, and every value for NaN and infinity."""
    from ...metadata import inspect

    path = work.path_of(work.params["adapter"])
    found = inspect(path, hash=True, scan_values=True, progress=work.progress("bytes"), cancel=work.cancelled)
    document = found.to_dict()
    work.leave(document)
    return {"is_valid": found.is_valid, "findings": len(found.findings)}


def report(work: Work) -> dict[str, Any]:
    """Everything about an adapter on one HTML page, as ``lora report`` writes it."""
    from ...reporting.report import report as make

    page = make(work.path_of(work.params["adapter"]), progress=work.progress("layers"), cancel=work.cancelled).encode()
    work.leave_bytes(page)
    return {"size": len(page)}


def layers(work: Work) -> dict[str, Any]:
    from ...inspection.layer_list import list_layers

    found = list_layers(work.path_of(work.params["adapter"]))
    work.leave({"adapter": work.params["adapter"], "layers": found})
    return {"layers": len(found)}


def spectra(work: Work) -> dict[str, Any]:
    """Every singular value, as :func:`pack_spectra` lays them out."""
    from ...spectra.calculation import spectrum

    adapter = work.params["adapter"]
    found = spectrum(work.path_of(adapter), progress=work.progress("layers"), cancel=work.cancelled)
    document = found.to_dict()
    work.leave_bytes(pack_spectra(adapter, document))
    return {"layers": len(found.layers), "skipped": len(found.skipped)}


def base_spectrum(work: Work) -> dict[str, Any]:
    """Every delta beside the weight of a checkpoint that it is added to."""
    from ...spectra.calculation import spectrum

    adapter, base = work.params["adapter"], work.base_path()
    found = spectrum(work.path_of(adapter), base=base, progress=work.progress("layers"), cancel=work.cancelled)
    layers = [
        {**{name: one[name] for name in ("name", "expert", "component", "block", "frobenius_norm")}, **one["base"]}
        for one in (layer.to_dict() for layer in found.layers if layer.base is not None)
    ]
    without = [layer.to_dict() for layer in (*found.without_base, *found.skipped)]
    command = command_of("base-spectrum", work.params, work.path_of)
    work.leave(
        {"adapter": adapter, "base": work.params["base"], "command": command, "layers": layers, "without": without}
    )
    return {"layers": len(layers), "without": len(without)}


def pack_spectra(adapter: str, document: dict[str, Any]) -> bytes:
    """The spectra as they travel to the page: a header in JSON, then all values as little-endian float32.

    Bytes 0-7: the length of the header, unsigned, little-endian; it includes the spaces that end the header at a
    multiple of 8. Each layer's values begin at its ``offset`` (a number of values, not bytes) and are ``count``.
    """
    import numpy as np

    offset, values = 0, []
    for layer in document["layers"]:
        sigma = np.asarray(layer.pop("singular_values"), np.float64)
        layer["offset"], layer["count"] = offset, len(sigma)
        offset += len(sigma)
        values.append(sigma)
    header = {**document, "schema": SPECTRA_SCHEMA, "adapter": adapter, "values": offset}
    header.pop("path", None)
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    data = np.concatenate(values) if values else np.zeros(0)
    return len(text).to_bytes(8, "little") + text + data.astype("<f4").tobytes()


def compare_adapters(work: Work) -> dict[str, Any]:
    from ...comparing.calculation import compare

    adapters = work.params["adapters"]
    found = compare(
        [work.path_of(adapter) for adapter in adapters],
        layers=work.params.get("layers"),
        progress=work.progress("layers"),
        cancel=work.cancelled,
    )
    document = found.to_dict()
    for place, adapter in zip(document["adapters"], adapters, strict=True):
        place["id"] = adapter
    work.leave(document)
    return {"layers": len(found.layers)}


def pca(work: Work) -> dict[str, Any]:
    """Components of every matrix, and the layers as points by their spectra."""
    from ...pca import analyze_pca
    from ...spectra.calculation import spectrum
    from ...spectra.layer_map import layer_map

    path, asked = work.path_of(work.params["adapter"]), work.params
    found = analyze_pca(
        path,
        asked["components"],
        layers=asked.get("layers"),
        target=asked["target"],
        include_arrays=asked["arrays"],
        progress=work.progress("layers"),
        cancel=work.cancelled,
    )
    if asked["arrays"]:
        _check_amount(found["pca_results"])
    spectra_found = spectrum(path, layers=asked.get("layers"), cancel=work.cancelled)
    points = layer_map(spectra_found.layers, asked["components"])
    results = {name: _listed(one) for name, one in found.pop("pca_results").items()}
    del found["path"], found["success"]
    work.leave({"adapter": asked["adapter"], **found, "pca_results": results, "map": points.to_dict()})
    return {"matrices": found["total_matrices"], "skipped": len(found["skipped"])}


def _check_amount(results: dict[str, Any]) -> None:
    values = sum(one["components"].size + one["transformed_data"].size for one in results.values())
    if values > _MOST_VALUES:
        raise OptionError(f"{values:,} values would be sent; name fewer layers, at most {_MOST_VALUES:,} are")


def _listed(one: dict[str, Any]) -> dict[str, Any]:
    """Arrays as lists."""
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in one.items()}


def figure(work: Work) -> dict[str, Any]:
    """A figure as the bytes of a file."""
    from ...figures import FigureRequest, draw
    from ...plots.saving import rendered

    asked = work.params
    request = FigureRequest(
        layer=asked.get("layer"),
        absolute=asked["absolute"],
        progress=work.progress("layers"),
        cancel=work.cancelled,
    )
    drawn = draw(asked["figure"], [work.path_of(adapter) for adapter in asked["adapters"]], request)
    work.leave_bytes(rendered(drawn, asked["format"]))
    return {}
