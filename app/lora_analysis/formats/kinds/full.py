"""Differences stored whole: weights, norms, biases.

``.diff`` and ``.diff_b`` (LyCORIS ``full``, ComfyUI extraction, lightx2v), ``.diff_m`` (a block's modulation
table, kijai's Wan extractions), ``.w_norm`` and ``.b_norm`` (LyCORIS ``train_norm``). No alpha acts on them.
"""

from __future__ import annotations

from functools import partial

from ...adapter import Dense, Vector
from .group import Described, Group, Kind


def _describe_full(group: Group) -> Described:
    shape = group.shape("diff")
    if len(shape) < 2:
        return Described("norm", shape, partial(_load_vector, "diff"))
    return Described("full", shape, _load_dense)


def _load_dense(group: Group, scale: float) -> Dense:
    return Dense(group.array("diff"), scale)


def _load_vector(role: str, group: Group, scale: float) -> Vector:
    return Vector(group.array(role), scale)


def _describe_vector(group: Group, *, kind: str, roles: tuple[str, ...]) -> Described:
    role = next(role for role in roles if role in group.keys)
    return Described(kind, group.shape(role), partial(_load_vector, role))


FULL = Kind("full", {".diff": "diff"}, frozenset({"diff"}), _describe_full)
NORM = Kind(
    "norm",
    {".w_norm": "norm", ".b_norm": "norm_bias"},
    frozenset({"norm"}),
    partial(_describe_vector, kind="norm", roles=("norm",)),
)
MODULATION = Kind(
    "modulation",
    {".diff_m": "modulation"},
    frozenset({"modulation"}),
    partial(_describe_vector, kind="modulation", roles=("modulation",)),
)
BIAS = Kind(
    "bias",
    {".diff_b": "bias"},
    frozenset({"bias", "norm_bias"}),
    partial(_describe_vector, kind="bias", roles=("bias", "norm_bias")),
)
