"""Carry out a merge plan: stream the layers through the engine, hash the inputs meanwhile, report what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from math import hypot
from typing import Any, NamedTuple

from ..formats.adapter_output import OutputPlace
from ..formats.digest_ahead import DigestAhead
from ..formats.writer import WriteReport
from ..linalg.streams import map_layers
from ..resizing.plan import LayerPlan, norms_in, relative, total_error
from ..resizing.provenance import data_sha256
from ..resizing.writing import Late, ResizeReport, check_output, write_resize
from .elements import measure_rounding
from .header import output_metadata
from .lookahead import Lookahead
from .observations import with_missing
from .plan import MergePlan
from .summed import SummedLayer

Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class MergeReport:
    """What a merge did. Errors are relative to the norm of the exact sum, and measured on what was stored."""

    plan: MergePlan
    written: WriteReport
    layers: dict[str, LayerPlan]  # with norms and errors as measured
    relative_error: float  # of all layers together, truncation and rounding
    relative_error_before_rounding: float  # truncation alone

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.plan.to_dict(),
            "notes": list(self.plan.notes_on(self.layers)),
            "relative_error": self.relative_error,
            "relative_error_before_rounding": self.relative_error_before_rounding,
            "output": self.written.to_dict(),
            "layers": [self.plan.layer_to_dict(layer) for layer in self.layers.values()],
        }


def check_merge_output(plan: MergePlan, target: str | os.PathLike[str], *, overwrite: bool) -> OutputPlace:
    """Where the plan would be written; refuses a target that cannot or must not be.

    Raises: OptionError, OutputError.
    """
    return check_output(plan.rewriting, target, overwrite=overwrite)


def write_merge(
    plan: MergePlan,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    digests_ahead: Sequence[DigestAhead] = (),
    with_hashes: bool = True,
) -> MergeReport:
    """Write the planned sum to ``target``, whole or not at all. The inputs are not touched, and must still be open.

    ``digests_ahead``: of the inputs in their order, where their digests were begun before the plan. ``with_hashes``: as
    for ``write_resize``.

    Raises: OptionError, OutputError, NonFiniteError naming the layer, CancelledError.
    """
    check_merge_output(plan, target, overwrite=overwrite)
    plan.run.thresholds.find(workers=workers, cancel=cancel)
    ahead = Lookahead(plan.rewriting.adapter, plan.rewriting.layers, plan.run)
    with plan.run.reading_in_float32():
        done = write_resize(
            replace(plan.rewriting, decompositions=ahead),
            target,
            overwrite=overwrite,
            workers=workers,
            progress=progress,
            cancel=cancel,
            late=_with_digests(plan, digests_ahead),
            with_hashes=with_hashes,
        )
    seen = plan.run.observations
    factored = {name: with_missing(layer, seen.get(name)) for name, layer in done.layers.items()}
    vectors = dict(_measured_vectors(plan, workers, cancel))
    layers = {name: vectors[name].of(layer) if name in vectors else layer for name, layer in factored.items()}
    error = _with_biases(total_error(layers.values()), vectors.values(), layers)
    return MergeReport(plan, done.written, layers, error, _before_rounding(done, layers, plan))


def _with_digests(plan: MergePlan, ahead: Sequence[DigestAhead]) -> Late:
    """The output's metadata with the digests of the inputs, which are hashed while layers are calculated."""
    sources = [item.adapter.source for item in plan.inputs]

    def metadata(stop: Cancel) -> Mapping[str, str]:
        digests = [data_sha256(source, stop, begun) for source, begun in zip_longest(sources, ahead)]
        return output_metadata(plan.inputs, plan.options, plan.layers, digests)

    return metadata


def _before_rounding(done: ResizeReport, layers: Mapping[str, LayerPlan], plan: MergePlan) -> float:
    """Truncation, and what the factors left out before it, relative to the whole merged delta."""
    missing = [found.missing for found in plan.run.observations.values()]
    whole = hypot(*norms_in(done.layers.values()))
    return relative([done.relative_error_before_rounding * whole, *missing], norms_in(layers.values()))


class _Measured(NamedTuple):
    """What is summed element by element in a layer, with what rounding did: a delta without factors, and the bias."""

    delta: tuple[float, float] | None  # norm and error
    bias_norm: float
    bias_error: float

    def of(self, layer: LayerPlan) -> LayerPlan:
        if self.delta is None:
            return replace(layer, bias_norm=self.bias_norm)
        norm, error = self.delta
        return replace(layer, norm=norm, error=error, bias_norm=self.bias_norm)


def _with_biases(error: float | None, vectors: Iterable[_Measured], layers: Mapping[str, LayerPlan]) -> float:
    """The relative error of all deltas, and what rounding did to the biases beside them."""
    assert error is not None  # every layer was measured
    norms = norms_in(layers.values())
    return relative([error * hypot(*norms), *(one.bias_error for one in vectors)], norms)


def _measured_vectors(plan: MergePlan, workers: int | None, cancel: Cancel | None) -> Iterator[tuple[str, _Measured]]:
    def measure(made: SummedLayer) -> tuple[str, _Measured]:
        layer, bias = made.layer, made.layer.bias()
        delta = None if made.spelling is not None else measure_rounding(layer.update(), made.dtype)
        return layer.name, _Measured(delta, *(measure_rounding(bias, made.dtype) if bias is not None else (0.0, 0.0)))

    held = (made for made in plan.sums.values() if made.spelling is None or made.layer.load_bias is not None)
    return map_layers(measure, held, workers=workers, cancel=cancel)
