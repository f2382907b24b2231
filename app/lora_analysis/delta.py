"""The dense delta of one layer: the definition every fast path is tested against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .adapter import Layer, Update
from .errors import LoraAnalysisError, OpaqueUpdateError

if TYPE_CHECKING:
    from .adapter import FloatArray


def materialise(layer: Layer | Update, dtype: Literal["float64", "float32"] = "float64") -> FloatArray:
    """The delta of a layer (or of an update), scale included, as one dense array.

    This is what a loader adds to the base weight at strength 1. DoRA's magnitude is not part of it: that
    needs the base weight.

    Returns: shape ``layer.shape``: ``(out, in)`` for a linear layer, ``(out, in, *kernel)`` for a convolution,
    ``(experts, out, in)`` for experts in one parameter. Add its transpose where ``layer.base_transposed``.
    Convolutions that LoHa and LoKr store flattened come as ``(out, in * k)``: the kernel is not in the file.
    Raises: OpaqueUpdateError naming the layer where only the base weight makes a delta; ShapeError where the
    stored factors do not fit; FileAccessError where the file is gone.
    """
    from .linalg import dense

    if not isinstance(layer, Layer):
        return dense.materialise(layer, dtype)
    if layer.opaque is not None:
        raise OpaqueUpdateError(f"{layer.name}: {layer.opaque}; there is no delta without the base weight")
    try:
        return dense.materialise(layer.update(), dtype)
    except LoraAnalysisError as error:
        raise type(error)(f"{layer.name}: {error.message}") from error
