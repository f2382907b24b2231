"""Layers as points: equal to scikit-learn's components of the normalised spectra, up to sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from lora_analysis.spectra.layer_map import layer_map


@pytest.mark.parametrize("name", ["sdxl-character-kohya.safetensors", "llama-chat-peft"])
def test_points_are_those_of_scikit_learn(demo_library: Path, name: str) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    found = la.spectrum(demo_library / name)
    width = max(len(layer.singular_values) for layer in found.layers)
    features = np.zeros((len(found.layers), width))
    for row, layer in zip(features, found.layers, strict=True):
        row[: len(layer.singular_values)] = layer.singular_values / layer.singular_values[0]
    count = min(3, width)
    oracle = decomposition.PCA(count, svd_solver="full")
    expected = oracle.fit_transform(features)
    result = layer_map(found.layers, count)
    np.testing.assert_allclose(np.abs(result.coordinates), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(result.explained_variance_ratio, oracle.explained_variance_ratio_, atol=1e-9)


def test_the_scale_of_a_layer_does_not_move_it(demo_library: Path) -> None:
    from dataclasses import replace

    layers = la.spectrum(demo_library / "sdxl-character-kohya.safetensors").layers
    louder = [
        replace(
            one, singular_values=one.singular_values * 7, summary=replace(one.summary, largest=one.summary.largest * 7)
        )
        for one in layers
    ]
    np.testing.assert_allclose(layer_map(louder, 2).coordinates, layer_map(layers, 2).coordinates, atol=1e-12)


def test_nothing_and_one_layer_have_no_spread(demo_library: Path) -> None:
    layers = la.spectrum(demo_library / "sdxl-character-kohya.safetensors").layers
    assert layer_map([], 3).to_dict() == {"explained_variance_ratio": [], "points": []}
    [point] = layer_map(layers[:1], 3).to_dict()["points"]
    assert point["x"] == [0.0]
