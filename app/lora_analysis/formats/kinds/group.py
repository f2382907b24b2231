"""The tensors of one module, and what a kind of update makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ...adapter import EMPTY, TensorInfo, TensorSource, Update
from ...errors import MissingFactorError, ShapeError

if TYPE_CHECKING:
    from ...adapter import FloatArray

Outline = tuple[int | None, int | None, tuple[int, ...]]  # out, in, kernel: as far as the file tells


class Group(NamedTuple):
    """One module's tensors by role (``down``, ``up``, ``mid``, ``alpha``, ...)."""

    name: str
    keys: Mapping[str, str]  # role -> tensor name
    source: TensorSource
    config: Mapping[str, Any] = EMPTY  # adapter_config.json, or the header's copy

    def has(self, role: str) -> bool:
        return role in self.keys

    def info(self, role: str) -> TensorInfo:
        """The header entry of ``role``. Raises: MissingFactorError naming the module and the tensor."""
        key = self.keys.get(role)
        if key is None:
            present = ", ".join(sorted(self.keys))
            raise MissingFactorError(f"{self.name}: {role} is missing beside {present}; the file may be truncated")
        return self.source.tensors[key]

    def shape(self, role: str) -> tuple[int, ...]:
        return self.info(role).shape

    def matrix_shape(self, role: str) -> tuple[int, int]:
        """``(rows, everything else)``. Raises: ShapeError where the tensor has no second dimension."""
        shape = self.shape(role)
        if len(shape) < 2:
            raise ShapeError(f"{self.name}: {role} has shape {list(shape)}; a factor needs two dimensions")
        return shape[0], prod(shape[1:])

    def array(self, role: str) -> FloatArray:
        """The stored tensor, in its stored dtype."""
        return self.source.array(self.keys[role])

    def matrix(self, role: str) -> FloatArray:
        """The stored tensor as ``(rows, everything else)``."""
        array = self.array(role)
        return array.reshape(array.shape[0], prod(array.shape[1:]))  # not -1: it fails on empty tensors


@dataclass(frozen=True, slots=True, eq=False)
class Described:
    """What the header alone says about a module's update: the same for all modules of the same roles and shapes."""

    kind: str
    shape: tuple[int, ...] | None  # of the delta; None where only the base weight knows
    load: Callable[[Group, float], Update]  # reads the arrays of such a module; the number is the resolved scale
    rank: int | None = None  # stored rank
    divisor: float | None = None  # alpha / divisor is the scale; None: alpha has no effect
    opaque: str | None = None
    experts: int = 0  # matrices stacked in one parameter
    outline: Outline | None = None  # what is known of the base weight where ``shape`` is None


@dataclass(frozen=True, slots=True)
class Kind:
    """One algorithm's spelling and meaning. ``marks`` are the roles that make a module this kind."""

    name: str
    tails: Mapping[str, str]  # the end of a tensor name -> role
    marks: frozenset[str]
    describe: Callable[[Group], Described]


def require(condition: bool, group: Group, what: str) -> None:
    """Raises: ShapeError naming the module unless ``condition`` holds."""
    if not condition:
        raise ShapeError(f"{group.name}: {what}")
