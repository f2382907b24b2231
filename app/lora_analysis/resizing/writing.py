"""Carry out a resize plan: stream the layers through the engine into a file, and report what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..formats.adapter_output import OutputPlace, check_place, place_for, write_adapter
from ..formats.encoding import buffer_of
from ..formats.writer import WriteReport
from ..linalg.streams import map_layers
from .calculation import Written, norms_of, rewrite
from .plan import LayerPlan, ResizePlan, norms_in, relative
from .provenance import HISTORY_KEY, UNKNOWN_DIGEST, data_sha256, with_digest

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..adapter import Adapter, FloatArray
    from ..formats.digest_ahead import DigestAhead

Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]
Late = Callable[[Cancel], Mapping[str, str]]  # metadata that takes long, calculated until it is told to stop


@dataclass(frozen=True, slots=True)
class ResizeReport:
    """What a resize did. Errors are relative to the norm of the old delta, and measured on what was stored."""

    plan: ResizePlan
    written: WriteReport
    layers: dict[str, LayerPlan]  # with norms and errors as measured
    relative_error: float  # of all layers that have a delta, after rounding to the output's types
    relative_error_before_rounding: float

    def to_dict(self) -> dict[str, Any]:
        document = self.plan.to_dict()
        return {
            **document,
            "relative_error": self.relative_error,
            "relative_error_before_rounding": self.relative_error_before_rounding,
            "output": self.written.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers.values()],
        }


def check_target_for(adapter: Adapter, target: str | os.PathLike[str], *, overwrite: bool) -> OutputPlace:
    """Where a resized copy of ``adapter`` would be written. Raises: as ``check_output``."""
    place = place_for(target, dialect=adapter.dialect, has_config=adapter.config is not None)
    check_place(place, [adapter], overwrite=overwrite)
    return place


def check_output(plan: ResizePlan, target: str | os.PathLike[str], *, overwrite: bool) -> OutputPlace:
    """Where the plan would be written; refuses a target that cannot or must not be, before any long work.

    Raises: OptionError, OutputError; see ``formats/adapter_output.py``.
    """
    adapter = plan.adapter
    place = place_for(target, dialect=adapter.dialect, has_config=plan.config is not None)
    check_place(place, [adapter], overwrite=overwrite)
    if place.is_torch and (unstated := _needs_header(plan)) is not None:
        raise OptionError(
            f"{place.weights}: the scale of {unstated} stands in the header, and a PyTorch checkpoint has none; "
            "write safetensors"
        )
    return place


def write_resize(
    plan: ResizePlan,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    digest_ahead: DigestAhead | None = None,
    late: Late | None = None,
    with_hashes: bool = True,
) -> ResizeReport:
    """Write the planned adapter to ``target``, whole or not at all. The input is not touched.

    ``digest_ahead``: of the input, where its digest was begun before the plan. ``late``: the metadata to write in place
    of the plan's, which has to be as long; by default the plan's with the digest of the input. ``with_hashes``: whether
    the report states those of the output, which cost another look at every byte; the file is the same.

    Raises: OptionError, OutputError, NonFiniteError naming the layer, CancelledError.
    """
    place = check_output(plan, target, overwrite=overwrite)
    if not plan.changed:
        raise OptionError(f"{plan.adapter.path}: no layer would change; every rank already satisfies the request")
    losses: dict[str, Written] = {}  # of layers that change, and of those that stay and were not measured before
    chunks = _chunks(plan, losses, workers, cancel)
    with _meanwhile(late or _with_input_digest(plan, digest_ahead), cancel) as late_metadata:
        written = write_adapter(
            place, plan.tensors, chunks, plan.metadata, plan.config,
            overwrite=overwrite, with_hashes=with_hashes, late_metadata=late_metadata, progress=progress, cancel=cancel,
        )  # fmt: skip
    layers = {name: _measured(layer, losses.get(name)) for name, layer in plan.layers.items()}
    norms = norms_in(layers.values())
    after = relative((error for loss in losses.values() for error in (loss.error, loss.bias_error)), norms)
    before = relative((loss.error_before_rounding for loss in losses.values()), norms)
    return ResizeReport(plan, written, layers, after, before)


def _with_input_digest(plan: ResizePlan, ahead: DigestAhead | None) -> Late | None:
    """The plan's metadata with the digest of its input; None where no digest is missing."""
    if UNKNOWN_DIGEST not in plan.metadata.get(HISTORY_KEY, ""):
        return None
    return lambda stop: with_digest(plan.metadata, data_sha256(plan.adapter.source, stop, ahead))


