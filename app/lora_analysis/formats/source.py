"""An open file of tensors: what the readers of all containers hand out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ..adapter import Finding, TensorInfo
from ..errors import FileAccessError, FormatError
from .dtypes import array_type, single_value
from .files import FileIdentity, InputFile

if TYPE_CHECKING:
    from ..adapter import FloatArray


class FileSource:
    """Names and shapes now, values when asked for: each read goes to the open descriptor.

    The plain case: a tensor's bytes lie in the file as they are, little endian, in C order.
    """

    def __init__(
        self,
        container: str,
        file: InputFile,
        tensors: dict[str, TensorInfo],
        metadata: dict[str, Any] | None = None,
        findings: Sequence[Finding] = (),
    ) -> None:
        self.container = container
        self.path = file.path
        self.size = file.size
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        self.metadata: Mapping[str, Any] = MappingProxyType(metadata or {})
        self.findings: Sequence[Finding] = tuple(findings)
        self._file = file

    @property
    def identity(self) -> FileIdentity:
        """Of the open file as it is now. Raises: FileAccessError where it was closed."""
        return self._file.identity()

    def array(self, name: str) -> FloatArray:
        """The tensor in its stored type, C order, writable.

        Raises: KeyError for a name that is not in ``tensors``; FormatError where the type or the shape
        has no array form; FileAccessError where the file was cut since it was opened.
        """
        import numpy as np

        info = self.tensors[name]
        dtype = self._array_type(name)
        buffer = np.empty(info.nbytes, np.uint8)
        self._file.read_into(buffer.data, info.offset)
        try:
            values: FloatArray = buffer.view(dtype).reshape(info.shape)
        except ValueError as error:  # no elements, and other dimensions beyond what numpy can index
            message = f"{self._file.label}: {name}: no array can have the shape {list(info.shape)}"
            raise FormatError(message) from error
        return values

    def raw(self, name: str) -> bytes:
        """The tensor's bytes, little endian, C order. Raises: as :meth:`array`; every type has bytes."""
        info = self.tensors[name]
        return self._file.read(info.offset, info.nbytes)

    def scalar(self, name: str) -> float:
        """The value of a one-element tensor, without numpy. Raises: FormatError where it is not one real number."""
        info = self.tensors[name]
        if info.shape and any(size != 1 for size in info.shape):  # before reading: the tensor may be large
            raise FormatError(f"{self._file.label}: {name} has the shape {list(info.shape)}; expected one value")
        try:
            return single_value(info.dtype, self.raw(name))
        except FormatError as error:
            raise FormatError(f"{self._file.label}: {name}: {error.message}") from error

    def scalars(self, names: Sequence[str]) -> dict[str, float]:
        """:meth:`scalar` of many; those for which it would raise are left out."""
        found: dict[str, float] = {}
        for name in names:
            with suppress(FormatError, FileAccessError):
                found[name] = self.scalar(name)
        return found

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _array_type(self, name: str) -> Any:
        try:
            return array_type(self.tensors[name].dtype)
        except FormatError as error:
            raise FormatError(f"{self._file.label}: {name}: {error.message}") from error
