"""Adapters of full size with invented values: names, shapes, types and headers of real ones.

Values: ``up`` and ``down`` are normal numbers, mixed by a rotation. Singular values fall like ``k ** -1.2``, as those
of trained adapters do. The same call writes the same values on the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod, sqrt
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from inspect_folder import sdxl as sdxl_unet

from lora_analysis.demo.headers import kohya
from lora_analysis.demo.layouts import Layout, clip, llama
from lora_analysis.formats.layout import TensorPlan
from lora_analysis.formats.writer import write_safetensors

DECAY = 1.2
_TYPES: dict[str, Any] = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}
Tensor = tuple[str, str, tuple[int, ...], Callable[[], np.ndarray]]  # name, dtype, shape, values


@dataclass(frozen=True)
class FullSize:
    """One adapter to measure with."""

    name: str  # of the file or folder
    label: str
    rank: int
    tensors: Callable[[], Iterator[Tensor]]
    header: dict[str, str]
    config: dict[str, Any] | None = None

    def write(self, folder: Path) -> Path:
        """The adapter below ``folder``, written where it is not there yet."""
        path = folder / self.name
        weights = path if self.config is None else path / "adapter_model.safetensors"
        if not weights.exists():
            weights.parent.mkdir(parents=True, exist_ok=True)
            tensors = list(self.tensors())
            plans = [TensorPlan(name, dtype, shape) for name, dtype, shape, _ in tensors]
            chunks = (stored(values(), dtype).reshape(-1).view(np.uint8) for _, dtype, _, values in tensors)
            write_safetensors(weights, plans, chunks, self.header, with_hashes=False)
            if self.config is not None:
                (path / "adapter_config.json").write_text(json.dumps(self.config))
        return path


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(values, _TYPES[dtype])


def factor(seed: int, side: int, rank: int, *, is_up: bool) -> np.ndarray:
    """``(side, rank)``: normal columns, for ``up`` scaled to the decay, both rotated alike so that none is an axis."""
    rng = np.random.default_rng([seed, is_up])
    values = rng.standard_normal((side, rank), dtype=np.float32) / np.float32(sqrt(side))
    if is_up:
        values *= 0.05 * np.arange(1, rank + 1, dtype=np.float32) ** -DECAY
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((rank, rank))).Q.astype(np.float32)
    return values @ rotation


def low_rank(
    layout: Layout,
    rank: int,
    dtype: str,
    ends: tuple[str, str] = ("lora_down.weight", "lora_up.weight"),
    *,
    seed: int = 0,
) -> Iterator[Tensor]:
    """LoRA for every module of ``layout``, with an alpha of half the rank where the names are kohya's."""
    for number, (name, (out, width, *kernel)) in enumerate(layout.items(), start=1000 * seed):
        columns, ones = width * prod(kernel), tuple(1 for _ in kernel)
        if ends[0] == "lora_down.weight":
            yield f"{name}.alpha", dtype, (), lambda: np.array(rank / 2)
        down = lambda n=number, c=columns: factor(n, c, rank, is_up=False).T  # noqa: E731
        up = lambda n=number, o=out: factor(n, o, rank, is_up=True)  # noqa: E731
        yield f"{name}.{ends[0]}", dtype, (rank, width, *kernel), down
        yield f"{name}.{ends[1]}", dtype, (out, rank, *ones), up


def lokr(layout: Layout, rank: int, blocks: int, dtype: str) -> Iterator[Tensor]:
    """LoKr: a whole ``(blocks, blocks)`` matrix times a low-rank one."""
    for number, (name, (out, width)) in enumerate(layout.items()):
        outer, inner = out // blocks, width // blocks
        first = lambda n=number: np.random.default_rng(n).standard_normal((blocks, blocks)) / blocks  # noqa: E731
        down = lambda n=number, c=inner: factor(n, c, rank, is_up=False).T  # noqa: E731
        up = lambda n=number, o=outer: factor(n, o, rank, is_up=True)  # noqa: E731
        yield f"{name}.alpha", dtype, (), lambda: np.array(rank / 2)
        yield f"{name}.lokr_w1", dtype, (blocks, blocks), first
        yield f"{name}.lokr_w2_a", dtype, (outer, rank), up
        yield f"{name}.lokr_w2_b", dtype, (rank, inner), down


# -- the models --------------------------------------------------------------------------------------


def sdxl() -> Layout:
    """The 986 modules that kohya trains in SDXL: the UNet's and those of both text encoders."""
    encoders = clip("lora_te1", 768, range(12)) | clip("lora_te2", 1280, range(32))
    layout = sdxl_unet() | encoders
    assert len(layout) == 986
    return layout


