"""LoRA stored another way: AdaLoRA, embeddings, and MLX' transposed factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...adapter import LowRank, Stacked
from .group import Described, Group, Kind, require

if TYPE_CHECKING:
    from ...adapter import FloatArray

# -- AdaLoRA: Zhang et al., arXiv 2303.10512 -------------------------------------------------------------


def _describe_adalora(group: Group) -> Described:
    """``delta = up @ (E * down) * alpha / (rank + 1e-5)``, as PEFT 0.21 ``SVDLinear`` computes it."""
    (rank, width), (out, inner) = group.matrix_shape("down"), group.matrix_shape("up")
    ada = group.shape("ada")
    require(rank == inner == ada[0], group, f"lora_A, lora_E and lora_B have ranks {rank}, {ada[0]} and {inner}")
    # PEFT does not save ``ranknum``; on loading it is the rank of the stored factors.
    return Described("adalora", (out, width), _load_adalora, rank=rank, divisor=rank + 1e-5)


def _load_adalora(group: Group, scale: float) -> LowRank:
    import numpy as np

    down = group.matrix("down").astype(np.float64) * group.matrix("ada").astype(np.float64)
    return LowRank(group.matrix("up"), down, scale)


ADALORA = Kind("adalora", {".lora_E": "ada", ".ranknum": "ranknum"}, frozenset({"ada"}), _describe_adalora)


# -- embeddings --------------------------------------------------------------------------------------


def _describe_embedding(group: Group) -> Described:
    """``delta = (B @ A).T * scale`` of shape ``(vocabulary, dim)``: A is (rank, vocab), B is (dim, rank)."""
    (rank, vocabulary), (dim, inner) = group.matrix_shape("embedding_down"), group.matrix_shape("embedding_up")
    require(rank == inner, group, f"lora_embedding_A has rank {rank}, lora_embedding_B has rank {inner}")
    return Described("lora", (vocabulary, dim), _load_embedding, rank=rank, divisor=rank)


def _load_embedding(group: Group, scale: float) -> LowRank:
    return LowRank(group.matrix("embedding_down").T, group.matrix("embedding_up").T, scale)


EMBEDDING = Kind(
    "lora",
    {".lora_embedding_A": "embedding_down", ".lora_embedding_B": "embedding_up"},
    frozenset({"embedding_down", "embedding_up"}),
    _describe_embedding,
)


# -- MLX ---------------------------------------------------------------------------------------------


_MLX_EMBEDDINGS = frozenset({"embed_tokens", "tok_embeddings", "word_embeddings", "embedding", "embeddings", "wte"})


def is_mlx_embedding(name: str) -> bool:
    """Whether a module of MLX is an embedding, which only its name tells: both factors look like a linear layer's."""
    return name.rpartition(".")[2] in _MLX_EMBEDDINGS


def _describe_mlx(group: Group) -> Described:
    """MLX multiplies from the left: ``lora_a`` is (in, rank), ``lora_b`` is (rank, out); mlx-lm ``LoRALinear``.

    Mixture-of-experts layers (``LoRASwitchLinear``) hold (experts, rank, in) and (experts, out, rank). An embedding's
    (``LoRAEmbedding``) are (vocabulary, rank) and (rank, dim): their product is the delta as it stands.
    """
    down, up = group.shape("down_t"), group.shape("up_t")
    if len(up) == 3:
        return _describe_mlx_experts(group, down, up)
    require(len(down) == len(up) == 2, group, f"lora_a is {list(down)} and lora_b {list(up)}; both must be matrices")
    require(down[1] == up[0], group, f"lora_a has rank {down[1]}, lora_b has rank {up[0]}")
    if is_mlx_embedding(group.name):
        return Described("lora", (down[0], up[1]), _load_mlx_embedding, rank=up[0], divisor=up[0])
    return Described("lora", (up[1], down[0]), _load_mlx, rank=up[0], divisor=up[0])


def _load_mlx(group: Group, scale: float) -> LowRank:
    return LowRank(group.matrix("up_t").T, group.matrix("down_t").T, scale)


def _load_mlx_embedding(group: Group, scale: float) -> LowRank:
    return LowRank(group.matrix("down_t"), group.matrix("up_t"), scale)


def _describe_mlx_experts(group: Group, down: tuple[int, ...], up: tuple[int, ...]) -> Described:
    experts, out, rank = up
    fits = down[-1:] != () and (down[:-1] == (experts, rank) or down[:-1] == (experts * rank,))
    require(fits, group, f"lora_a {list(down)} does not stack the {experts} experts of rank {rank} of lora_b")
    return Described("lora", (experts, out, down[-1]), _load_mlx_experts, rank=rank, divisor=rank, experts=experts)


def _load_mlx_experts(group: Group, scale: float) -> Stacked:
    ups: FloatArray = group.array("up_t")
    experts, _, rank = ups.shape
    downs = group.array("down_t")
    downs = downs.reshape(experts, rank, downs.shape[-1])
    return Stacked(tuple(LowRank(ups[e], downs[e], scale) for e in range(experts)))


MLX = Kind("lora", {".lora_a": "down_t", ".lora_b": "up_t"}, frozenset({"down_t", "up_t"}), _describe_mlx)
