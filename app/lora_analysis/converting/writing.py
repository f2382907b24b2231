"""Carry out a conversion plan, open what was written, and measure how far its deltas are from the input's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..formats.adapter_output import OutputPlace, check_place, place_for, write_adapter
from ..formats.encoding import buffer_of
from ..formats.writer import WriteReport
from ..linalg.streams import map_layers
from ..resizing.provenance import data_sha256, with_digest
from .building import Built, built
from .measuring import Measured, measure
from .plan import ConvertPlan, LayerPlan, Stored

if TYPE_CHECKING:
    from typing_extensions import Buffer

Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class ConvertReport:
    """What a conversion did, with the difference of all deltas as measured on the written file."""

    plan: ConvertPlan
    written: WriteReport
    measured: Measured

    @property
    def relative_error(self) -> float:
        return self.measured.relative_error

    def to_dict(self) -> dict[str, Any]:
        return {**self.plan.to_dict(), **self.measured.to_dict(), "output": self.written.to_dict()}


def check_convert_output(plan: ConvertPlan, target: str | os.PathLike[str], *, overwrite: bool) -> OutputPlace:
    """Where the plan would be written; refuses a target that cannot or must not be, before any long work.

    Raises: OptionError, OutputError.
    """
    place = place_for(target, dialect=plan.options.to, has_config=plan.config is not None)
    check_place(place, [plan.adapter], overwrite=overwrite)
    if place.is_torch and plan.options.to == "diffusers":
        raise OptionError(f"{place.weights}: diffusers reads alphas from a header, and a PyTorch checkpoint has none")
    return place


def write_conversion(
    plan: ConvertPlan,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    with_hashes: bool = True,
) -> ConvertReport:
    """Write the planned adapter, whole or not at all, and compare it with the input, layer by layer.

    ``with_hashes``: as for ``write_resize``.

    Raises: OptionError, OutputError, NonFiniteError naming the layer, CancelledError.
    """
    place = check_convert_output(plan, target, overwrite=overwrite)
    source = plan.adapter.source
    metadata = with_digest(plan.metadata, data_sha256(source, cancel or (lambda: False)))
    tensors = [one.tensor for one in plan.tensors]
    written = write_adapter(
        place, tensors, _chunks(plan, workers, cancel), metadata, plan.config,
        overwrite=overwrite, with_hashes=with_hashes, progress=progress, cancel=cancel,
    )  # fmt: skip
    return ConvertReport(plan, written, measure(plan, place.weights, workers=workers, cancel=cancel))


def _chunks(plan: ConvertPlan, workers: int | None, cancel: Cancel | None) -> Iterator[Buffer]:
    """The bytes of every tensor of the output, in order. Layers are calculated ahead in threads."""
    owners = {one.tensor.name: layer for layer in plan.layers.values() for one in layer.tensors if one.role}
    order = {owners[one.tensor.name].name: owners[one.tensor.name] for one in plan.tensors if one.role}
    results = map_layers(_named, order.values(), workers=workers, cancel=cancel)
    ready: dict[str, Built] = {}
    with closing(results):
        for one in plan.tensors:
            if one.raw is not None:
                yield plan.adapter.source.raw(one.raw)
            elif one.value is not None:
                yield _number(one)
            else:
                name = owners[one.tensor.name].name
                while name not in ready:
                    made, arrays = next(results)
                    ready[made] = arrays
                yield buffer_of(ready[name].arrays.pop(one.role))


def _named(layer: LayerPlan) -> tuple[str, Built]:
    return layer.name, built(layer)


def _number(one: Stored) -> Buffer:
    import numpy as np

    return buffer_of(np.full(one.tensor.shape, one.value, np.float32))
