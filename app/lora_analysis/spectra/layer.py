"""One layer's spectra, or the reason why it has none. Loads numpy."""

from __future__ import annotations

from collections.abc import Mapping

from ..adapter import Dense, Finding, Hadamard, Kronecker, Layer, LowRank, Opaque, Stacked, Vector
from ..errors import FormatError, NonFiniteError, OpaqueUpdateError, ShapeError
from ..formats.blocks import block_of
from ..linalg.products import singular_values
from ..linalg.spectrum import summarise
from .values import LayerSpectrum, SkippedLayer

Matrix = LowRank | Dense | Hadamard | Kronecker
Outcome = tuple[LayerSpectrum, ...] | SkippedLayer

# What is wrong with one layer. Anything else, a file that is gone or a request to stop, concerns the whole.
_LAYER_ERRORS = (FormatError, NonFiniteError, OpaqueUpdateError, ShapeError)


def read_spectra(errors: Mapping[str, Finding], layer: Layer) -> Outcome:
    """The spectrum of a layer, of each expert where it stacks several, or why there is none.

    ``errors``: by layer, what opening the file already found wrong. Such a layer is not read.
    Raises: FileAccessError where the file cannot be read any more.
    """
    stated = errors.get(layer.name)
    if stated is not None:
        return SkippedLayer(layer.name, stated.code, stated.message, is_error=True)
    if layer.opaque is not None:
        return SkippedLayer(layer.name, "opaque", layer.opaque, is_error=False)
    try:
        return _read(layer)
    except _LAYER_ERRORS as error:
        return SkippedLayer(layer.name, error.code, error.message, is_error=True)


def _read(layer: Layer) -> Outcome:
    update = layer.update()
    match update:
        case Vector():
            return SkippedLayer(layer.name, "vector", f"a {layer.kind} difference is no matrix", is_error=False)
        case Opaque():
            return SkippedLayer(layer.name, "opaque", update.reason, is_error=False)
        case Stacked():
            return tuple(_of_matrix(layer, part, expert) for expert, part in enumerate(update.parts))
        case _:
            return (_of_matrix(layer, update, None),)


def _of_matrix(layer: Layer, matrix: Matrix, expert: int | None) -> LayerSpectrum:
    values = singular_values(matrix)
    values.flags.writeable = False
    return LayerSpectrum(
        name=layer.name,
        expert=expert,
        component=layer.component,
        block=block_of(layer.name),
        kind=layer.kind,
        shape=matrix.shape,
        rank=layer.rank,
        scale=layer.scale,
        has_magnitude=layer.magnitude_axis is not None,
        singular_values=values,
        summary=summarise(values),
    )
