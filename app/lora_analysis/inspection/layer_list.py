"""Every layer of an adapter as plain values, from its header."""

from __future__ import annotations

from typing import Any

from ..adapter import Layer


def list_layers(path: str) -> list[dict[str, Any]]:
    """One plain dict per layer, in the file's order. Raises: as ``open_adapter``."""
    from ..formats import open_adapter

    with open_adapter(path, lenient_metadata=True) as adapter:
        return [_layer(layer) for layer in adapter.layers.values()]


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "component": layer.component,
        "shape": layer.shape,
        "rank": layer.rank,
        "alpha": layer.alpha,
        "scale": layer.scale,
        "scale_origin": layer.scale_origin,
        "magnitude_axis": layer.magnitude_axis,
        "opaque": layer.opaque,
        "parameters": layer.parameters,
        "dtypes": list(layer.dtypes),
        "keys": dict(layer.keys),
    }
