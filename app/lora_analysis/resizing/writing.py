"""Carry out a resize plan: stream the layers through the engine into a file, and report what was measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..formats.encoding import buffer_of
from ..formats.target import check_target
from ..formats.torch_writer import TORCH_SUFFIXES, write_torch
from ..formats.writer import WriteReport, write_safetensors
from ..linalg.streams import map_layers
from .calculation import Written, rewrite
from .plan import LayerPlan, ResizePlan, total_error

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..adapter import FloatArray

Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]
SUFFIXES = (".safetensors", *TORCH_SUFFIXES)


@dataclass(frozen=True, slots=True)
class ResizeReport:
    """What a resize did. Errors are relative to the norm of the old delta, and measured on what was stored."""

    plan: ResizePlan
    written: WriteReport
    layers: dict[str, LayerPlan]  # with norms and errors as measured
    relative_error: float | None  # of everything that changed, after rounding to the output's types
    relative_error_before_rounding: float | None

    def to_dict(self) -> dict[str, Any]:
        document = self.plan.to_dict()
        return {
            **document,
            "relative_error": self.relative_error,
            "relative_error_before_rounding": self.relative_error_before_rounding,
            "output": self.written.to_dict(),
            "layers": [layer.to_dict() for layer in self.layers.values()],
        }


def check_output(plan: ResizePlan, target: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse a target that cannot or must not be written, before any long work. Raises: OptionError, OutputError."""
    files = getattr(plan.adapter.source, "files", (plan.adapter.path,))
    check_target(target, files, overwrite=overwrite, suffixes=SUFFIXES)


def write_resize(
    plan: ResizePlan,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> ResizeReport:
    """Write the planned adapter to ``target``, whole or not at all. The input is not touched.

    Raises: OptionError, OutputError, NonFiniteError naming the layer, CancelledError.
    """
    check_output(plan, target, overwrite=overwrite)
    if not plan.changed:
        raise OptionError("no layer would change; every rank already satisfies the request")
    losses: dict[str, Written] = {}
    write = write_torch if Path(target).suffix.lower() in TORCH_SUFFIXES else write_safetensors
    chunks = _chunks(plan, losses, workers, cancel)
    written = write(
        target, plan.tensors, chunks, plan.metadata, overwrite=overwrite, progress=progress, cancel=cancel
    )  # fmt: skip
    layers = {name: _measured(layer, losses.get(name)) for name, layer in plan.layers.items()}
    after = total_error([(loss.error, loss.norm) for loss in losses.values()])
    before = total_error([(loss.error_before_rounding, loss.norm) for loss in losses.values()])
    return ResizeReport(plan, written, layers, after, before)


def _measured(layer: LayerPlan, loss: Written | None) -> LayerPlan:
    return layer if loss is None else replace(layer, norm=loss.norm, error=loss.error)


def _chunks(
    plan: ResizePlan, losses: dict[str, Written], workers: int | None, cancel: Cancel | None
) -> Iterator[Buffer]:
    """The bytes of every tensor of the output, in order. Changed layers are calculated ahead in threads.

    A layer's factors wait here from the first to the last; in files of the usual orders these are neighbours.
    """
    owner = {name: layer for layer in plan.changed for name in _factor_names(layer)}
    alphas = {layer.spelling.names.alpha: layer for layer in plan.changed if layer.spelling is not None}
    order = dict.fromkeys(owner[tensor.name].name for tensor in plan.tensors if tensor.name in owner)
    results = map_layers(partial(_calculate, plan), order, workers=workers, cancel=cancel)
    ready: dict[str, FloatArray] = {}
    with closing(results):
        for tensor in plan.tensors:
            if tensor.name in owner:
                while tensor.name not in ready:
                    name, result = next(results)
                    losses[name] = result._replace(arrays={})
                    ready.update(result.arrays)
                yield buffer_of(ready.pop(tensor.name))
            elif tensor.name in alphas:
                yield _alpha(alphas[tensor.name], tensor.shape)
            else:
                yield plan.adapter.source.raw(tensor.name)


def _factor_names(layer: LayerPlan) -> tuple[str, ...]:
    return layer.spelling.names[:2] if layer.spelling is not None else ()


def _alpha(layer: LayerPlan, shape: tuple[int, ...]) -> Buffer:
    import numpy as np

    return buffer_of(np.full(shape, layer.scale * (layer.new_rank or 1), np.float32))


def _calculate(plan: ResizePlan, name: str) -> tuple[str, Written]:
    return name, rewrite(plan.adapter.layers[name], plan.layers[name])
