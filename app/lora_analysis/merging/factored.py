"""Merged layers that are products of factors: all of a matrix but what is kept as a difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from ..adapter import Layer, LowRank, Stacked
from ..formats.spelling import Spelling, spelling_of
from ..resizing.plan import rank_limit
from .inputs import Share
from .meeting import Home
from .methods.method import Merged, Request, SizeRequest
from .observations import Observation
from .options import MergeOptions
from .thresholds import Thresholds
from .with_base import KIND

if TYPE_CHECKING:
    from ..linalg.tasks import LayerTasks

_NARROW = frozenset({"F16", "BF16", "F8_E4M3", "F8_E5M2"})  # float32 is as good as exact beside their rounding
_PLAIN_ROLES = frozenset({"down", "up", "alpha", "up_bias", "bias"})


class Ahead(NamedTuple):
    """A layer that may be summed in float32: truncated, or stored in a type of 16 bits or fewer."""

    inputs: tuple[int, ...]
    ranks: tuple[int, ...]  # of the inputs' deltas


@dataclass(slots=True, eq=False)
class Run:
    """One merge while it is planned and carried out: the options, and what comes to light on the way."""

    options: MergeOptions
    thresholds: Thresholds
    observations: dict[str, Observation]  # filled when a layer's values are calculated
    # For ``lookahead.py``: the layers that may be summed in float32, and sums that wait.
    ahead: dict[str, Ahead] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)  # of these, the layers that are stored without truncation
    in_float32: bool = False  # whoever reads the layers now takes sums in float32
    ready: dict[str, LowRank] = field(default_factory=dict)

    @contextmanager
    def reading_in_float32(self) -> Iterator[None]:
        """Layers that may be summed in float32 are, inside."""
        self.in_float32 = True
        try:
            yield
        finally:
            self.in_float32 = False


def merged_factors(
    shares: Sequence[Share], dialect: str, stored: str, run: Run, where: Home | None = None
) -> tuple[Layer, Spelling, tuple[int, ...]]:
    """A layer whose update is the merged delta, the spelling of its factors, and the ranks of the inputs' deltas.

    ``dialect``: the output's; ``stored``: the type of the factors there; ``where``: the layer's name and neighbours
    where no input in it has the layer.
    """
    spelling, home = _spelling(shares, dialect, where)
    shape = home.shape or () if where is not None else _shape(shares)
    ranks = tuple(sum(map(_rank, own)) for _, own in groupby(shares, key=lambda share: share.input))
    down, up, alpha = spelling.names
    kernel = () if home.experts else shape[2:]
    size = _size(run.options, ranks, home, shape)
    layer = Layer(
        name=home.name,
        kind="lora",
        keys={"down": down, "up": up} | ({"alpha": alpha} if alpha else {}),
        shape=shape,
        rank=size,
        alpha=float(size),
        component=home.component,
        experts=home.experts,
        base_transposed=home.base_transposed,
        reshape=home.reshape,
        load=partial(_load, home.name, shares, kernel, size, run),
    )
    if run.options.how.entries is not None and not _is_left_alone(run.options, len(ranks)):
        numbers = dict.fromkeys(share.input for share in shares)
        run.thresholds.expect(home.name, numbers, partial(tasks_of, home.name, shares, kernel))
    is_truncated = run.options.truncation is not None or run.options.how.rank == "largest"
    if run.options.is_plain_sum and not home.experts and (is_truncated or stored in _NARROW):
        numbers_held = tuple(dict.fromkeys(share.input for share in shares))
        run.ahead[home.name] = Ahead(numbers_held, ranks)
    return layer, spelling, ranks


def _shape(shares: Sequence[Share]) -> tuple[int, ...]:
    return max((share.shape for share in shares), key=len)


def _size(options: MergeOptions, ranks: Sequence[int], layer: Layer, shape: tuple[int, ...]) -> int:
    """The rank that the layer is announced with."""
    if _is_left_alone(options, len(ranks)):
        return sum(ranks)
    choice = None if options.truncation is None else options.truncation.choice_for(layer)
    asked = int(choice.value) if choice is not None and choice.rule == "fixed" else None
    out, *columns = shape[1:] if layer.experts else shape
    return options.how.size(SizeRequest(ranks, min(out, prod(columns)), asked))


def _is_left_alone(options: MergeOptions, inputs: int) -> bool:
    """Whether a layer is ``w Δ`` whatever the method: only one input holds it."""
    return inputs == 1 and options.how.alone == "kept"


def _rank(share: Share) -> int:
    """The rank of a share's factors. Nearly always the header says it; of other kinds the values are read."""
    from ..linalg.combine import factored_rank

    if share.layer.kind == KIND:  # of full rank; only the base weight would say more
        return rank_limit(share.layer)
    infos = share.infos()
    if infos.keys() <= _PLAIN_ROLES and "up" in infos and not share.layer.experts:
        return infos["down"].shape[0]
    return factored_rank(share.layer.update())


