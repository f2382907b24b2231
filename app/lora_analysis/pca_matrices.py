"""Which matrices of a layer a principal component analysis looks at, and how they are named and turned.

Rows are samples. ``down`` is (rank, inputs): a sample is a rank direction, an input a feature. ``up`` is (outputs,
rank): a sample is an output, a rank direction a feature. docs/pca.md says why. Loads numpy.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, assert_never

from .adapter import Dense, Hadamard, Kronecker, Layer, LowRank, Opaque, Stacked, Update, Vector
from .errors import OpaqueUpdateError, ShapeError

if TYPE_CHECKING:
    from .adapter import FloatArray


class FactorMatrix(NamedTuple):
    """One stored matrix, ``(samples, features)``, in its stored dtype."""

    name: str  # layer.lora_A, layer.hada_w1_a, ...
    samples: str  # what a row is: "rank" or "output"
    values: FloatArray


def factor_matrices(layer: Layer, update: Update) -> Iterator[FactorMatrix]:
    """Every stored matrix of a layer. Names are by role, whatever a dialect calls the tensor.

    Raises: ShapeError for a vector; OpaqueUpdateError.
    """
    yield from _named(layer.name, update)


def delta_parts(layer: Layer, update: Update) -> Iterator[tuple[str, Update]]:
    """The layer's deltas that are one matrix each, by name. Raises: as ``factor_matrices``."""
    match update:
        case Stacked():
            yield from ((f"{layer.name}[{expert}].delta", part) for expert, part in enumerate(update.parts))
        case Vector():
            raise _no_matrix(update)
        case Opaque():
            raise OpaqueUpdateError(update.reason)
        case _:
            yield f"{layer.name}.delta", update


def _named(name: str, update: Update) -> Iterator[FactorMatrix]:
    match update:
        case LowRank():
            yield from _of_product(update, f"{name}.lora_A", f"{name}.lora_B", f"{name}.lora_mid")
        case Hadamard():
            for number, side in ((1, update.first), (2, update.second)):
                stem = f"{name}.hada_"
                yield from _of_product(side, f"{stem}w{number}_b", f"{stem}w{number}_a", f"{stem}t{number}")
        case Kronecker():
            for number, factor in ((1, update.first), (2, update.second)):
                stem = f"{name}.lokr_"
                if isinstance(factor, Dense):
                    yield FactorMatrix(f"{stem}w{number}", "output", _flat(factor.values))
                else:
                    yield from _of_product(factor, f"{stem}w{number}_b", f"{stem}w{number}_a", f"{stem}t{number}")
        case Dense():
            yield FactorMatrix(f"{name}.diff", "output", _flat(update.values))
        case Stacked():
            for expert, part in enumerate(update.parts):
                yield from _named(f"{name}[{expert}]", part)
        case Vector():
            raise _no_matrix(update)
        case Opaque():
            raise OpaqueUpdateError(update.reason)
        case _:
            assert_never(update)


def _of_product(update: LowRank, down: str, up: str, core: str) -> Iterator[FactorMatrix]:
    yield FactorMatrix(down, "rank", update.down)
    yield FactorMatrix(up, "output", update.up)
    if update.core is not None:
        yield FactorMatrix(core, "rank", _flat(update.core))


def _flat(values: FloatArray) -> FloatArray:
    """Kernel positions vary fastest among the columns."""
    return values.reshape(values.shape[0], -1)


def _no_matrix(update: Vector) -> ShapeError:
    return ShapeError(f"a vector of shape {update.shape} is no matrix and has no components")