def sdxl_convolutions() -> Layout:
    """The residual blocks, down- and upsamplers of the SDXL UNet, as LoCon adapts them.

    Widths are 320, 640 and 1280 with two blocks per level; the decoder's blocks see the encoder's outputs beside
    their own input.
    """
    encoder = [(1, 320, 320), (2, 320, 320), (4, 320, 640), (5, 640, 640), (7, 640, 1280), (8, 1280, 1280)]
    decoder = [(0, 2560, 1280), (1, 2560, 1280), (2, 1920, 1280), (3, 1920, 640), (4, 1280, 640), (5, 960, 640)]
    decoder += [(6, 960, 320), (7, 640, 320), (8, 640, 320)]
    blocks = [(f"lora_unet_input_blocks_{index}_0", *sides) for index, *sides in encoder]
    blocks += [(f"lora_unet_middle_block_{index}", 1280, 1280) for index in (0, 2)]
    blocks += [(f"lora_unet_output_blocks_{index}_0", *sides) for index, *sides in decoder]
    layout: Layout = {}
    for prefix, width, out in blocks:
        layout[f"{prefix}_in_layers_2"] = (out, width, 3, 3)
        layout[f"{prefix}_emb_layers_1"] = (out, 1280)
        layout[f"{prefix}_out_layers_3"] = (out, out, 3, 3)
        if width != out:
            layout[f"{prefix}_skip_connection"] = (out, width, 1, 1)
    layout |= {f"lora_unet_input_blocks_{index}_0_op": (width, width, 3, 3) for index, width in ((3, 320), (6, 640))}
    layout |= {
        f"lora_unet_output_blocks_{index}_2_conv": (width, width, 3, 3) for index, width in ((2, 1280), (5, 640))
    }
    return layout


def flux() -> Layout:
    """The 304 linear modules of FLUX.1 under its own names."""
    width = 3072
    layout: Layout = {}
    for index in range(19):
        for stream in ("img", "txt"):
            prefix = f"lora_unet_double_blocks_{index}_{stream}"
            layout[f"{prefix}_attn_qkv"] = (3 * width, width)
            layout[f"{prefix}_attn_proj"] = (width, width)
            layout[f"{prefix}_mlp_0"] = (4 * width, width)
            layout[f"{prefix}_mlp_2"] = (width, 4 * width)
            layout[f"{prefix}_mod_lin"] = (6 * width, width)
    for index in range(38):
        prefix = f"lora_unet_single_blocks_{index}"
        layout[f"{prefix}_linear1"] = (7 * width, width)
        layout[f"{prefix}_linear2"] = (width, 5 * width)
        layout[f"{prefix}_modulation_lin"] = (3 * width, width)
    return layout


def llama3_8b() -> Layout:
    """The seven projections of all 32 layers of Llama 3 8B."""
    hidden, inner, keys = 4096, 14336, 1024
    projections = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return llama("base_model.model.model", range(32), projections)


def _header(title: str, base: str, rank: int, module: str = "networks.lora") -> dict[str, str]:
    return kohya(title, module=module, base=base, rank=str(rank), alpha=f"{rank / 2:g}", resolution=1024)


PEFT = {"peft_type": "LORA", "r": 64, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
PEFT_ENDS = ("lora_A.weight", "lora_B.weight")
SDXL_BASE = "sdxl_base_v1-0"

SDXL = FullSize(
    "sdxl-kohya-r128.safetensors", "SDXL kohya, rank 128, fp16", 128,
    lambda: low_rank(sdxl(), 128, "F16"), _header("sdxl", SDXL_BASE, 128),
)  # fmt: skip
SDXL_SMALL = tuple(
    FullSize(
        f"sdxl-kohya-r32-{seed}.safetensors", "SDXL kohya, rank 32, fp16", 32,
        lambda seed=seed: low_rank(sdxl(), 32, "F16", seed=seed), _header("sdxl", SDXL_BASE, 32),
    )
    for seed in (1, 2)
)  # fmt: skip
LOCON = FullSize(
    "sdxl-locon-r64.safetensors", "SDXL LoCon, rank 64, fp16", 64,
    lambda: low_rank(sdxl() | sdxl_convolutions(), 64, "F16"), _header("locon", SDXL_BASE, 64, "lycoris.kohya"),
)  # fmt: skip
FLUX = FullSize(
    "flux-kohya-r32.safetensors", "FLUX.1 kohya, rank 32, bf16", 32,
    lambda: low_rank(flux(), 32, "BF16"), _header("flux", "flux1", 32, "networks.lora_flux"),
)  # fmt: skip
LLAMA = FullSize(
    "llama3-8b-peft-r64", "Llama 3 8B PEFT, rank 64, bf16", 64,
    lambda: low_rank(llama3_8b(), 64, "BF16", PEFT_ENDS), {"format": "pt"}, PEFT,
)  # fmt: skip
LOKR = FullSize(
    "sdxl-lokr-r16.safetensors", "SDXL LoKr, 8 x 8 blocks of rank 16, fp16", 16,
    lambda: lokr(sdxl_unet(), 16, 8, "F16"), _header("lokr", SDXL_BASE, 16, "lycoris.kohya"),
)  # fmt: skip
