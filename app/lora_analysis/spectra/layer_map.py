"""Layers as points: those with alike spectra lie close together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..json_ready import encodable
from .values import LayerSpectrum

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array


@dataclass(frozen=True, slots=True, eq=False)  # eq=False: arrays have no single truth value
class LayerMap:
    """Coordinates of layers along the principal components of their spectra."""

    layers: tuple[LayerSpectrum, ...]
    coordinates: Float64Array  # (layers, components)
    explained_variance_ratio: Float64Array  # (components,)

    def to_dict(self) -> dict[str, Any]:
        return {
            "explained_variance_ratio": self.explained_variance_ratio.tolist(),
            "points": [
                {
                    "name": encodable(layer.name),
                    "expert": layer.expert,
                    "component": layer.component,
                    "block": layer.block,
                    "kind": layer.kind,
                    "x": row.tolist(),
                }
                for layer, row in zip(self.layers, self.coordinates, strict=True)
            ],
        }


def layer_map(layers: Sequence[LayerSpectrum], components: int) -> LayerMap:
    """Principal components of ``σ / σ₁`` of every layer, centred, shorter spectra filled up with zeros.

    The shape of the decay alone decides: norms and scales do not. Layers that are zero have no shape and are left out.
    The sign of a component is such that its largest entry is positive. At most ``components`` of them, and no more than
    there are layers or singular values.
    """
    import numpy as np

    shown = tuple(layer for layer in layers if layer.summary.largest > 0)
    width = max((len(layer.singular_values) for layer in shown), default=0)
    features = np.zeros((len(shown), width))
    for row, layer in zip(features, shown, strict=True):
        row[: len(layer.singular_values)] = layer.singular_values / layer.summary.largest
    if not features.size:
        return LayerMap(shown, np.zeros((len(shown), 0)), np.zeros(0))
    u, s, vt = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    signs = np.sign(vt[np.arange(len(s)), np.abs(vt).argmax(axis=1)])
    signs[signs == 0] = 1.0
    energy = float(np.sum(s**2))
    ratio = s**2 / energy if energy else np.zeros_like(s)
    return LayerMap(shown, (u * s * signs)[:, :components], ratio[:components])
