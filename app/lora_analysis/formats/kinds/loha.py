"""LoHa: the element-wise product of two low-rank matrices.

LyCORIS 3 ``modules/loha.py``, PEFT ``tuners/loha``. Plain: ``w_a`` is (out, rank), ``w_b`` (rank, in * k).
Tucker (``hada_t1``, ``hada_t2``): ``w_a`` is **(rank, out)**, ``w_b`` (rank, in), the kernel in the cores.
"""

from __future__ import annotations

from ...adapter import Hadamard, LowRank
from .group import Described, Group, Kind, require

_TAILS = {f".hada_{part}": part for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")}


def _describe(group: Group) -> Described:
    sides = [_side(group, "w1_a", "w1_b", "t1"), _side(group, "w2_a", "w2_b", "t2")]
    require(sides[0] == sides[1], group, f"the two products are {list(sides[0])} and {list(sides[1])}")
    rank = group.shape("w1_b")[0]
    return Described("loha", sides[0], _load, rank=rank, divisor=rank)


def _side(group: Group, a: str, b: str, core: str) -> tuple[int, ...]:
    (rows, columns), (rank, width) = group.matrix_shape(a), group.matrix_shape(b)
    if core not in group.keys:
        require(columns == rank, group, f"hada_{a} has rank {columns}, hada_{b} has rank {rank}")
        return (rows, width)
    shape = group.shape(core)
    require(shape[:2] == (rows, rank), group, f"hada_{core} {list(shape)} does not join ranks {rows} and {rank}")
    return (columns, width, *shape[2:])


def _load(group: Group, scale: float) -> Hadamard:
    return Hadamard(_product(group, "w1_a", "w1_b", "t1"), _product(group, "w2_a", "w2_b", "t2"), scale)


def _product(group: Group, a: str, b: str, core: str) -> LowRank:
    if core not in group.keys:
        return LowRank(group.matrix(a), group.matrix(b))
    tensor = group.array(core)
    return LowRank(group.matrix(a).T, group.matrix(b), 1.0, tuple(tensor.shape[2:]), tensor)


LOHA = Kind("loha", _TAILS, frozenset(_TAILS.values()), _describe)
