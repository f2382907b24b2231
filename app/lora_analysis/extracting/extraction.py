"""Carry out an extraction: norms and spectra first, then factors streamed into a file, each measured as stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..adapter import FloatArray
from ..errors import OptionError
from ..formats.adapter_output import OutputPlace, check_place, place_for, write_adapter
from ..formats.checkpoint import Checkpoint
from ..formats.encoding import buffer_of, encode
from ..formats.layout import predicted_size
from ..formats.target import check_target
from ..linalg.floats import Float64Array, widen
from ..linalg.streams import map_layers, out_of
from .options import ExtractOptions
from .plan import Contents, ExtractPlan, contents
from .ranks import Spectrum, ranks_of
from .sketch import norm_of, sketch
from .units import Found, Unit

if TYPE_CHECKING:
    from typing_extensions import Buffer

Progress = Callable[[int, int], None]  # bytes written, bytes in all
Cancel = Callable[[], bool]
_BLOCK_VALUES = 1 << 22


class LayerError(NamedTuple):
    """Of one layer, as stored: ``error`` and ``norm`` in the Frobenius norm."""

    rank: int | None
    error: float
    norm: float


@dataclass(frozen=True, slots=True, eq=False)
class ExtractReport:
    """What was extracted. Errors are measured on the stored factors against the exact difference."""

    options: ExtractOptions
    found: Found
    path: str
    size: int
    layers: Mapping[str, LayerError]
    unchanged: int  # weights that are equal in both checkpoints
    tuned: str = ""
    base: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def relative_error(self) -> float:
        """``‖Δ − stored‖ / ‖Δ‖`` over all extracted layers together."""
        norm = sum(one.norm**2 for one in self.layers.values())
        return sqrt(sum(one.error**2 for one in self.layers.values()) / norm) if norm else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "operation": "extract",
            "options": self.options.to_dict(),
            "tuned": self.tuned,
            "base": self.base,
            "base_model": self.found.family,
            "layers_extracted": len(self.layers),
            "unchanged": self.unchanged,
            "relative_error": self.relative_error,
            "skipped": [{"name": name, "reason": reason} for name, reason in self.found.skipped.items()],
            "output": {"path": self.path, "size": self.size},
            "notes": list(self.notes),
            "layers": [
                {"layer": name, "rank": one.rank, "relative_error": one.error / one.norm if one.norm else 0.0}
                for name, one in self.layers.items()
            ],
        }


def check_extract_output(plan: ExtractPlan, target: str | os.PathLike[str], *, overwrite: bool) -> OutputPlace:
    """Where the adapter would be written. Raises: OptionError, OutputError."""
    to = plan.options.to
    place = place_for(target, dialect=to, has_config=to == "peft")
    check_place(place, (), overwrite=overwrite)
    inputs = [file for checkpoint in (plan.tuned, plan.base) for file in checkpoint.files]
    if not place.is_new_folder:
        check_target(place.weights, inputs, overwrite=overwrite, suffixes=())
    if place.is_torch:
        raise OptionError(f"{place.weights}: an extracted adapter is written as safetensors")
    return place


def write_extraction(
    plan: ExtractPlan,
    place: OutputPlace,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    compared: Progress | None = None,
    cancel: Cancel | None = None,
) -> ExtractReport:
    """Write the adapter, whole or not at all. Differences are read twice; ``compared`` counts weights the first time.

    Raises: OptionError where nothing differs or a size is too small; NonFiniteError, OutputError, CancelledError.
    """
    run, found, options = _Run(plan.tuned, plan.base, plan.options), plan.found, plan.options
    tuned, base = plan.tuned, plan.base
    units = {unit.name: unit for unit in found.units}
    looked = out_of(len(units), compared)
    spectra = dict(map_layers(run.spectrum, units.values(), workers=workers, progress=looked, cancel=cancel))
    changed = {name: unit for name, unit in units.items() if spectra[name].norm}
    if not changed:
        raise OptionError(f"{tuned.path} and {base.path} are equal in every weight; there is nothing to extract")
    matrices = {name: unit for name, unit in changed.items() if not unit.is_vector}
    made = _chosen(plan, changed, matrices, {name: spectra[name] for name in matrices})
    errors: dict[str, LayerError] = {}
    written = write_adapter(
        place, [one.tensor for one in made.tensors], _chunks(run, made, errors, workers, cancel), made.metadata,
        made.config, overwrite=overwrite, progress=progress, cancel=cancel,
    )  # fmt: skip
    notes = _notes(made, matrices, spectra, options)
    layers = {name: errors[name] for name in changed}
    return ExtractReport(
        options, found, written.path, written.size, layers, len(units) - len(changed),
        os.fspath(tuned.path), os.fspath(base.path), tuple(notes),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    tuned: Checkpoint
    base: Checkpoint
    options: ExtractOptions

    def spectrum(self, unit: Unit) -> tuple[str, Spectrum]:
        """Norm, and the singular values where ranks depend on them."""
        delta = unit.delta(self.tuned, self.base)
        if unit.is_vector or self.options.rank is not None or not delta.any():
            return unit.name, Spectrum(np.zeros(0), norm_of(delta, unit.name))
        made = sketch(
            delta, min(self.options.limit, unit.limit), seed=self.options.seed, power=self.options.power, name=unit.name
        )
        return unit.name, Spectrum(made.singular_values, made.norm)

    def factors(self, unit: Unit, rank: int, dtype: str) -> tuple[FloatArray, FloatArray, LayerError]:
        """Stored down and up, and their measured error."""
        delta = unit.delta(self.tuned, self.base)
        made = sketch(delta, rank, seed=self.options.seed, power=self.options.power, name=unit.name)
        up, down = encode(made.up, dtype, unit.name), encode(made.down, dtype, unit.name)
        return down, up, LayerError(rank, _distance(delta, up, down), made.norm)


def _distance(delta: Float64Array, up: FloatArray, down: FloatArray) -> float:
    """``‖delta - up down‖`` by blocks of rows."""
    wide = widen(down)
    step = max(_BLOCK_VALUES // max(delta.shape[1], 1), 1)
    squares = 0.0
    for start in range(0, len(delta), step):
        rest = delta[start : start + step] - widen(up[start : start + step]) @ wide
        squares += float(np.sum(rest**2))
    return sqrt(squares)


def _chosen(
    plan: ExtractPlan, changed: Mapping[str, Unit], matrices: Mapping[str, Unit], spectra: Mapping[str, Spectrum]
) -> Contents:
    """Raises: OptionError where not even rank 1 of every layer fits the size."""
    options = plan.options
    smallest = contents(plan, changed, dict.fromkeys(matrices, 1))
    room = 0
    if options.size is not None:
        # Everything but factors, and as many digits more as larger ranks and offsets can need.
        fixed = predicted_size([one.tensor for one in smallest.tensors], smallest.metadata) + 64 * len(smallest.tensors)
        factors = sum(one.tensor.nbytes for one in smallest.tensors if one.role)
        room = options.size - (fixed - factors)
        if room < factors:
            raise OptionError(f"rank 1 of every layer already takes {fixed:,} bytes; {options.size:,} were asked for")
    return contents(plan, changed, ranks_of(matrices, spectra, options, room))


def _chunks(
    run: _Run, made: Contents, errors: dict[str, LayerError], workers: int | None, cancel: Cancel | None
) -> Iterator[Buffer]:
    owners = {one.tensor.name: name for name, layer in made.layers.items() for one in layer.tensors if one.role}
    order = dict.fromkeys(owners[one.tensor.name] for one in made.tensors if one.role)

    def calculate(name: str) -> tuple[str, dict[str, FloatArray], LayerError]:
        unit, layer = made.units[name], made.layers[name]
        dtype = layer.tensors[0].tensor.dtype
        if layer.rank is None:
            delta = unit.delta(run.tuned, run.base)
            stored = encode(delta, dtype, name)
            error = LayerError(None, float(np.linalg.norm(widen(stored) - delta)), norm_of(delta, name))
            return name, {"bias": stored}, error
        down, up, error = run.factors(unit, layer.rank, dtype)
        return name, {"down": down, "up": up}, error

    results = map_layers(calculate, order, workers=workers, cancel=cancel)
    ready: dict[str, dict[str, FloatArray]] = {}
    with closing(results):
        for one in made.tensors:
            if one.value is not None:
                yield buffer_of(np.full(one.tensor.shape, one.value, np.float32))
                continue
            name = owners[one.tensor.name]
            while name not in ready:
                done, arrays, error = next(results)
                ready[done], errors[done] = arrays, error
            yield buffer_of(ready[name].pop(one.role))


def _notes(
    made: Contents, matrices: Mapping[str, Unit], spectra: Mapping[str, Spectrum], options: ExtractOptions
) -> Iterator[str]:
    if options.rank is not None:
        return
    capped = [n for n in matrices if made.layers[n].rank == options.limit < matrices[n].limit]
    if capped:
        yield f"{len(capped)} layers reached the largest rank allowed, {options.limit}; --max-rank allows more"
    total = sum(spectra[name].norm ** 2 for name in matrices)
    kept = sum(float(np.sum(spectra[n].values[: made.layers[n].rank] ** 2)) for n in matrices)
    if options.error is not None and 1 - kept / total > options.error**2:
        yield f"the error asked for, {options.error:g}, is not reached within rank {options.limit}"
