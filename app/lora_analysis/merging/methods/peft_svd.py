"""PEFT's ``add_weighted_adapter(combination_type="svd")``: ``B = U_k Σ_k``, ``A = V_kᵀ`` of the sum.

k is the largest rank; the delta is that of ``svd``. Calculated from the factors here, where PEFT decomposes the
dense delta with full matrices. Observed in PEFT 0.21.2.
"""

from __future__ import annotations

from .method import Merged, Method, Request, SizeRequest


def _size(request: SizeRequest) -> int:
    return min(request.asked or max(request.ranks), request.limit, sum(request.ranks))


def _merge(request: Request) -> Merged:
    from ...adapter import LowRank
    from ...linalg.combine import Term, weighted_sum
    from ...linalg.tasks import canonical

    layer = request.layer
    summed = weighted_sum([Term(task.weight, task.delta) for task in layer.tasks], layer.kernel)
    assert isinstance(summed, LowRank)  # parts of experts come one by one
    kept = canonical(summed)
    rank = request.size
    if not len(kept.s):
        return Merged(summed)
    return Merged(LowRank(kept.u[:, :rank] * kept.s[:rank], kept.vt[:rank], 1.0, layer.kernel))


METHOD = Method(
    "compat:peft_svd",
    "what PEFT's combination_type='svd' makes",
    _merge,
    size=_size,
    normalize=False,
    wrong="keeps all singular values in B, where fp16 loses the small ones; rank is one number for all layers",
)
