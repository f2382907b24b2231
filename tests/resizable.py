"""Adapters of every kind that can be resized, small enough to check against a dense SVD."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

import lora_analysis as la
from lora_analysis.formats.layout import TensorPlan
from lora_analysis.formats.writer import write_safetensors
from lora_analysis.resizing.writing import ResizeReport
from sources import _NAMES

KOHYA = "lora_unet_blocks_0_layer"
PEFT = "base_model.model.model.layers.0.self_attn.q_proj"


class Case(NamedTuple):
    """An adapter by its tensors."""

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] | None = None
    config: Mapping[str, Any] | None = None


def values(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal values whose columns fall off, so that no two singular values are close."""
    rng = np.random.default_rng([seed, *shape])
    found = rng.standard_normal(shape)
    if len(shape) > 1:
        found *= (1.0 / np.arange(1, shape[0] + 1)).reshape(-1, *[1] * (len(shape) - 1))
    return np.asarray(found, dtype)


def lora(name: str, out: int, width: int, rank: int, *, kernel: tuple[int, ...] = (), dtype: Any = np.float32) -> dict:
    ones = tuple(1 for _ in kernel)
    return {
        f"{name}.lora_down.weight": values(rank, width, *kernel, seed=1, dtype=dtype),
        f"{name}.lora_up.weight": values(out, rank, *ones, seed=2, dtype=dtype),
    }


def alpha(name: str, value: float, dtype: Any = np.float32, shape: tuple[int, ...] = ()) -> dict:
    return {f"{name}.alpha": np.full(shape, value, dtype)}


def peft(name: str, out: int, width: int, rank: int, seed: int = 3) -> dict:
    return {
        f"{name}.lora_A.weight": values(rank, width, seed=seed),
        f"{name}.lora_B.weight": values(out, rank, seed=seed + 1),
    }


def lokr(name: str, *, factored: bool = False) -> dict:
    first = {f"{name}.lokr_w1": values(3, 4, seed=5)}
    if factored:
        second = {f"{name}.lokr_w2_a": values(8, 5, seed=6), f"{name}.lokr_w2_b": values(5, 6, seed=7)}
    else:
        second = {f"{name}.lokr_w2": values(8, 6, seed=6)}
    return first | second


def renamed(arrays: Mapping[str, np.ndarray], module: str = PEFT) -> dict:
    return {key.replace(KOHYA, module): array for key, array in arrays.items()}


