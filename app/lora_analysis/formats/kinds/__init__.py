"""Every kind of update, one registry. A new kind is a new file, a line here and a row in the tests' table."""

from __future__ import annotations

from collections.abc import Mapping

from .full import BIAS, FULL, MODULATION, NORM
from .group import Described, Group, Kind, Outline
from .loha import LOHA
from .lokr import LOKR
from .lora import LORA
from .lora_variants import ADALORA, EMBEDDING, MLX, is_mlx_embedding
from .opaque import BOFT, FOURIER, GLORA, IA3, OFT, OTHER, VERA, peft_method

__all__ = [
    "KINDS",
    "SHARED_TAILS",
    "TAILS",
    "Described",
    "Group",
    "Kind",
    "Outline",
    "is_mlx_embedding",
    "is_told_by_form",
    "kind_of",
    "peft_method",
]

# Order matters where a module shows the marks of two kinds: the more specific one comes first.
KINDS: tuple[Kind, ...] = (
    LOKR, LOHA, ADALORA, OTHER, LORA, EMBEDDING, MLX,
    GLORA, IA3, OFT, BOFT, VERA, FOURIER,
    FULL, NORM, MODULATION, BIAS,
)  # fmt: skip

# Roles that accompany any kind.
SHARED_TAILS: Mapping[str, str] = {
    ".alpha": "alpha",
    ".lora.alpha": "alpha",
    ".lora_linear_layer.alpha": "alpha",
    ".lora_alpha": "alpha",
    ".dora_scale": "dora",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".reshape_weight": "reshape",
    ".bias_indices": "sparse_indices",
    ".bias_values": "sparse_values",
    ".bias_size": "sparse_size",
}

TAILS: Mapping[str, str] = {**{tail: role for kind in KINDS for tail, role in kind.tails.items()}, **SHARED_TAILS}


_VALUES = frozenset({"on_input", "scale"})
_PLAIN_LORA = frozenset({"down", "up", "alpha", "dora", "magnitude"})


def kind_of(roles: Mapping[str, str]) -> Kind | None:
    """The kind these roles belong to, or None where only accompanying roles are present."""
    if roles.keys() <= _PLAIN_LORA and "down" in roles:  # nearly every module there is
        return LORA
    if any(role.startswith("other:") for role in roles):
        return OTHER
    return next((kind for kind in KINDS if not kind.marks.isdisjoint(roles)), None)


def is_told_by_form(group: Group) -> bool:
    """Whether every module of these roles and shapes is described alike.

    Not where a value that is stored has a say (IA3's flag, a scale) or the module's name (experts in one parameter,
    MLX' embeddings).
    """
    if "down_t" in group.keys and is_mlx_embedding(group.name):
        return False
    return _VALUES.isdisjoint(group.keys) and not group.config.get("target_parameters")
