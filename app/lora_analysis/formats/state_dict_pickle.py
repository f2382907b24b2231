"""The pickle inside a PyTorch checkpoint: a state dict whose tensors point at records of the archive.

Written opcode by opcode, without torch, in the form ``torch.save`` gives it (observed in torch 2.13):
protocol 2, an OrderedDict, ``torch._utils._rebuild_tensor_v2`` with a persistent id per storage, and
``_rebuild_tensor_v3`` for types that have no storage class. ``torch.load(weights_only=True)`` reads it.
"""

from __future__ import annotations

import pickle  # for the names of its opcodes; nothing is pickled or unpickled with it
from collections.abc import Sequence
from itertools import accumulate
from math import prod
from operator import mul

from ..errors import OptionError
from .layout import TensorPlan

# Types with a storage class of their own, in torch since 1.6.
_STORAGES = {
    "BOOL": "BoolStorage",
    "U8": "ByteStorage",
    "I8": "CharStorage",
    "I16": "ShortStorage",
    "I32": "IntStorage",
    "I64": "LongStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "F32": "FloatStorage",
    "F64": "DoubleStorage",
    "C64": "ComplexFloatStorage",
}
# Later ones share UntypedStorage and name their dtype.
_DTYPES = {
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}


def state_dict_pickle(tensors: Sequence[TensorPlan]) -> bytes:
    """The ``data.pkl`` of a state dict; tensor number ``i`` has its data in the record ``data/i``.

    Raises: OptionError for a type that PyTorch has no equal of (4- and 6-bit floats).
    """
    items = b"".join(_text(plan.name) + _tensor(plan, str(i)) for i, plan in enumerate(tensors))
    return pickle.PROTO + b"\x02" + _empty_ordered_dict() + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _tensor(plan: TensorPlan, record: str) -> bytes:
    if plan.dtype in _STORAGES:
        rebuild, extra = "_rebuild_tensor_v2", b""
        storage, length = _global("torch", _STORAGES[plan.dtype]), prod(plan.shape)
    elif plan.dtype in _DTYPES:
        rebuild, extra = "_rebuild_tensor_v3", _global("torch", _DTYPES[plan.dtype])
        storage, length = _global("torch.storage", "UntypedStorage"), plan.nbytes
    else:
        raise OptionError(f"{plan.name}: PyTorch has no {plan.dtype}; write safetensors instead")
    persistent_id = _tuple(_text("storage"), storage, _text(record), _text("cpu"), _int(length))
    arguments = _tuple(
        persistent_id + pickle.BINPERSID,
        _int(0),  # offset within the storage
        _tuple(*map(_int, plan.shape)),
        _tuple(*map(_int, _strides(plan.shape))),
        pickle.NEWFALSE,  # requires_grad
        _empty_ordered_dict(),  # backward hooks
        extra,
    )
    return _global("torch._utils", rebuild) + arguments + pickle.REDUCE


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Steps between values, in values, of a C-ordered tensor; a size of 0 counts as 1, as in torch."""
    steps = accumulate((max(size, 1) for size in reversed(shape[1:])), mul, initial=1)
    return tuple(steps)[::-1] if shape else ()


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode("ascii")


def _empty_ordered_dict() -> bytes:
    return _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + len(data).to_bytes(4, "little") + data


def _int(number: int) -> bytes:
    if number < 1 << 8:
        return pickle.BININT1 + number.to_bytes(1, "little")
    if number < 1 << 31:
        return pickle.BININT + number.to_bytes(4, "little")
    data = number.to_bytes(number.bit_length() // 8 + 1, "little")  # one bit more: the sign
    return pickle.LONG1 + len(data).to_bytes(1, "little") + data
