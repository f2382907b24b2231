"""The largest singular value through products with vectors, against the dense decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from lora_analysis.linalg.spectral_norm import spectral_norm

RNG = np.random.default_rng(3)


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


MATRICES = {
    "noise, whose largest values are close": noise(500, 300),  # powers alone are off by half a percent
    "wide noise": noise(160, 1440),
    "a decaying spectrum": noise(200, 300) * np.arange(1, 301) ** -0.5,
    "one direction": np.outer(noise(50), noise(70)),
    "small": noise(3, 2),
    "a row": noise(1, 40),
    "one value": np.array([[-3.0]]),
    "all values the same": np.eye(30),
    "the largest twice": np.diag([5.0, 5.0, 1.0]),
    "orthogonal rows of a fast decay": np.diag(10.0 ** -np.arange(12)),
    "negative": -np.abs(noise(20, 30)),
    "tiny": 1e-30 * noise(40, 50),
    "huge": 1e30 * noise(40, 50),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MATRICES)
def test_it_is_the_dense_ones(name: str, dtype: type) -> None:
    matrix = MATRICES[name].astype(dtype)
    expected = np.linalg.norm(matrix.astype(np.float64), 2)
    assert spectral_norm(matrix) == pytest.approx(expected, rel=1e-6)
    assert spectral_norm(matrix.T) == pytest.approx(expected, rel=1e-6)


def test_zero_has_none() -> None:
    assert spectral_norm(np.zeros((4, 5), np.float32)) == 0.0
