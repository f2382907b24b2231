"""What the globals in a saved state dict mean: the allow-list, and tensors as plain values.

Nothing is imported by name. A name either stands for one of the functions below, or may be mentioned (a type), or ends
the reading. Arguments as in ``torch/_utils.py`` and ``torch/serialization.py`` of torch 1.6 to 2.13.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Final, NamedTuple

from ..errors import HeaderError, UnsafePickleError
from .dtypes import BITS, MAX_DIMENSIONS

_DTYPES = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16", "half": "F16",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ", "float8_e8m0fnu": "F8_E8M0", "complex64": "C64", "cfloat": "C64",
    "int64": "I64", "long": "I64", "int32": "I32", "int": "I32", "int16": "I16", "short": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL", "ComplexFloatStorage": "C64",
}  # fmt: skip
_MAX_ARGUMENTS = 16  # and other limits on sizes: one long tuple can be used a hundred thousand times


class Name(NamedTuple):
    """A global on the allow-list, as a value."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Storage(NamedTuple):
    """Bytes outside the pickle. ``dtype`` is None where the storage is untyped."""

    key: str
    dtype: str | None
    nbytes: int


class TensorRef(NamedTuple):
    """A strided view of a storage, checked to lie inside it. ``offset`` and ``strides`` count elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def itemsize(self) -> int:
        return BITS[self.dtype] // 8

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.itemsize

    @property
    def extent(self) -> int:
        """Elements of the storage from the first to the last that is used."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    @property
    def is_contiguous(self) -> bool:
        """The elements lie in C order without gaps."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return 0 in self.shape
            expected *= size
        return True


@dataclass(frozen=True, slots=True)
class Inert:
    """Something that is known and of no use here: a device, a set, bytes."""

    what: str


# -- what the allowed globals mean -------------------------------------------------------------------


def _ordered_dict() -> dict[Any, Any]:
    return {}  # filled by the operations that follow


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> TensorRef:
    """Also v2, whose further arguments are requires_grad, hooks and metadata."""
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise HeaderError("the pickle builds a tensor from something that is no typed storage")
    if rest[2:] and rest[2]:
        raise HeaderError("a tensor is marked as conjugated or negated; save it again with .clone()")
    return _tensor(storage, storage.dtype, offset, shape, strides)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *rest: Any
) -> TensorRef:
    if not isinstance(storage, Storage) or not isinstance(dtype, Name) or dtype.name not in _DTYPES:
        raise HeaderError("the pickle builds a tensor from something that is no storage, or with an unknown type")
    if rest and rest[0]:
        raise HeaderError("a tensor is marked as conjugated or negated; save it again with .clone()")
    return _tensor(storage, _DTYPES[dtype.name], offset, shape, strides)


def _rebuild_parameter(data: Any, *_: Any) -> TensorRef:
    """Also with the Python attributes of the parameter, which hold no weights."""
    if not isinstance(data, TensorRef):
        raise HeaderError("the pickle makes a Parameter of something that is no tensor")
    return data


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, _state: Any) -> Any:
    """A tensor with Python attributes. Only plain tensors: a subclass may mean other values."""
    if not isinstance(kind, Name) or kind not in _PLAIN_CLASSES or function == _REBUILD_FROM_TYPE:
        raise UnsafePickleError(f"the pickle holds a tensor of the class {described(kind)}; nothing was run")
    return call(function, arguments)


def _tensor(storage: Storage, dtype: str, offset: Any, shape: Any, strides: Any) -> TensorRef:
    """Check a view against its storage: torch has read past storages, and copies what strides repeat."""
    if not _are_sizes(shape) or not _are_sizes(strides) or not _are_sizes((offset,)):
        raise HeaderError(f"a tensor's shape, strides or offset are no whole numbers, or more than {MAX_DIMENSIONS}")
    if len(shape) != len(strides):
        raise HeaderError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    tensor = TensorRef(storage, dtype, offset, shape, strides)
    there = storage.nbytes // tensor.itemsize
    if tensor.extent and offset + tensor.extent > there:
        raise HeaderError(f"a tensor reaches element {offset + tensor.extent:,} of a storage of {there:,}")
    if prod(shape) > there:
        raise HeaderError(f"a tensor of {prod(shape):,} elements repeats those of a storage of {there:,}; refused")
    return tensor


def _are_sizes(values: Any) -> bool:
    if not isinstance(values, tuple) or len(values) > MAX_DIMENSIONS:
        return False
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _size(sizes: Any) -> tuple[Any, ...]:
    if not _are_sizes(sizes):
        raise HeaderError("a torch.Size is no tuple of whole numbers")
    return tuple(sizes)


def _inert(what: str) -> Callable[..., Inert]:
    return lambda *_: Inert(what)


_REBUILD_FROM_TYPE = Name("torch._tensor", "_rebuild_from_type_v2")
_UNTYPED = Name("torch.storage", "UntypedStorage")
_PLAIN_CLASSES = (Name("torch", "Tensor"), Name("torch.nn.parameter", "Parameter"))
_CALLABLE: dict[Name, Callable[..., Any]] = {
    Name("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _rebuild_tensor_v3,
    Name("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): _rebuild_parameter,
    _REBUILD_FROM_TYPE: _rebuild_from_type,
    Name("collections", "OrderedDict"): _ordered_dict,
    Name("torch", "Size"): _size,
    Name("torch", "device"): _inert("a device"),
    Name("builtins", "set"): _inert("a set"),
    Name("builtins", "frozenset"): _inert("a set"),
    Name("builtins", "complex"): _inert("a complex number"),
    Name("builtins", "bytearray"): _inert("bytes"),
    Name("_codecs", "encode"): _inert("bytes"),
}
_MENTIONED = {
    *_PLAIN_CLASSES,
    *(Name("torch", name) for name in _DTYPES),
    *(Name(module, name) for module in ("torch", "torch.cuda") for name in _STORAGES),
    _UNTYPED,
}
ALLOWED: Final = frozenset(_CALLABLE) | frozenset(_MENTIONED)


def call(function: Any, arguments: Any) -> Any:
    """The meaning of ``function(*arguments)``. Raises: UnsafePickleError, HeaderError."""
    if not isinstance(function, Name) or function not in _CALLABLE:
        raise UnsafePickleError(f"the pickle calls {described(function)}, which is no function here; nothing was run")
    if not isinstance(arguments, tuple) or len(arguments) > _MAX_ARGUMENTS:
        raise HeaderError(f"the pickle gives {function} something other than a few arguments")
    try:
        return _CALLABLE[function](*arguments)
    except TypeError as error:  # the number of arguments, which differs between the functions
        raise HeaderError(f"the pickle gives {function} {len(arguments)} arguments") from error


def checked_key(key: Any) -> Any:
    """A dictionary's key: strings and small numbers.

    To hash nested tuples can take for ever; large numbers can all have one hash, and then a dictionary takes for ever.
    """
    if isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 60):
        return key
    raise HeaderError(f"the pickle has a dictionary key of the type {type(key).__name__}; expected a string")


def storage_of(identifier: Any) -> Storage:
    """The storage behind a persistent id: ``("storage", type, key, location, count)``.

    Old layouts have a sixth entry: a view, in torch before 0.4, or None.
    """
    if not isinstance(identifier, tuple) or len(identifier) > 6:
        raise HeaderError("the pickle refers to a storage by something that is no short tuple")
    match identifier:
        case ("storage", Name() as kind, str(key), str(), int(count), *rest) if count >= 0 and rest in ([], [None]):
            if kind == _UNTYPED:
                return Storage(key, None, count)
            if kind.name in _STORAGES:
                dtype = _STORAGES[kind.name]
                return Storage(key, dtype, count * BITS[dtype] // 8)
    raise HeaderError("the pickle refers to a storage in an unknown form")


def described(value: Any) -> str:
    """For messages. Never ``str`` of a value from a pickle: one list inside itself thirty times takes for ever."""
    return str(value) if isinstance(value, Name) else f"a value of the type {type(value).__name__}"
