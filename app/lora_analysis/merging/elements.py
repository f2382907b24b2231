"""Layers of the sum that have no factors: vectors, biases, and differences that are kept as such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..adapter import VECTOR_KINDS, Dense, Layer, Update, Vector
from ..formats.encoding import encode
from .inputs import Share
from .meeting import Home
from .methods.method import Vectors
from .options import MergeOptions
from .storage import with_name
from .tensors import Calculated, Carried

if TYPE_CHECKING:
    from ..adapter import FloatArray

_BIAS_ROLES = frozenset({"bias", "norm_bias", "up_bias"})
_Loader = Callable[[], Update | None]


def is_summed_by_elements(shares: Sequence[Share], *, keep_differences: bool) -> bool:
    """Whether no holder has factors. Differences of whole matrices count only where they are to stay such."""
    kinds = {share.layer.kind for share in shares}
    return kinds <= VECTOR_KINDS or (keep_differences and kinds == {"full"})


def merged_elements(
    shares: Sequence[Share], dtype: str, options: MergeOptions, where: Home | None = None
) -> tuple[Layer, dict[str, Calculated | Carried]]:
    """The layer and its tensor."""
    first = next((share for share in shares if not share.moves), shares[0]).layer
    home = first if where is None else where.layer
    shape = max((share.shape for share in shares), key=len)
    role, key = next((role, key) for role, key in first.keys.items() if first.kind == "bias" or role not in _BIAS_ROLES)
    key = _renamed(key, first.name, home.name)
    terms = [_Term(share, share.layer.update) for share in shares]
    make = partial(with_name, home.name, partial(_merge, home.name, terms, options))
    kind = Dense if first.kind == "full" else Vector
    layer = Layer(
        name=home.name,
        kind=first.kind,
        keys={role: key},
        shape=shape,
        component=first.component,
        load=lambda: kind(make()),
    )
    return layer, {key: Calculated(dtype, shape, make)}


def merged_bias(shares: Sequence[Share], dtype: str, options: MergeOptions, name: str) -> dict[str, Calculated]:
    """The difference of the bias beside a layer's weight, under the name it has in its first holder, or would have."""
    if all(share.layer.kind == "bias" for share in shares):
        return {}  # then it is the layer itself
    found = [(key, share) for share in shares for role, key in share.layer.keys.items() if role in _BIAS_ROLES]
    if not found:
        return {}
    stored, first = min(found, key=lambda item: bool(item[1].moves))
    key = _renamed(stored, first.layer.name, name)
    shape = (first.rows,) if first.moves else first.adapter.source.tensors[stored].shape
    terms = [_Term(share, share.layer.update if share.layer.kind == "bias" else share.layer.bias) for _, share in found]
    make = partial(with_name, name, partial(_merge, key, terms, options))
    return {key: Calculated(dtype, shape, make)}


def _renamed(key: str, old: str, new: str) -> str:
    """A tensor's name with its module called otherwise."""
    return new + key[len(old) :] if key.startswith(old) else key


def measure_rounding(exact: Update, dtype: str) -> tuple[float, float]:
    """Norm of a sum as calculated, and of what storing it as ``dtype`` changes."""
    import numpy as np

    from ..linalg.dense import materialise
    from ..linalg.floats import widen

    values = materialise(exact)
    stored = widen(encode(values, dtype, "the sum"))
    return float(np.linalg.norm(values)), float(np.linalg.norm(stored - values))


class _Term(NamedTuple):
    """One holder's vector."""

    share: Share
    load: _Loader


def _merge(name: str, terms: Sequence[_Term], options: MergeOptions) -> FloatArray:
    """What the method makes of vectors and kept differences: of a single input, and of most methods, the sum."""
    from ..linalg.combine import Term, weighted_sum_of_elements
    from ..linalg.dense import materialise
    from ..linalg.rows import moved

    loaded = [(term.share, update) for term in terms if (update := term.load()) is not None]
    deltas = [
        (share, moved(materialise(update), share.moves, share.rows) if share.moves else materialise(update))
        for share, update in loaded
    ]
    method = options.how
    inputs = list(dict.fromkeys(share.input for share, _ in deltas))
    factor = options.settings.get("lambda", 1.0)
    left_alone = len(inputs) == 1 and method.alone == "kept"
    if method.vectors is None or left_alone:
        terms_of_sum = [Term((1.0 if left_alone else factor) * share.weight, Vector(delta)) for share, delta in deltas]
        return weighted_sum_of_elements(terms_of_sum)
    joined = [_of_input(deltas, number) for number in inputs]
    weights, values = [weight for weight, _ in joined], [delta for _, delta in joined]
    merged: FloatArray = factor * method.vectors(Vectors(name, values, weights, inputs, options.settings))
    return merged


def _of_input(deltas: Sequence[tuple[Share, FloatArray]], number: int) -> tuple[float, FloatArray]:
    """One input's weight and delta; of several pieces the weights go inside."""
    import numpy as np

    own = [(share.weight, delta) for share, delta in deltas if share.input == number]
    weight = max((weight for weight, _ in own), key=abs)
    return weight, np.sum([part / weight * delta for part, delta in own], axis=0)