def _cases() -> dict[str, Case]:
    n = KOHYA
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 4, "target_modules": ["q_proj"]}
    biased = peft(PEFT, 20, 24, 8) | {f"{PEFT}.lora_B.bias": values(20)}
    hada = {
        f"{n}.hada_w1_a": values(20, 4, seed=8),
        f"{n}.hada_w1_b": values(4, 24, seed=9),
        f"{n}.hada_w2_a": values(20, 4, seed=10),
        f"{n}.hada_w2_b": values(4, 24, seed=11),
    }
    tucker = {key: array.reshape(*array.shape, 1, 1) for key, array in lora(n, 20, 12, 8).items()}
    tucker[f"{n}.lora_mid.weight"] = values(8, 8, 3, 3, seed=4)
    named = {
        key.replace("_A.", "_A.default.").replace("_B.", "_B.default."): array
        for key, array in peft("blocks.0.to_q", 20, 24, 8).items()
    }
    hada_tucker = {
        f"{n}.hada_w1_a": values(3, 20, seed=8),
        f"{n}.hada_w1_b": values(3, 12, seed=9),
        f"{n}.hada_w2_a": values(3, 20, seed=10),
        f"{n}.hada_w2_b": values(3, 12, seed=11),
        f"{n}.hada_t1": values(3, 3, 3, 3, seed=12),
        f"{n}.hada_t2": values(3, 3, 3, 3, seed=13),
    }
    down_1x1 = {f"{n}.lora_down.weight": values(8, 24, 1, 1), f"{n}.lora_up.weight": values(20, 8, 1, 1, seed=2)}
    embedding = {f"{PEFT}.lora_embedding_A": values(8, 30), f"{PEFT}.lora_embedding_B": values(16, 8, seed=2)}
    mlx = {"model.layers.0.q_proj.lora_a": values(24, 8), "model.layers.0.q_proj.lora_b": values(8, 20, seed=2)}
    mlx_experts = {
        "model.layers.0.mlp.switch_mlp.up_proj.lora_a": values(3, 8, 24),
        "model.layers.0.mlp.switch_mlp.up_proj.lora_b": values(3, 20, 8, seed=2),
    }
    mlx_config = {"fine_tune_type": "lora", "num_layers": 1, "lora_parameters": {"rank": 8, "scale": 20.0}}
    experts_config = config | {"target_parameters": ["mlp.experts.gate_up_proj"]}
    experts = peft("base_model.model.model.layers.0.mlp.experts", 20, 24, 8 * 3)
    adalora = {f"{PEFT}.lora_A": values(8, 24), f"{PEFT}.lora_B": values(20, 8, seed=2), f"{PEFT}.lora_E": values(8, 1)}
    merged = {f"{PEFT}.lora_A.weight": values(16, 24), f"{PEFT}.lora_B.weight": values(40, 8, 1, seed=2)}
    zero = {f"{n}.lora_down.weight": values(8, 24), f"{n}.lora_up.weight": np.zeros((20, 8), np.float32)}
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 8, "unet.lora_alpha": 4, "unet.use_rslora": True})}
    simple = {"transformer.r": "8", "transformer.lora_alpha": "4"}
    return {
        "linear": Case(lora(n, 20, 24, 8) | alpha(n, 4)),
        "linear fp16": Case(lora(n, 20, 24, 8, dtype=np.float16) | alpha(n, 4, np.float16)),
        "linear bf16": Case(lora(n, 20, 24, 8, dtype=ml_dtypes.bfloat16) | alpha(n, 4, ml_dtypes.bfloat16, (1,))),
        "linear fp8": Case(lora(n, 20, 24, 8, dtype=ml_dtypes.float8_e4m3fn) | alpha(n, 4)),
        "linear fp64": Case(lora(n, 20, 24, 8, dtype=np.float64) | alpha(n, 4)),
        "integer alpha": Case(lora(n, 20, 24, 8) | alpha(n, 4, np.int64)),
        "no alpha": Case(lora(n, 20, 24, 8)),
        "negative alpha": Case(lora(n, 20, 24, 8) | alpha(n, -4)),
        "third alpha": Case(lora(n, 20, 24, 8) | alpha(n, 1 / 3)),
        "scale tensor": Case(lora(n, 20, 24, 8) | {f"{n}.scale": np.full((), -0.3, np.float32)}),
        "rank above size": Case(lora(n, 20, 6, 9) | alpha(n, 4)),
        "full rank": Case(lora(n, 7, 9, 7) | alpha(n, 4)),
        "conv 3x3": Case(lora(n, 20, 12, 8, kernel=(3, 3)) | alpha(n, 4)),
        "conv 1-D": Case(lora(n, 20, 12, 8, kernel=(3,)) | alpha(n, 4)),
        "conv 3-D": Case(lora(n, 20, 12, 8, kernel=(1, 2, 2)) | alpha(n, 4)),
        "conv 1x1": Case(down_1x1 | alpha(n, 4)),
        "tucker": Case(tucker | alpha(n, 4)),
        "loha": Case(hada | alpha(n, 2)),
        "loha tucker": Case(hada_tucker | alpha(n, 2)),
        "lokr whole": Case(lokr(n) | alpha(n, 1e4)),
        "lokr factored": Case(lokr(n, factored=True) | alpha(n, 2)),
        "lokr conv": Case({f"{n}.lokr_w1": values(3, 4), f"{n}.lokr_w2": values(8, 3, 3, 3, seed=6)} | alpha(n, 1)),
        "diff": Case({f"{n}.diff": values(20, 24)}),
        "diff conv": Case({f"{n}.diff": values(20, 6, 3, 3)}),
        "diff conv beside lora": Case({f"{n}.diff": values(20, 6, 3, 3)} | lora(f"{n}_b", 20, 24, 8)),
        "dora": Case(lora(n, 20, 24, 8) | alpha(n, 4) | {f"{n}.dora_scale": np.ones((20, 1), np.float32)}),
        "bias beside": Case(lora(n, 20, 24, 8) | alpha(n, 4) | {f"{n}.diff_b": values(20)}),
        "zero": Case(zero | alpha(n, 4)),
        "peft": Case(peft(PEFT, 20, 24, 8), None, config),
        "peft rslora": Case(peft(PEFT, 20, 24, 8), None, config | {"use_rslora": True}),
        "peft patterns": Case(
            peft(PEFT, 20, 24, 8) | peft(PEFT.replace("q_proj", "v_proj"), 20, 24, 6),
            None,
            config | {"rank_pattern": {".*v_proj": 6}, "alpha_pattern": {"v_proj": 16}},
        ),
        "peft bias": Case(biased, None, config | {"lora_bias": True}),
        "peft embedding": Case(embedding, None, config),
        "peft without config": Case(peft(PEFT, 20, 24, 8)),
        "peft adapter name": Case(named),
        "peft experts": Case(experts | peft(PEFT, 20, 24, 8), None, experts_config),
        "peft loha": Case(renamed(hada), None, {"peft_type": "LOHA", "r": 4, "alpha": 2}),
        "peft lokr": Case(renamed(lokr(n)), None, {"peft_type": "LOKR", "r": 4, "alpha": 2}),
        "adalora": Case(adalora, None, {"peft_type": "ADALORA", "r": 8, "target_r": 8, "lora_alpha": 32}),
        "merged linear": Case(merged, None, config | {"enable_lora": [True, False, True]}),
        "diffusers header": Case(peft("unet.down_blocks.0.to_q", 20, 24, 8), header),
        "simpletuner header": Case(peft("transformer.blocks.0.to_q", 20, 24, 8), simple),
        "bare header alpha": Case(peft("diffusion_model.blocks.0.to_q", 20, 24, 8), {"lora_alpha": "4"}),
        "mlx": Case(mlx, None, mlx_config),
        "mlx experts": Case(mlx_experts | mlx, None, mlx_config),
    }


