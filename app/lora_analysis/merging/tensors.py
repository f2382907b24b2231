"""The tensors of a sum that are no factors: calculated when they are read, or taken over byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from ..adapter import EMPTY, Finding, TensorInfo, TensorSource
from ..formats.dtypes import BITS
from ..formats.encoding import buffer_of, encode

if TYPE_CHECKING:
    from ..adapter import FloatArray


class Calculated(NamedTuple):
    """A tensor that a function makes; it is rounded to ``dtype`` when it is read."""

    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], FloatArray]

    @property
    def info(self) -> TensorInfo:
        """What a header would say."""
        return TensorInfo(self.dtype, self.shape, 0, prod(self.shape) * BITS[self.dtype] // 8)


class Carried(NamedTuple):
    """A tensor of one input, as it is."""

    source: TensorSource
    key: str

    @property
    def info(self) -> TensorInfo:
        """The header entry of the tensor."""
        return self.source.tensors[self.key]


class SumSource:
    """What a weighted sum has in place of a file. It owns no file: closing it closes nothing."""

    container = "sum"
    findings: Sequence[Finding] = ()

    def __init__(self, path: str, files: Sequence[str], size: int, tensors: Mapping[str, Calculated | Carried]) -> None:
        self.path = path
        self.files = tuple(files)  # those of the inputs: no output may replace one
        self.size = size  # bytes of all inputs
        self.metadata = EMPTY
        self.tensors = {name: tensor.info for name, tensor in tensors.items()}
        self._tensors = tensors

    def array(self, name: str) -> FloatArray:
        """The tensor in the type it is stored in. Raises: NonFiniteError where the type cannot hold it."""
        tensor = self._tensors[name]
        if isinstance(tensor, Carried):
            return tensor.source.array(tensor.key)
        return encode(tensor.make().reshape(tensor.shape), tensor.dtype, name)

    def raw(self, name: str) -> bytes:
        """The tensor's bytes, little endian, C order. Raises: as :meth:`array`."""
        tensor = self._tensors[name]
        if isinstance(tensor, Carried):
            return tensor.source.raw(tensor.key)
        return bytes(buffer_of(self.array(name)))

    def scalar(self, name: str) -> float:
        """The value of a one-element tensor."""
        return float(self.array(name).reshape(()))

    def scalars(self, names: Sequence[str]) -> dict[str, float]:
        """:meth:`scalar` of many."""
        return {name: self.scalar(name) for name in names}

    def close(self) -> None: ...