def _spelling(shares: Sequence[Share], dialect: str, where: Home | None) -> tuple[Spelling, Layer]:
    """The names that a holder gives: rather one that speaks the output's dialect, rather one with plain factors."""
    if where is not None:
        adapter = where.adapter
        spelled = spelling_of(where.layer, adapter.dialect, adapter.layers, adapter.source.tensors)
        return spelled, where.layer
    found = []
    for position, share in enumerate(shares):
        if share.moves:
            continue
        adapter = share.adapter
        spelling = spelling_of(share.layer, adapter.dialect, adapter.layers, adapter.source.tensors)
        found.append((adapter.dialect != dialect, spelling.is_new, share.input, position, spelling, share.layer))
    return min(found, key=lambda item: item[:4])[4:6]


# -- values ------------------------------------------------------------------------------------------


def _load(name: str, shares: Sequence[Share], kernel: tuple[int, ...], size: int, run: Run) -> LowRank | Stacked:
    """The merged delta. What is seen on the way goes into the run's observations."""
    waiting = run.ready.pop(name, None)
    if waiting is not None:
        return waiting
    layers = tasks_of(name, shares, kernel)
    if name in run.ahead and run.in_float32:
        summed = _float32_sum(layers[0], run.options.settings["lambda"], balanced=name in run.whole)
        if summed is not None:
            return summed
    made = [_merge(layer, size, run) for layer in layers]
    run.observations[name] = _observed(layers, made)
    if not any(share.layer.experts for share in shares):
        return made[0].factors
    return Stacked(tuple(_of_rank(one.factors, max(part.factors.rank for part in made)) for one in made))


def _merge(layer: LayerTasks, size: int, run: Run) -> Merged:
    from .steps import merge_matrix

    options = run.options
    if _is_left_alone(options, len(layer.tasks)):
        from .methods.sums import plain_sum

        return plain_sum(Request(layer, options.settings, size))
    return merge_matrix(options.how, Request(layer, options.settings, size, run.thresholds.by_input))


def _float32_sum(layer: LayerTasks, factor: float, *, balanced: bool) -> LowRank | None:
    from ..linalg.combine import Term
    from ..linalg.sums import float32_sum

    return float32_sum(
        [Term(factor * task.weight, task.delta) for task in layer.tasks], layer.kernel, balanced=balanced
    )


def tasks_of(name: str, shares: Sequence[Share], kernel: tuple[int, ...]) -> list[LayerTasks]:
    """The inputs' deltas, one entry per expert, else one."""
    from ..linalg.products import factors
    from ..linalg.tasks import LayerTasks, Task

    found: list[list[Task]] = []
    for number, own in groupby(shares, key=lambda share: share.input):
        pieces = list(own)
        updates = [share.layer.update() for share in pieces]
        parts = [update.parts if isinstance(update, Stacked) else (factors(update),) for update in updates]
        found = found or [[] for _ in parts[0]]
        for expert, tasks in enumerate(found):
            weight, delta = _joined(pieces, [part[expert] for part in parts])
            tasks.append(Task(number, weight, delta))
    return [LayerTasks(name, tuple(tasks), kernel, expert) for expert, tasks in enumerate(found)]


def _joined(pieces: Sequence[Share], deltas: Sequence[LowRank]) -> tuple[float, LowRank]:
    """One input's weight and delta. Of several pieces, e.g. q, k and v of a fused weight, the weights go inside."""
    from ..linalg.combine import Term, weighted_sum
    from ..linalg.rows import move_rows

    if len(pieces) == 1 and not pieces[0].moves:
        return pieces[0].weight, deltas[0]
    moved = [
        move_rows(delta, share.moves, share.rows) if share.moves else delta
        for share, delta in zip(pieces, deltas, strict=True)
    ]
    weight = max((share.weight for share in pieces), key=abs)
    joined = weighted_sum([Term(share.weight / weight, one) for share, one in zip(pieces, moved, strict=True)])
    assert isinstance(joined, LowRank)  # experts are never fused
    return weight, joined


def _observed(layers: Sequence[LayerTasks], made: Sequence[Merged]) -> Observation:
    """Experts count together, as one long delta."""
    from math import hypot

    import numpy as np

    from ..linalg.coefficients import inner_products

    numbers = tuple(task.number for task in layers[0].tasks)
    gram = None
    if len(numbers) > 1:
        weights = [np.array([task.weight for task in layer.tasks]) for layer in layers]
        grams = [inner_products([task.delta for task in layer.tasks]) for layer in layers]
        gram = sum(
            (np.outer(own, own) * one for own, one in zip(weights, grams, strict=True)), np.zeros(grams[0].shape)
        )
    return Observation(numbers, gram, hypot(*(one.missing for one in made)))


def _of_rank(part: LowRank, rank: int) -> LowRank:
    """Padded with zeros: the experts of one weight share a rank."""
    import numpy as np

    extra = rank - part.rank
    if not extra:
        return part
    up, down = np.pad(part.up, ((0, 0), (0, extra))), np.pad(part.down, ((0, extra), (0, 0)))
    return LowRank(up, down, part.scale, part.kernel)
