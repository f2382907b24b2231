"""Two small trained adapters: the deltas by their own trainers' formulas, in plain numpy."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from layouts import REASON, SHARED

REAL = SHARED / "real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=REASON)


def plain_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a well-formed file by the specification alone."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    types = {"F16": "<f2", "F32": "<f4"}
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            values = np.frombuffer(raw[8 + size + start : 8 + size + end], types[entry["dtype"]])
            tensors[name] = values.reshape(entry["shape"]).astype(np.float64)
    return tensors


def test_mlx_deltas_are_scaled_products_of_transposed_factors() -> None:
    folder = REAL / "qwen25-0p5b-mlx-r8"
    tensors = plain_tensors(folder / "adapters.safetensors")
    scale = json.loads((folder / "adapter_config.json").read_text())["lora_parameters"]["scale"]
    with la.open(folder) as adapter:
        assert (adapter.algorithm, adapter.dialect, adapter.base_model.family) == ("lora", "mlx", "qwen2")
        assert len(adapter.layers) == 8
        for name, layer in adapter.layers.items():
            expected = scale * (tensors[f"{name}.lora_a"] @ tensors[f"{name}.lora_b"]).T
            assert np.linalg.norm(expected) > 0
            np.testing.assert_allclose(la.materialise(layer), expected, rtol=0, atol=1e-10)


def test_cloneofsimo_deltas_are_plain_products() -> None:
    path = REAL / "sd15-cloneofsimo-svd-r4" / "analog_svd_rank4.safetensors"
    tensors = plain_tensors(path)
    with la.open(path) as adapter:
        assert (adapter.algorithm, adapter.dialect, adapter.base_model.family) == ("lora", "cloneofsimo", "sd15")
        assert len(adapter.layers) == len(tensors) // 2
        for name, layer in adapter.layers.items():
            expected = tensors[f"{name}:up"] @ tensors[f"{name}:down"]
            np.testing.assert_allclose(la.materialise(layer), expected, rtol=0, atol=1e-10)
