"""LoKr: the Kronecker product of two matrices, each whole or factored.

LyCORIS 3 ``modules/lokr.py``: ``delta = alpha / rank * kron(w1, w2)``, where the rank is that of the factored
side; with **both sides whole the scale is 1** whatever alpha says (trainers store 10000 or 1e10 there).
PEFT ``tuners/lokr`` multiplies by its config's ``alpha / r`` always; see ``formats/scale.py``.
A factored second side of a convolution is flattened, ``(out2, in2 * k)``: the kernel is then not in the file.
"""

from __future__ import annotations

from ...adapter import Dense, Kronecker, LowRank
from .group import Described, Group, Kind, require

_ROLES = {"w1": "k1", "w1_a": "k1_a", "w1_b": "k1_b", "w2": "k2", "w2_a": "k2_a", "w2_b": "k2_b", "t2": "k2_t"}
_TAILS = {f".lokr_{part}": role for part, role in _ROLES.items()}


def _describe(group: Group) -> Described:
    first, first_rank = _side(group, "k1")
    second, second_rank = _side(group, "k2")
    require(len(first) == 2, group, f"lokr_w1 is {list(first)}; it must be a matrix")
    shape = (first[0] * second[0], first[1] * second[1], *second[2:])
    rank = second_rank or first_rank
    return Described("lokr", shape, _load, rank=rank, divisor=rank)


def _side(group: Group, side: str) -> tuple[tuple[int, ...], int | None]:
    """Shape and rank (None: stored whole) of one Kronecker factor."""
    if side in group.keys:
        shape = group.shape(side)
        require(len(shape) >= 2, group, f"lokr_{side} has shape {list(shape)}; it needs two dimensions")
        return shape, None
    (rows, columns), (rank, width) = group.matrix_shape(f"{side}_a"), group.matrix_shape(f"{side}_b")
    core = f"{side}_t"
    if core in group.keys:  # Tucker: the first factor is transposed
        joint = group.shape(core)
        require(joint[:2] == (rows, rank), group, f"lokr_t2 {list(joint)} does not join ranks {rows} and {rank}")
        return (columns, width, *joint[2:]), rank
    require(columns == rank, group, f"lokr_{side}_a has rank {columns}, lokr_{side}_b has rank {rank}")
    return (rows, width), rank


def _load(group: Group, scale: float) -> Kronecker:
    return Kronecker(_factor(group, "k1"), _factor(group, "k2"), scale)


def _factor(group: Group, side: str) -> LowRank | Dense:
    if side in group.keys:
        return Dense(group.array(side))
    a, b = group.matrix(f"{side}_a"), group.matrix(f"{side}_b")
    if f"{side}_t" in group.keys:
        core = group.array(f"{side}_t")
        return LowRank(a.T, b, 1.0, tuple(core.shape[2:]), core)
    return LowRank(a, b)


LOKR = Kind("lokr", _TAILS, frozenset(_TAILS.values()), _describe)
