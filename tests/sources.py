"""Adapters made in memory, for tests that are about meaning and not about bytes on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from lora_analysis.adapter import Adapter, TensorInfo
from lora_analysis.formats.opening import adapt

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "int64": "I64",
    "int32": "I32",
    "uint8": "U8",
}
BF16 = ml_dtypes.bfloat16


class MemorySource:
    """A TensorSource over plain arrays."""

    container = "memory"
    findings = ()

    def __init__(self, arrays: Mapping[str, Any], metadata: Mapping[str, Any] | None = None, path: str = "memory"):
        self.arrays = {name: np.asarray(array) for name, array in arrays.items()}
        self.metadata = dict(metadata or {})
        self.path = path
        self.tensors = {
            name: TensorInfo(_NAMES[array.dtype.name], array.shape, 0, array.nbytes)
            for name, array in self.arrays.items()
        }
        self.size = sum(array.nbytes for array in self.arrays.values())

    def array(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def raw(self, name: str) -> bytes:
        return self.arrays[name].tobytes()

    def scalar(self, name: str) -> float:
        return float(self.arrays[name].reshape(-1)[0])

    def scalars(self, names: Sequence[str]) -> dict[str, float]:
        return {name: self.scalar(name) for name in names}

    def close(self) -> None:
        pass


class ShapeSource(MemorySource):
    """Names, shapes and dtypes only: reading a value is a failure of the test."""

    def __init__(self, tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, Any] | None = None):
        super().__init__({}, metadata)
        self.tensors = {name: TensorInfo(dtype, shape, 0, 0) for name, (dtype, shape) in tensors.items()}

    def scalar(self, name: str) -> float:
        return 1.0  # alpha is part of opening, and a layout does not hold it


def adapter_of(
    arrays: Mapping[str, Any], metadata: Mapping[str, Any] | None = None, config: dict[str, Any] | None = None
) -> Adapter:
    """Open ``{tensor name: array}`` as if it had been read from a file."""
    return adapt(MemorySource(arrays, metadata), config)
