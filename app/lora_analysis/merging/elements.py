"""Layers of the sum that have no factors: vectors, biases, and differences that are kept as such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..adapter import Dense, Layer, Update, Vector
from ..formats.encoding import encode
from .inputs import Share
from .storage import with_name
from .tensors import Calculated, Carried

if TYPE_CHECKING:
    from ..adapter import FloatArray

_VECTOR_KINDS = frozenset({"norm", "bias", "modulation"})
_BIAS_ROLES = frozenset({"bias", "norm_bias", "up_bias"})
_Loader = Callable[[], Update | None]


def is_summed_by_elements(shares: Sequence[Share], *, keep_differences: bool) -> bool:
    """Whether no holder has factors. Differences of whole matrices count only where they are to stay such."""
    kinds = {share.layer.kind for share in shares}
    return kinds <= _VECTOR_KINDS or (keep_differences and kinds == {"full"})


def summed_elements(shares: Sequence[Share], dtype: str) -> tuple[Layer, dict[str, Calculated | Carried]]:
    """The layer and its tensor."""
    first = shares[0].layer
    role, key = next((role, key) for role, key in first.keys.items() if first.kind == "bias" or role not in _BIAS_ROLES)
    terms = [(share.weight, share.layer.update) for share in shares]
    make = partial(with_name, first.name, partial(_sum, terms))
    kind = Dense if first.kind == "full" else Vector
    layer = Layer(
        name=first.name,
        kind=first.kind,
        keys={role: key},
        shape=first.shape,
        component=first.component,
        load=lambda: kind(make()),
    )
    return layer, {key: Calculated(dtype, first.shape or (), make)}


def summed_bias(shares: Sequence[Share], dtype: str) -> dict[str, Calculated | Carried]:
    """The difference of the bias beside a layer's weight, under the name it has in its first holder."""
    if all(share.layer.kind == "bias" for share in shares):
        return {}  # then it is the layer itself
    found = [(key, share) for share in shares for role, key in share.layer.keys.items() if role in _BIAS_ROLES]
    if not found:
        return {}
    key, first = found[0]
    terms = [
        (share.weight, share.layer.update if share.layer.kind == "bias" else share.layer.bias) for _, share in found
    ]
    make = partial(with_name, first.layer.name, partial(_sum, terms))
    return {key: Calculated(dtype, first.adapter.source.tensors[key].shape, make)}


def measure_rounding(exact: Update, dtype: str) -> tuple[float, float]:
    """Norm of a sum as calculated, and of what storing it as ``dtype`` changes."""
    import numpy as np

    from ..linalg.dense import materialise
    from ..linalg.floats import widen

    values = materialise(exact)
    stored = widen(encode(values, dtype, "the sum"))
    return float(np.linalg.norm(values)), float(np.linalg.norm(stored - values))


def _sum(terms: Sequence[tuple[float, _Loader]]) -> FloatArray:
    from ..linalg.combine import Term, weighted_sum_of_elements

    updates = [(weight, load()) for weight, load in terms]
    return weighted_sum_of_elements([Term(weight, update) for weight, update in updates if update is not None])
