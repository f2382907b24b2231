"""Read what ``torch.save`` wrote before torch 1.6: a magic number, pickles, then the storages.

Every pickle is interpreted over the allow-list first. Only a file that passes, whole, goes to
``torch.load(weights_only=True)``, which needs torch itself.

Layout: ``_legacy_save`` in ``torch/serialization.py``.
"""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..adapter import TensorInfo
from ..errors import FormatError, HeaderError, MissingExtraError
from .dtypes import BITS
from .files import InputFile
from .source import FileSource
from .torch_globals import Storage, TensorRef
from .torch_payload import Payload, name_tensors, tensors_in
from .torch_pickle import MAX_PICKLE_BYTES, interpret
from .torch_zip import TorchSource, check_sharing
from .wrong_types import LEGACY_NUMBER

if TYPE_CHECKING:
    from ..adapter import FloatArray

_PROTOCOL = 1001
_FIRST_READ = 1 << 20  # bytes; the pickles of most files
_OLDEST_TORCH = (2, 10)  # weights_only was no memory boundary before: CVE-2026-24747


class TorchLegacySource(TorchSource):
    """A file source whose values come from torch, all at once, when the first is asked for."""

    def array(self, name: str) -> FloatArray:
        import numpy as np

        if name in self._numbers:
            return super().array(name)
        return np.frombuffer(bytearray(self.raw(name)), self._array_type(name)).reshape(self.tensors[name].shape)

    def raw(self, name: str) -> bytes:
        if name in self._numbers:
            return super().raw(name)
        info = self.tensors[name]
        tensor = self._values.tensors.get(name)
        data: bytes = b"" if tensor is None else _tensor_bytes(tensor)
        if tensor is None or tuple(tensor.shape) != info.shape or len(data) != info.nbytes:
            raise FormatError(f"{self._file.label}: {name}: torch reads another tensor than the file describes")
        return data

    @cached_property
    def _values(self) -> Payload:
        import torch

        with self._file.duplicate() as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own future, and about the pickle's protocol
            stream.seek(0)
            try:
                value = torch.load(stream, map_location="cpu", weights_only=True)
            except Exception as error:
                # torch's own message holds control characters and advises to load without the allow-list.
                raise FormatError(f"{self._file.label}: torch cannot read this old PyTorch file") from error
        return name_tensors(value, torch.is_tensor)


def open_torch_legacy(file: InputFile) -> FileSource:
    """Check the pickles and the extents of all storages of ``file``.

    Raises: HeaderError, UnsafePickleError; MissingExtraError where the file is fine and torch is not there.
    """
    value, keys, end = _pickles(file)
    starts = _storage_starts(file, _storages(value), keys, end)
    payload = name_tensors(value, lambda leaf: isinstance(leaf, TensorRef))
    tensors = {
        name: TensorInfo(
            tensor.dtype, tensor.shape, starts[tensor.storage.key] + tensor.offset * tensor.itemsize, tensor.nbytes
        )
        for name, tensor in payload.tensors.items()
    }
    check_sharing(tensors, file)
    tensors |= {name: TensorInfo("F32", (), 0, 4) for name in payload.numbers}
    _require_torch()
    return TorchLegacySource(file, tensors, {}, payload.numbers, payload.findings)


def _pickles(file: InputFile) -> tuple[Any, list[str], int]:
    """What was saved, the keys of the storages in their order, and where the pickles end."""
    size = min(_FIRST_READ, file.size)
    while True:
        data = file.read(0, size)
        try:
            return _interpret_all(data)
        except HeaderError:
            if size >= min(file.size, MAX_PICKLE_BYTES):  # otherwise the pickles may just be longer
                raise
        size = min(size * 8, file.size, MAX_PICKLE_BYTES)


def _interpret_all(data: bytes) -> tuple[Any, list[str], int]:
    magic, end = interpret(data)
    protocol, end = interpret(data, end)
    system, end = interpret(data, end)
    if magic != LEGACY_NUMBER or protocol != _PROTOCOL:
        raise HeaderError("an old PyTorch file of an unknown version")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise HeaderError("the file was written on a big-endian machine; only little-endian files are read")
    value, end = interpret(data, end)
    keys, end = interpret(data, end)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise HeaderError("the list of storages is broken")
    return value, keys, end


def _storages(value: Any) -> dict[str, Storage]:
    """Every storage that a tensor of ``value`` lies in. Raises: HeaderError where two have one key."""
    found: dict[str, Storage] = {}
    for tensor in tensors_in(value):
        storage = found.setdefault(tensor.storage.key, tensor.storage)
        if storage != tensor.storage:
            raise HeaderError(f"storage {storage.key[:40]} is declared twice, with different types or sizes")
        if storage.dtype is None:  # torch writes 8-bit floats so, and its own reader fails on them
            raise HeaderError("the old PyTorch layout cannot hold 8-bit floats; save the file again with torch.save")
    return found


def _storage_starts(file: InputFile, storages: dict[str, Storage], keys: list[str], end: int) -> dict[str, int]:
    """Where the bytes of each storage start. Each is preceded by its number of elements, 8 bytes."""
    if set(keys) != set(storages):
        raise HeaderError("the list of storages is not the list of those in use; the file is damaged")
    starts = {}
    for key in keys:
        storage = storages[key]
        dtype = storage.dtype or "U8"
        itemsize = BITS[dtype] // 8
        if end + 8 + storage.nbytes > file.size:
            raise HeaderError(f"the file is cut off: storage {key[:40]} of {storage.nbytes:,} bytes is not all there")
        if int.from_bytes(file.read(end, 8), "little") * itemsize != storage.nbytes:
            raise HeaderError(f"storage {key[:40]} has another size than the pickle says")
        starts[key] = end + 8
        end += 8 + storage.nbytes
    if end != file.size:
        raise HeaderError(f"{file.size - end:,} bytes after the last storage belong to nothing")
    return starts


def _require_torch() -> None:
    from importlib.metadata import PackageNotFoundError, version  # which loads more than reading a header needs

    try:
        found = version("torch")
    except PackageNotFoundError as error:
        message = "PyTorch files from before torch 1.6 are read through torch, which is not installed"
        raise MissingExtraError(f"{message}: pip install 'lora-analysis[torch]'", extra="torch") from error
    if tuple(int(part) for part in found.split(".")[:2]) < _OLDEST_TORCH:
        message = f"PyTorch files from before torch 1.6 are read through torch 2.10 or newer; {found} is installed"
        raise MissingExtraError(f"{message}: pip install 'lora-analysis[torch]'", extra="torch")


def _tensor_bytes(tensor: Any) -> bytes:
    import torch

    data: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return data
