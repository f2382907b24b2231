"""Layers of the sum that are products of factors: all of a matrix but what is kept as a difference."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..adapter import Layer, LowRank, Stacked
from ..formats.spelling import Spelling, spelling_of
from .inputs import Share
from .matching import sum_shape

_PLAIN_ROLES = frozenset({"down", "up", "alpha", "up_bias", "bias"})


def summed_factors(shares: Sequence[Share], dialect: str) -> tuple[Layer, Spelling]:
    """A layer whose update is the sum of the shares, its rank the sum of theirs, and the spelling of its factors.

    ``dialect``: the output's.
    """
    first = shares[0].layer
    shape = sum_shape([share.layer for share in shares])
    rank = sum(_rank(share) for share in shares)
    spelling = _spelling(shares, dialect)
    down, up, alpha = spelling.names
    layer = Layer(
        name=first.name,
        kind="lora",
        keys={"down": down, "up": up} | ({"alpha": alpha} if alpha else {}),
        shape=shape,
        rank=rank,
        alpha=float(rank),
        component=first.component,
        experts=first.experts,
        base_transposed=first.base_transposed,
        reshape=first.reshape,
        load=partial(_load, shares, () if first.experts else shape[2:]),
    )
    return layer, spelling


def _rank(share: Share) -> int:
    """The rank of a share's factors. Nearly always the header says it; of other kinds the values are read."""
    from ..linalg.combine import factored_rank

    infos = share.infos()
    if infos.keys() <= _PLAIN_ROLES and "up" in infos and not share.layer.experts:
        return infos["down"].shape[0]
    return factored_rank(share.layer.update())


def _spelling(shares: Sequence[Share], dialect: str) -> Spelling:
    """The names that a holder gives: rather one that speaks the output's dialect, rather one with plain factors."""
    found = []
    for share in shares:
        adapter = share.adapter
        spelling = spelling_of(share.layer, adapter.dialect, adapter.layers, adapter.source.tensors)
        found.append((adapter.dialect != dialect, spelling.is_new, share.input, spelling))
    return min(found, key=lambda item: item[:3])[3]


def _load(shares: Sequence[Share], kernel: tuple[int, ...]) -> LowRank | Stacked:
    from ..linalg.combine import Term, weighted_sum

    return weighted_sum([Term(share.weight, share.layer.update()) for share in shares], kernel)
