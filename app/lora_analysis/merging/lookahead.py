"""Plain sums: one pass over the factors says how far the inputs agree, how large the sum is, and how to truncate it.

The writer asks for a layer's decomposition and then for its delta. Both come from here, so that the delta is calculated
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..adapter import Adapter, LowRank
from ..resizing.plan import LayerPlan
from .observations import Observation
from .storage import naming

if TYPE_CHECKING:
    from ..linalg.decomposition import Known
    from .factored import Run


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
        from ..linalg.sums import analyse_sum

        numbers, ranks = self._run.ahead[name]
        with naming(name):
            summed = self._adapter.layers[name].update()
        if not isinstance(summed, LowRank) or summed.up.dtype != "float32":
            return (None,)
        found = analyse_sum(summed, ranks, self._names[name])
        gram = found.inner_products if len(numbers) > 1 else None
        self._run.observations[name] = Observation(numbers, gram, 0.0)
        self._run.ready[name] = summed
        return (found.decomposition if self._names[name] is not None else found.grams,)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
