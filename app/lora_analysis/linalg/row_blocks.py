"""Weighted deltas as blocks of rows: what entry-wise methods read, never a whole dense matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .dense import unfold
from .finite import require_finite
from .floats import Float64Array, widen
from .tasks import LayerTasks

BLOCK_VALUES = 1 << 19  # 4 MB of float64 per task and block


class RowBlocks:
    """The rows of every ``wₜ Δₜ``, some at a time; iterating again gives the same numbers, to the last bit."""

    def __init__(self, layer: LayerTasks) -> None:
        self.shape = layer.shape
        self._ups = [widen(task.delta.up) * (task.weight * task.delta.scale) for task in layer.tasks]
        self._downs = [unfold(task.delta) for task in layer.tasks]
        for up, down in zip(self._ups, self._downs, strict=True):
            require_finite("up", up)
            require_finite("down", down)

    def __iter__(self) -> Iterator[tuple[int, list[Float64Array]]]:
        rows, columns = self.shape
        height = max(1, BLOCK_VALUES // columns)
        for start in range(0, rows, height):
            yield start, [up[start : start + height] @ down for up, down in zip(self._ups, self._downs, strict=True)]

    def merged(
        self, prepare: Callable[[], Callable[[Sequence[Float64Array]], Float64Array]]
    ) -> Callable[[], Iterator[tuple[int, Float64Array]]]:
        """The stream of merged rows. ``prepare`` is called once per pass, as random numbers start anew."""

        def stream() -> Iterator[tuple[int, Float64Array]]:
            merge = prepare()
            for start, blocks in self:
                yield start, np.asarray(merge(blocks))

        return stream
