"""Invented tensors with the statistics of trained ones.

Measured on trained adapters (T5, DistilBERT, GPT-2, Qwen): the delta's singular values fall like ``k ** -1.1`` to
``k ** -1.7``, ``down`` stays near its uniform initial values and ``up`` carries the signal.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING, Any

from .layouts import Layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Tensors = dict[str, Array]

DECAY = 1.2  # the k-th singular value is proportional to k ** -DECAY
STRENGTH = 0.05  # largest singular value of a delta, before alpha / rank


def factors(rng: np.random.Generator, out: int, columns: int, rank: int) -> tuple[Array, Array]:
    """``up`` (out, rank) and ``down`` (rank, columns), float32, whose product has the decaying spectrum.

    With ``down.T = Q R``, taking ``up = U diag(s) W inv(R.T)`` for an orthonormal ``U`` and a rotation ``W`` gives the
    product the singular values ``s`` while ``down`` keeps its uniform entries.
    """
    import numpy as np

    down = rng.uniform(-1.0, 1.0, (rank, columns)) / sqrt(columns)
    triangle = np.linalg.qr(down.T, mode="r")
    basis = np.linalg.qr(rng.standard_normal((out, rank))).Q
    rotation = np.linalg.qr(rng.standard_normal((rank, rank))).Q
    sigma = STRENGTH * rng.uniform(0.5, 1.5) * np.arange(1.0, rank + 1.0) ** -DECAY
    up = np.linalg.solve(triangle, ((basis * sigma) @ rotation).T).T
    return up.astype(np.float32), down.astype(np.float32)


def lora(
    rng: np.random.Generator,
    layout: Layout,
    ranks: dict[str, int] | int,
    *,
    suffixes: tuple[str, str] = ("lora_down.weight", "lora_up.weight"),
    alpha_per_rank: float | None = None,
    dtype: str = "float16",
) -> Tensors:
    """Plain LoRA for every module; ``alpha_per_rank`` adds an ``.alpha`` tensor of that many times the rank."""
    tensors: Tensors = {}
    for name, (out, width, *kernel) in layout.items():
        rank = ranks if isinstance(ranks, int) else ranks[name]
        up, down = factors(rng, out, width * prod(kernel), rank)
        if kernel:
            up, down = up.reshape(out, rank, *(1 for _ in kernel)), down.reshape(rank, width, *kernel)
        if alpha_per_rank is not None:
            tensors[f"{name}.alpha"] = scalar(alpha_per_rank * rank, dtype)
        tensors[f"{name}.{suffixes[0]}"] = cast(down, dtype)
        tensors[f"{name}.{suffixes[1]}"] = cast(up, dtype)
    return tensors


def tucker(rng: np.random.Generator, layout: Layout, rank: int, alpha: float, dtype: str = "float16") -> Tensors:
    """LoCon with a Tucker core: 1x1 factors around a small kernel, for convolutions."""
    tensors: Tensors = {}
    for name, (out, width, *kernel) in layout.items():
        up, down = factors(rng, out, width, rank)
        core = rng.standard_normal((rank, rank, *kernel)) / sqrt(rank * prod(kernel))
        ones = tuple(1 for _ in kernel)
        tensors[f"{name}.alpha"] = scalar(alpha, dtype)
        tensors[f"{name}.lora_down.weight"] = cast(down.reshape(rank, width, *ones), dtype)
        tensors[f"{name}.lora_mid.weight"] = cast(core, dtype)
        tensors[f"{name}.lora_up.weight"] = cast(up.reshape(out, rank, *ones), dtype)
    return tensors


def loha(rng: np.random.Generator, layout: Layout, rank: int, alpha: float, dtype: str = "float16") -> Tensors:
    """LoHa: the element-wise product of a matrix near its initial values and one that was trained."""
    tensors: Tensors = {}
    for name, (out, width, *kernel) in layout.items():
        columns = width * prod(kernel)
        up, down = factors(rng, out, columns, rank)
        tensors[f"{name}.alpha"] = scalar(alpha, dtype)
        tensors[f"{name}.hada_w1_a"] = cast(rng.normal(0.0, 0.1, (out, rank)), dtype)
        tensors[f"{name}.hada_w1_b"] = cast(rng.normal(0.0, 1.0, (rank, columns)), dtype)
        tensors[f"{name}.hada_w2_a"] = cast(up, dtype)
        tensors[f"{name}.hada_w2_b"] = cast(down, dtype)
    return tensors


def lokr(
    rng: np.random.Generator, layout: Layout, rank: int, factor: int, alpha: float, dtype: str = "bfloat16"
) -> Tensors:
    """LoKr: a small full matrix times (Kronecker) a low-rank one; a full one where low rank would save nothing."""
    tensors: Tensors = {}
    for name, (out, width) in layout.items():
        large_out, large_in = out // factor, width // factor
        tensors[f"{name}.alpha"] = scalar(alpha, dtype)
        tensors[f"{name}.lokr_w1"] = cast(rng.standard_normal((factor, factor)) / factor, dtype)
        up, down = factors(rng, large_out, large_in, rank)
        if rank < min(large_out, large_in) / 2:
            tensors[f"{name}.lokr_w2_a"] = cast(up, dtype)
            tensors[f"{name}.lokr_w2_b"] = cast(down, dtype)
        else:
            tensors[f"{name}.lokr_w2"] = cast(up @ down, dtype)
    return tensors


def magnitudes(rng: np.random.Generator, layout: Layout, dtype: str) -> Tensors:
    """DoRA norms over each input column, shape (1, in): near those of a base weight with unit-variance outputs."""
    return {
        f"{name}.dora_scale": cast(rng.normal(sqrt(out / width), 0.02, (1, width)), dtype)
        for name, (out, width) in layout.items()
    }


def norms(rng: np.random.Generator, names: dict[str, int], dtype: str = "float16") -> Tensors:
    """Differences of norm weights and biases, as LyCORIS stores them with ``train_norm``."""
    tensors: Tensors = {}
    for name, width in names.items():
        tensors[f"{name}.w_norm"] = cast(rng.normal(0.0, 1e-2, width), dtype)
        tensors[f"{name}.b_norm"] = cast(rng.normal(0.0, 1e-2, width), dtype)
    return tensors


def cast(values: Array, dtype: str) -> Array:
    """``values`` in C order; ``bfloat16`` comes from ml_dtypes."""
    import ml_dtypes
    import numpy as np

    target: Any = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    return np.ascontiguousarray(values, dtype=target)


def scalar(value: float, dtype: str) -> Array:
    """A tensor of shape ``[]``."""
    import numpy as np

    return cast(np.array(value), dtype).reshape(())
