"""KnOTS: TIES on the adapters' coordinates in the left singular vectors that they share.

``[w₁Δ₁ w₂Δ₂ ...] = U Σ [V₁ᵀ V₂ᵀ ...]``; the coordinates ``Σ Vₜᵀ = Uᵀ wₜ Δₜ`` are (R, in): they are trimmed, their signs
elected, averaged, and multiplied by U again. With the sum in place of TIES it would be the plain sum.
Source: Stoica et al., arXiv 2410.19735, which trims over all layers of an adapter together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .method import Merged, Method, Request
from .trimming import thresholds_of

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array
    from ...linalg.tasks import Canonical, LayerTasks


def _coordinates(parts: Sequence[Canonical]) -> tuple[Float64Array, list[Float64Array]]:
    """U (out, R), and ``Uᵀ wₜ Δₜ`` (R, columns) of every task."""
    from ...linalg.tasks import left_basis

    basis = left_basis(parts)[0]
    return basis, [(basis.T @ (part.u * part.s)) @ part.vt for part in parts]


def _entries(layer: LayerTasks) -> Callable[[], Iterable[Sequence[Float64Array]]]:
    from ...linalg.tasks import is_nothing

    parts = layer.canonical()
    found = [] if is_nothing(parts) else [_coordinates(parts)[1]]
    return lambda: found


def _merge(request: Request) -> Merged:
    from ...adapter import LowRank
    from ...linalg.consensus import elect, trim
    from ...linalg.tasks import is_nothing, zero

    layer = request.layer
    parts = layer.canonical()
    if is_nothing(parts):
        return Merged(zero(layer))
    basis, coordinates = _coordinates(parts)
    thresholds = thresholds_of(request, lambda: [coordinates])
    trimmed = [trim(one, threshold) for one, threshold in zip(coordinates, thresholds, strict=True)]
    return Merged(LowRank(basis, elect(trimmed, layer.weights), 1.0, layer.kernel))


METHOD = Method(
    "knots_ties",
    "TIES in the singular vectors that the adapters share (KnOTS)",
    _merge,
    parameters={"density": 0.5, "threshold": "global"},
    entries=_entries,
)