@contextmanager
def _meanwhile(late: Late | None, cancel: Cancel | None) -> Iterator[Callable[[], Mapping[str, str]] | None]:
    """A thread that calculates metadata from now on, and what waits for it."""
    if late is None:
        yield None
        return
    stop = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as pool:  # waits: the caller closes the input afterwards
        metadata = pool.submit(late, lambda: stop.is_set() or (cancel is not None and cancel()))
        try:
            yield metadata.result
        finally:
            stop.set()


def _needs_header(plan: ResizePlan) -> str | None:
    """A layer whose scale only the header of the output says."""
    for name, layer in plan.layers.items():
        if layer.scale == 1.0 or plan.config is not None or plan.adapter.layers[name].opaque is not None:
            continue
        if layer.is_changed:
            states_it = layer.spelling is not None and layer.spelling.names.alpha is not None
        else:
            states_it = plan.adapter.layers[name].scale_origin != "header"
        if not states_it:
            return name
    return None


def _measured(layer: LayerPlan, loss: Written | None) -> LayerPlan:
    return layer if loss is None else replace(layer, norm=loss.norm, error=loss.error, bias_norm=loss.bias_norm)


def _chunks(
    plan: ResizePlan, losses: dict[str, Written], workers: int | None, cancel: Cancel | None
) -> Iterator[Buffer]:
    """The bytes of every tensor of the output, in order. Changed layers are calculated ahead in threads.

    A layer's factors wait here from the first to the last; in files of the usual orders these are neighbours.
    Layers that stay are measured in the same line, where the plan has not.
    """
    owner = {name: layer.name for layer in plan.changed for name in layer.calculated}
    measured = {tensor.name: layer.name for layer in _unmeasured(plan) for tensor in layer.tensors} | owner
    alphas = {layer.spelling.names.alpha: layer for layer in plan.changed if layer.spelling is not None}
    order = dict.fromkeys(measured[tensor.name] for tensor in plan.tensors if tensor.name in measured)
    results = map_layers(partial(_calculate, plan), order, workers=workers, cancel=cancel)
    ready: dict[str, FloatArray] = {}
    with closing(results):
        for tensor in plan.tensors:
            if tensor.name in owner:
                while tensor.name not in ready:
                    ready.update(_noted(losses, *next(results)))
                yield buffer_of(ready.pop(tensor.name))
            elif tensor.name in alphas:
                yield _alpha(alphas[tensor.name], tensor.shape)
            else:
                yield plan.adapter.source.raw(tensor.name)
        for rest in results:
            _noted(losses, *rest)


def _noted(losses: dict[str, Written], name: str, result: Written) -> dict[str, FloatArray]:
    losses[name] = result._replace(arrays={})
    return result.arrays


def _unmeasured(plan: ResizePlan) -> list[LayerPlan]:
    """Layers that stay as they are, and were not looked at by the plan."""
    return [layer for layer in plan.kept if layer.bias_norm is None]


def _alpha(layer: LayerPlan, shape: tuple[int, ...]) -> Buffer:
    import numpy as np

    return buffer_of(np.full(shape, layer.scale * (layer.new_rank or 1), np.float32))


def _calculate(plan: ResizePlan, name: str) -> tuple[str, Written]:
    layer, planned = plan.adapter.layers[name], plan.layers[name]
    if not planned.is_changed:
        norms = norms_of(layer)
        return name, Written({}, norms.delta, 0.0, 0.0, norms.bias)
    return name, rewrite(layer, planned, plan.decompositions.get(name))
