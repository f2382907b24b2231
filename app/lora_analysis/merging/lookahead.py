"""Plain sums: one pass over the factors says how far the inputs agree, how large the sum is, and how to truncate it.

The writer asks for a layer's decomposition and then for its delta. Both come from here, so that the delta is calculated
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..adapter import Adapter, Layer, LowRank, Update
from ..resizing.plan import LayerPlan
from .observations import Observation
from .storage import naming

if TYPE_CHECKING:
    from ..linalg.decomposition import Known
    from ..linalg.sums import SumAnalysis
    from .factored import Run


def analysed(layer: Layer, run: Run, kept: int | None) -> tuple[Update, SumAnalysis | None]:
    """The delta of a layer that may be summed in float32, and what its Gram matrices tell; None where it is not.

    What is seen of the inputs goes into the run's observations either way. ``kept``: as for ``analyse_sum``.
    """
    from ..linalg.sums import analyse_sum

    with naming(layer.name):
        summed = layer.update()
    if layer.name not in run.ahead or not isinstance(summed, LowRank) or summed.up.dtype != "float32":
        return summed, None
    numbers, ranks = run.ahead[layer.name]
    found = analyse_sum(summed, ranks, kept)
    run.observations[layer.name] = Observation(numbers, found.inner_products if len(numbers) > 1 else None, 0.0)
    return summed, found


class Lookahead(Mapping[str, "Known"]):
    """What is known of the layers of a plan, calculated when it is asked for."""

    def __init__(self, adapter: Adapter, layers: Mapping[str, LayerPlan], run: Run) -> None:
        self._adapter = adapter
        self._run = run
        self._names = {  # components wanted of the sum; None for the whole of it
            name: (plan.new_rank or 1) if plan.action == "truncate" else None
            for name, plan in layers.items()
            if name in run.ahead and plan.is_changed
        }
        run.whole.update(name for name, kept in self._names.items() if kept is None)

    def __getitem__(self, name: str) -> Known:
        if name not in self._names:
            raise KeyError(name)
        kept = self._names[name]
        summed, found = analysed(self._adapter.layers[name], self._run, kept)
        if found is None:
            return (None,)
        assert isinstance(summed, LowRank)  # nothing else is analysed
        self._run.ready[name] = summed
        return (found.grams if kept is None else found.decomposition,)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
