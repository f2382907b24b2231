"""From what a PyTorch file holds to named tensors: nested dictionaries, lists, and numbers beside tensors."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..adapter import Finding
from ..errors import HeaderError
from .torch_globals import TensorRef

_MAX_DEPTH = 8  # containers inside containers; a list can hold itself
_MAX_NODES = 1_000_000  # or hold another list a million times
_MAX_NAME_CHARS = 50_000_000  # of all names: one long key can be in front of each of them
_WRAPPER = "state_dict"
_SHOWN = 5


@dataclass(slots=True)
class Payload:
    """``tensors`` by name, in the file's order; ``numbers`` are alphas stored as Python numbers."""

    tensors: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def name_tensors(value: Any, is_tensor: Callable[[Any], bool]) -> Payload:
    """Name every tensor in ``value`` by its path: keys and list positions, joined by dots.

    ``{"state_dict": ...}`` is unwrapped. ``<module>.alpha`` as a Python number is kept; everything else that is no
    tensor is reported.

    Raises: HeaderError where there is no dictionary or list, where two paths are spelled alike, or where it is
    nested without end.
    """
    found = Payload()
    value = _unwrapped(value, is_tensor, found)
    if not _is_container(value):
        raise HeaderError("the file holds a single value; expected a dictionary of tensors")
    if not isinstance(value, Mapping):
        found.findings.append(Finding("info", "list-payload", "the file holds a list; tensors are named by position"))
    shown: list[str] = []
    others = 0
    for name, leaf in _leaves(value):
        if name in found.tensors or name in found.numbers:
            raise HeaderError(f"{name}: two entries of the file have this name")
        if is_tensor(leaf):
            found.tensors[name] = leaf
        elif _is_alpha(name, leaf):
            found.numbers[name] = float(leaf)
        else:
            others += 1
            shown += [name[:60]] if others <= _SHOWN else []
    if others:
        names = ", ".join(shown) + (", ..." if others > _SHOWN else "")
        message = f"{others} entries are no tensors and are not read: {names}"
        found.findings.append(Finding("warning", "not-tensors", message))
    return found


def tensors_in(value: Any) -> Iterator[TensorRef]:
    """Every tensor of an interpreted file, also those beside a ``state_dict``."""
    children = value if _is_container(value) else [value]
    return (leaf for _, leaf in _leaves(children) if isinstance(leaf, TensorRef))


def _unwrapped(value: Any, is_tensor: Callable[[Any], bool], found: Payload) -> Any:
    if not isinstance(value, Mapping) or not isinstance(value.get(_WRAPPER), Mapping):
        return value
    beside = {key: entry for key, entry in value.items() if key != _WRAPPER}
    if beside:
        tensors = sum(is_tensor(leaf) for _, leaf in _leaves(beside))
        names = ", ".join(str(key)[:60] for key in list(beside)[:_SHOWN])
        message = f"beside {_WRAPPER}, and not read: {names} ({tensors} tensors)"
        found.findings.append(Finding("warning" if tensors else "info", "beside-state-dict", message))
    return value[_WRAPPER]


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    """Paths and values of everything that is no container, in order."""
    nodes = characters = 0
    pending = [iter(_children("", value))]
    while pending:
        path, child = next(pending[-1], (None, None))
        if path is None:
            pending.pop()
            continue
        nodes += 1
        characters += len(path)
        if nodes > _MAX_NODES or characters > _MAX_NAME_CHARS:
            raise HeaderError("the file's dictionaries and lists have more entries, or longer names, than are read")
        if not _is_container(child):
            yield path, child
        elif len(pending) >= _MAX_DEPTH:
            raise HeaderError(f"{path}: dictionaries and lists are nested more than {_MAX_DEPTH} deep; refused")
        else:
            pending.append(iter(_children(f"{path}.", child)))


def _children(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    entries = value.items() if isinstance(value, Mapping) else enumerate(value)
    return ((f"{prefix}{key}", child) for key, child in entries)


def _is_container(value: Any) -> bool:
    # Tensors and names are tuples too.
    return isinstance(value, (Mapping, list)) or type(value) is tuple


def _is_alpha(name: str, value: Any) -> bool:
    """A number that a layer needs, and that a float32 can hold."""
    if not name.endswith(".alpha") or type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value) and bool(struct.pack("<f", float(value)))
    except OverflowError:
        return False
