"""The reference layouts with small widths and invented values: every name and kind, in a few kilobytes."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from layouts import load

_DTYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4"}
_SPECIAL = {"BF16": ml_dtypes.bfloat16, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2}
_WIDEST = 64


def small(size: int) -> int:
    """Widths above 64 are divided by 64; ratios between the widths of a model stay."""
    return max(size // _WIDEST, 1) if size > _WIDEST else size


def write_shrunk(file: str, folder: Path) -> Path:
    """The layout as a file in ``folder``, with its configuration beside it where it has one."""
    from lora_analysis.formats.layout import TensorPlan
    from lora_analysis.formats.writer import write_safetensors

    layout = load(file)
    plans, arrays = [], []
    for key, info in layout["tensors"].items():
        array = _values(key, info)
        plans.append(TensorPlan(key, info["dtype"], array.shape))
        arrays.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    metadata = {key: str(value) for key, value in (layout.get("metadata") or {}).items()}
    path = folder / "adapter_model.safetensors"
    write_safetensors(path, plans, arrays, metadata)
    config = layout.get("adapter_config")
    if config:
        (folder / "adapter_config.json").write_text(json.dumps(_small_config(config)))
    return path


def _values(key: str, info: dict[str, Any]) -> np.ndarray:
    shape = tuple(small(size) for size in info["shape"])
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    dtype = _SPECIAL.get(info["dtype"]) or np.dtype(_DTYPES[info["dtype"]])
    if not shape or key.endswith(".alpha"):
        return np.full(shape, small(int(_alpha(info))), dtype)
    if np.dtype(dtype).kind == "i":
        return np.ones(shape, dtype)
    return (rng.standard_normal(shape) * 0.25).astype(dtype)


def _alpha(info: dict[str, Any]) -> float:
    return float(info.get("value", 8) or 8)


def _small_config(config: dict[str, Any]) -> dict[str, Any]:
    ranks = {key: small(int(config[key])) for key in ("r", "lora_alpha") if isinstance(config.get(key), int)}
    patterns = {
        key: {name: small(int(value)) for name, value in config[key].items()}
        for key in ("rank_pattern", "alpha_pattern")
        if config.get(key)
    }
    return {**config, **ranks, **patterns}
