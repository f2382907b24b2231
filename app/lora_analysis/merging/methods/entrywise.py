"""Methods on the entries of the true deltas: streamed by blocks of rows, the result brought to factors.

The merged delta has full rank. Its factors are those of the randomised range finder in ``linalg.sketch``, of the rank
asked for, or of the sum of the inputs' ranks; what they miss is measured and part of every reported error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from .method import Merged, Request, SizeRequest, Vectors
from .trimming import thresholds_of

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array
    from ...linalg.tasks import LayerTasks

Rows = Sequence["Float64Array"]  # weighted rows, one block per task
Combine = Callable[[Rows], "Float64Array"]
# Of the request, a stream of random numbers and a threshold per task: what merges a block of rows.
Prepare = Callable[["Rule"], Combine]


class Rule:
    """What a rule for rows knows: settings, weights, thresholds, and random numbers that start anew at each pass."""

    def __init__(self, request: Request, thresholds: Sequence[float]) -> None:
        from ...linalg.consensus import generator

        layer, settings = request.layer, request.settings
        self.settings = settings
        self.weights = layer.weights
        self.thresholds = thresholds
        self.random = [
            generator(settings.get("seed", 0), layer.name, layer.expert, task.number) for task in layer.tasks
        ]


def entries(layer: LayerTasks) -> Callable[[], Iterable[Rows]]:
    """Blocks of rows of every weighted delta."""
    from ...linalg.row_blocks import RowBlocks

    blocks = RowBlocks(layer)
    return lambda: (rows for _, rows in blocks)


def size(request: SizeRequest) -> int:
    """Some columns more than the rank asked for, which the truncation afterwards takes away."""
    from ...linalg.sketch import OVERSAMPLED

    wanted = sum(request.ranks) if request.asked is None else request.asked + OVERSAMPLED
    return min(wanted, request.limit)


def by_rows(prepare: Prepare, *, trims: bool) -> Callable[[Request], Merged]:
    """The merge of a layer by a rule for rows."""

    def merge(request: Request) -> Merged:
        from ...adapter import LowRank
        from ...linalg.consensus import generator
        from ...linalg.row_blocks import RowBlocks
        from ...linalg.sketch import sketch

        layer = request.layer
        blocks = RowBlocks(layer)
        found = thresholds_of(request, lambda: (rows for _, rows in blocks)) if trims else []
        stream = blocks.merged(lambda: prepare(Rule(request, found)))
        random = generator(request.settings.get("seed", 0), f"{layer.name} sketch", layer.expert, 0)
        made = sketch(stream, layer.shape, request.size, random)
        return Merged(LowRank(made.left, made.right, 1.0, layer.kernel), made.missing)

    return merge


def vectors_by_rows(prepare: Prepare, *, trims: bool) -> Callable[[Vectors], Float64Array]:
    """The same for vectors: a delta of one row, its threshold its own."""

    def merge(vectors: Vectors) -> Float64Array:
        import numpy as np

        from ...adapter import LowRank
        from ...linalg.tasks import LayerTasks, Task

        rows = [np.asarray(values, np.float64).reshape(1, -1) for values in vectors.values]
        tasks = [
            Task(number, weight, LowRank(np.ones((1, 1)), row))
            for number, weight, row in zip(vectors.numbers, vectors.weights, rows, strict=True)
        ]
        request = Request(LayerTasks(vectors.name, tuple(tasks)), vectors.settings, 1)
        weighted = [row * weight for row, weight in zip(rows, vectors.weights, strict=True)]
        found = thresholds_of(request, lambda: [weighted]) if trims else []
        return prepare(Rule(request, found))(weighted).reshape(vectors.values[0].shape)

    return merge
