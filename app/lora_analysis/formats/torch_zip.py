"""Read what ``torch.save`` has written since torch 1.6: a zip archive with one pickle and a record per storage.

Layout: https://pytorch.org/docs/stable/notes/serialization.html#serialized-file-format-for-torch-save.
Neither torch nor ``pickle`` is used.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..adapter import Finding, TensorInfo
from ..errors import HeaderError
from .files import InputFile
from .source import FileSource
from .torch_globals import TensorRef
from .torch_payload import name_tensors
from .torch_pickle import MAX_PICKLE_BYTES, interpret
from .zip_records import Record, read_checked, read_records

if TYPE_CHECKING:
    from ..adapter import FloatArray

CONTAINER = "pytorch"
_MAX_SHARING = 16  # all tensors together may be this many times the file, by views on shared storages


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor whose elements do not lie in C order."""

    tensor: TensorRef
    offset: int  # of its first element in the file


class TorchSource(FileSource):
    """A file source that also gathers strided views, and holds alphas that were Python numbers."""

    def __init__(
        self,
        file: InputFile,
        tensors: dict[str, TensorInfo],
        views: Mapping[str, _View],
        numbers: Mapping[str, float],
        findings: list[Finding],
    ) -> None:
        super().__init__(CONTAINER, file, tensors, findings=findings)
        self._views = views
        self._numbers = {name: struct.pack("<f", value) for name, value in numbers.items()}

    def array(self, name: str) -> FloatArray:
        import numpy as np

        if name in self._numbers:
            return np.frombuffer(bytearray(self._numbers[name]), "<f4").reshape(())
        if name not in self._views:
            return super().array(name)
        view = self._views[name]
        extent = self._file.read(view.offset, view.tensor.extent * view.tensor.itemsize)
        strides = [stride * view.tensor.itemsize for stride in view.tensor.strides]
        elements = np.frombuffer(extent, self._array_type(name))
        return np.lib.stride_tricks.as_strided(elements, view.tensor.shape, strides).copy(order="C")

    def raw(self, name: str) -> bytes:
        if name in self._numbers:
            return self._numbers[name]
        return self.array(name).tobytes() if name in self._views else super().raw(name)


def open_torch_zip(file: InputFile) -> FileSource:
    """Read the directory and the pickle of ``file``; storages are read when asked for.

    Raises: HeaderError, UnsafePickleError.
    """
    records = _archive(read_records(file))
    if "byteorder" in records and file.read(records["byteorder"].offset, records["byteorder"].size) != b"little":
        raise HeaderError("the file was written on a big-endian machine; only little-endian files are read")
    pickle = records["data.pkl"]
    if pickle.size > MAX_PICKLE_BYTES:
        raise HeaderError(f"data.pkl has {pickle.size:,} bytes; at most {MAX_PICKLE_BYTES:,} are read")
    value, end = interpret(read_checked(file, pickle, "data.pkl"))
    if end != pickle.size:
        raise HeaderError("data.pkl has bytes after the end of its pickle")
    payload = name_tensors(value, lambda leaf: isinstance(leaf, TensorRef))
    tensors, views = {}, {}
    for name, tensor in payload.tensors.items():
        start = _storage(records, tensor, name).offset + tensor.offset * tensor.itemsize
        tensors[name] = TensorInfo(tensor.dtype, tensor.shape, start, tensor.nbytes)
        if not tensor.is_contiguous:
            views[name] = _View(tensor, start)
    check_sharing(tensors, file)
    tensors |= {name: TensorInfo("F32", (), pickle.offset, 4) for name in payload.numbers}
    return TorchSource(file, tensors, views, payload.numbers, payload.findings)


def check_sharing(tensors: Mapping[str, TensorInfo], file: InputFile) -> None:
    """Refuse a small file that a copy would make a huge one. Tied weights share a storage a few times."""
    if sum(info.nbytes for info in tensors.values()) > _MAX_SHARING * file.size:
        raise HeaderError(f"the tensors are more than {_MAX_SHARING} times the file, by sharing storages; refused")


def _archive(records: dict[str, Record]) -> dict[str, Record]:
    """The records without the one folder that they all lie in."""
    roots = {name.partition("/")[0] for name in records}
    inner = {name.partition("/")[2]: record for name, record in records.items()}
    if len(roots) != 1 or "data.pkl" not in inner:
        raise HeaderError("a zip archive, but no PyTorch file: data.pkl is missing; unpack it and open what is inside")
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise HeaderError("a TorchScript program, not a file of tensors; it was not run")
    return inner


def _storage(records: dict[str, Record], tensor: TensorRef, name: str) -> Record:
    record = records.get(f"data/{tensor.storage.key}")
    if record is None:
        raise HeaderError(f"{name}: its storage {tensor.storage.key[:40]} is not in the file; the file is incomplete")
    if record.size != tensor.storage.nbytes:
        raise HeaderError(f"{name}: its storage should have {tensor.storage.nbytes:,} bytes and has {record.size:,}")
    return record
