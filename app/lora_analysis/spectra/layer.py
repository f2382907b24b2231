"""One layer's spectra, or the reason why it has none. Loads numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import hypot, sqrt
from typing import NamedTuple

import numpy as np

from ..adapter import VECTOR_KINDS, Dense, Finding, Hadamard, Kronecker, Layer, LowRank, Opaque, Stacked, Vector
from ..errors import FormatError, NonFiniteError, OpaqueUpdateError, ShapeError
from ..formats.blocks import block_of
from ..formats.roles import role_of, stage_of
from ..linalg.factor_spectrum import Begun, FactorSizes, Measured, begin, finish
from ..linalg.floors import plateau, rounding_floor
from ..linalg.inner import matrix_shape
from ..linalg.products import frobenius_norm
from ..linalg.spectrum import summarise
from .values import LayerSpectrum, SkippedLayer

Matrix = LowRank | Dense | Hadamard | Kronecker
Outcome = tuple[LayerSpectrum, ...] | SkippedLayer

# What is wrong with one layer. Anything else, a file that is gone or a request to stop, concerns the whole.
_LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


def read_spectra(errors: Mapping[str, Finding], layers: Sequence[Layer]) -> list[Outcome]:
    """The spectrum of each layer, of each expert where it stacks several, or why there is none.

    ``errors``: by layer, what opening the file already found wrong. Such a layer is not read. The layers given are in
    memory together.
    Raises: FileAccessError where the file cannot be read any more.
    """
    begun = [_begin(errors.get(layer.name), layer) for layer in layers]
    measures = iter(finish([part.begun for one in begun if not isinstance(one, SkippedLayer) for part in one]))
    return [
        one if isinstance(one, SkippedLayer) else _finish(layer, one, [next(measures) for _ in one])
        for layer, one in zip(layers, begun, strict=True)
    ]


def vector_norm(layer: Layer) -> float | SkippedLayer:
    """Norm of what a layer adds to vectors: itself where it is one, and the bias beside its weight.

    Or why it has none: values that are no numbers. What else is wrong with a layer ``read_spectra`` has said.
    Raises: FileAccessError where the file cannot be read any more.
    """
    try:
        own = layer.update() if layer.kind in VECTOR_KINDS and layer.opaque is None else None
        return hypot(*(frobenius_norm(vector) for vector in (own, layer.bias()) if vector is not None))
    except NonFiniteError as error:
        return SkippedLayer(layer.name, error.code, f"of the vector or bias: {error.message}", is_error=True)
    except _LAYER_ERRORS:
        return 0.0


class _Part(NamedTuple):
    begun: Begun
    expert: int | None = None


def _begin(stated: Finding | None, layer: Layer) -> list[_Part] | SkippedLayer:
    if stated is not None:
        return SkippedLayer(layer.name, stated.code, stated.message, is_error=True)
    if layer.opaque is not None:
        return SkippedLayer(layer.name, "opaque", layer.opaque, is_error=False)
    try:
        update = layer.update()
        match update:
            case Vector():
                return SkippedLayer(layer.name, "vector", f"a {layer.kind} difference is no matrix", is_error=False)
            case Opaque():
                return SkippedLayer(layer.name, "opaque", update.reason, is_error=False)
            case Stacked():
                return [_Part(begin(part), expert) for expert, part in enumerate(update.parts)]
            case _:
                return [_Part(begin(update))]
    except _LAYER_ERRORS as error:
        return SkippedLayer(layer.name, error.code, error.message, is_error=True)


def _finish(layer: Layer, parts: Sequence[_Part], measures: Sequence[Callable[[], Measured]]) -> Outcome:
    try:
        return tuple(_of_matrix(layer, part, measure()) for part, measure in zip(parts, measures, strict=True))
    except _LAYER_ERRORS as error:
        return SkippedLayer(layer.name, error.code, error.message, is_error=True)


def _of_matrix(layer: Layer, part: _Part, measured: Measured) -> LayerSpectrum:
    matrix, expert = part.begun.update, part.expert
    assert isinstance(matrix, Matrix)  # others have no singular values and were refused
    values, sizes = measured
    values.flags.writeable = False
    noise = plateau(values, matrix_shape(matrix))
    rounding = None
    if sizes is not None:
        assert isinstance(matrix, LowRank)
        stored = (matrix.up.dtype.name, matrix.down.dtype.name)
        rounding = rounding_floor(values, sizes.up, sizes.down, matrix.scale, stored)
    block, moved = block_of(layer.name), _moved(layer, sizes, matrix)
    return LayerSpectrum(
        name=layer.name,
        expert=expert,
        component=layer.component,
        block=block,
        kind=layer.kind,
        shape=matrix.shape,
        rank=layer.rank,
        scale=layer.scale,
        has_magnitude=layer.magnitude_axis is not None,
        singular_values=values,
        summary=summarise(values),
        role=role_of(layer),
        stage=stage_of(block),
        noise_floor=noise.level,
        above_noise=noise.above,
        rounding_floor=None if rounding is None else rounding.level,
        above_rounding=None if rounding is None else rounding.above,
        down_energy=moved.energy,
        down_moved=moved.ratio,
        down_moved_chance=moved.chance,
    )


class _Moved(NamedTuple):
    energy: float | None = None
    ratio: float | None = None
    chance: float | None = None


def _moved(layer: Layer, sizes: FactorSizes | None, matrix: Matrix) -> _Moved:
    """``‖down‖²`` beside what Kaiming-uniform(√5) gives it, ``rank / 3``; LoRA's usual start, with ``up`` zero.

    Its entries are uniform within ±1/√in, so their squares have mean 1/(3 in) and relative standard deviation √0.8.
    """
    if sizes is None or layer.kind != "lora":
        return _Moved()
    assert isinstance(matrix, LowRank)
    energy = float(np.sum(sizes.down))
    ratio, chance = energy / (matrix.rank / 3), sqrt(0.8 / matrix.down.size)
    return _Moved(energy, ratio, chance)