CASES = _cases()


def save(case: Case, folder: Path) -> Path:
    """Write a case as its tools do: a file, or a folder where there is a configuration."""
    name = "adapter.safetensors"
    if case.config is not None:
        folder = folder / "input"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(case.config))
        name = "adapters.safetensors" if "lora_parameters" in case.config else "adapter_model.safetensors"
    plans = [TensorPlan(key, _NAMES[array.dtype.name], array.shape) for key, array in case.arrays.items()]
    chunks = (np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in case.arrays.values())
    write_safetensors(folder / name, plans, chunks, dict(case.metadata or {}))
    return folder if case.config is not None else folder / name


class Work:
    """A folder, and the adapters opened in a test: closed when it ends."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def save(self, case: str | Case) -> Path:
        return save(CASES[case] if isinstance(case, str) else case, self.folder)

    def open(self, path: str | Path) -> la.Adapter:
        return self._stack.enter_context(la.open(path))

    def resize(self, path: Path, name: str = "output.safetensors", **asked: Any) -> ResizeReport:
        return la.resize(path, self.folder / name, **asked)

    def resized(self, case: str | Case, **asked: Any) -> tuple[la.Adapter, la.Adapter, ResizeReport]:
        """The input, the output, and the report."""
        path = self.save(case)
        report = self.resize(path, "output" if path.is_dir() else "output.safetensors", **asked)
        return self.open(path), self.open(report.written.path), report

    def remove(self, name: str) -> None:
        """Take away a folder that a test has made."""
        shutil.rmtree(self.folder / name)

    @property
    def names(self) -> list[str]:
        """What lies in the folder, hidden files too."""
        return sorted(entry.name for entry in self.folder.iterdir())
