"""Small adapters of every kind of update, to be opened from memory or written to disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lora_analysis.formats.layout import TensorPlan
from lora_analysis.formats.writer import write_safetensors
from sources import MemorySource

Arrays = dict[str, np.ndarray]
OUT, IN, KERNEL = 12, 10, (3, 3)
MODULE = "lora_unet_down_blocks_0_attentions_0_proj_in"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def alpha(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def lora(seed: int, name: str = MODULE, rank: int = 3, out: int = OUT, width: int = IN, scale: float = 0.5) -> Arrays:
    return {
        f"{name}.lora_down.weight": normal(seed, rank, width),
        f"{name}.lora_up.weight": normal(seed, out, rank),
        f"{name}.alpha": alpha(scale * rank),
    }


def conv_lora(seed: int, name: str = CONV, rank: int = 2) -> Arrays:
    return {
        f"{name}.lora_down.weight": normal(seed, rank, IN, *KERNEL),
        f"{name}.lora_up.weight": normal(seed, OUT, rank, 1, 1),
        f"{name}.alpha": alpha(rank * 0.75),
    }


def tucker(seed: int, name: str = CONV, rank: int = 2) -> Arrays:
    return {
        f"{name}.lora_down.weight": normal(seed, rank, IN, 1, 1),
        f"{name}.lora_mid.weight": normal(seed, rank, rank, *KERNEL),
        f"{name}.lora_up.weight": normal(seed, OUT, rank, 1, 1),
        f"{name}.alpha": alpha(1.0),
    }


def loha(seed: int, name: str = MODULE, rank: int = 2) -> Arrays:
    shapes = {"w1_a": (OUT, rank), "w1_b": (rank, IN), "w2_a": (OUT, rank), "w2_b": (rank, IN)}
    made = {f"{name}.hada_{part}": normal(seed + i, *shape) for i, (part, shape) in enumerate(shapes.items())}
    return made | {f"{name}.alpha": alpha(1.0)}


def flat_loha(seed: int, name: str = CONV, rank: int = 2) -> Arrays:
    """A convolution whose columns are stored flattened."""
    columns = IN * 9
    shapes = {"w1_a": (OUT, rank), "w1_b": (rank, columns), "w2_a": (OUT, rank), "w2_b": (rank, columns)}
    made = {f"{name}.hada_{part}": normal(seed + i, *shape) for i, (part, shape) in enumerate(shapes.items())}
    return made | {f"{name}.alpha": alpha(2.0)}


def lokr(seed: int, name: str = MODULE) -> Arrays:
    return {
        f"{name}.lokr_w1": normal(seed, 3, 2),
        f"{name}.lokr_w2_a": normal(seed, 4, 2),
        f"{name}.lokr_w2_b": normal(seed, 2, 5),
        f"{name}.alpha": alpha(1.0),
    }


def conv_lokr(seed: int, name: str = CONV) -> Arrays:
    return {f"{name}.lokr_w1": normal(seed, 3, 2), f"{name}.lokr_w2": normal(seed, 4, 5, *KERNEL)}


def full(seed: int, name: str = MODULE) -> Arrays:
    return {f"{name}.diff": normal(seed, OUT, IN)}


def conv_full(seed: int, name: str = CONV) -> Arrays:
    return {f"{name}.diff": normal(seed, OUT, IN, *KERNEL)}


LINEAR_KINDS: Mapping[str, Callable[[int], Arrays]] = {"lora": lora, "loha": loha, "lokr": lokr, "full": full}
CONV_KINDS: Mapping[str, Callable[[int], Arrays]] = {
    "conv": conv_lora,
    "tucker": tucker,
    "flat loha": flat_loha,
    "conv lokr": conv_lokr,
    "conv full": conv_full,
}


def save(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> Path:
    """Write the arrays with the project's own writer."""
    plans = [TensorPlan(name, info.dtype, info.shape) for name, info in MemorySource(arrays).tensors.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_safetensors(path, plans, (array.tobytes() for array in arrays.values()), dict(metadata or {}))
    return path


def peft_config(rank: int, lora_alpha: float, **fields: Any) -> dict[str, Any]:
    return {"peft_type": "LORA", "r": rank, "lora_alpha": lora_alpha, "target_modules": ["q_proj"], **fields}


def peft_lora(seed: int, rank: int, layer: int = 0, projection: str = "q_proj") -> Arrays:
    name = f"base_model.model.model.layers.{layer}.self_attn.{projection}"
    return {
        f"{name}.lora_A.weight": normal(seed, rank, IN),
        f"{name}.lora_B.weight": normal(seed, OUT, rank),
    }
