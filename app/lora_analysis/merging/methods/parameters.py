"""The numbers that methods take, what each means, and which values are allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from ...errors import OptionError
from .method import Method


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; ``read`` returns the value in its type or raises ValueError."""

    says: str
    read: Callable[[Any], Any]
    needed: str  # what a value must be, in words


def _within(low: float, high: float, *, above: bool = False) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = _number(value)
        if not (low < number if above else low <= number) or number > high:
            raise ValueError
        return number

    return read


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if not isfinite(number):
        raise ValueError
    return number


def _positive(value: Any) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError
    return number


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number) or not 0 <= number < 2**63:
        raise ValueError
    return int(number)


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return read


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


CORE_RULES = ("ties", "dare_linear", "sum")
PARAMETERS: Mapping[str, Parameter] = {
    "density": Parameter("fraction of entries that are kept", _within(0, 1, above=True), "above 0, at most 1"),
    "epsilon": Parameter("half the range of probabilities around the density", _within(0, 1), "from 0 to 1"),
    "threshold": Parameter(
        "entries are compared within each layer, or over all layers of an adapter",
        _one_of("layer", "global"),
        "layer or global",
    ),
    "seed": Parameter("of the random numbers", _whole, "a whole number of at least 0"),
    "lambda": Parameter("factor on the merged delta", _number, "a finite number"),
    "alpha": Parameter("factor on the published formula, instead of the norm being matched", _positive, "above 0"),
    "beta": Parameter("how far values are drawn to their mean", _within(0, 1), "from 0 to 1"),
    "common": Parameter("fraction of directions for what the tasks share", _within(0, 1, above=True), "above 0 to 1"),
    "core_rule": Parameter("how coordinates are merged", _one_of(*CORE_RULES), ", ".join(CORE_RULES)),
    "pico": Parameter("damp shared output directions first", _flag, "True or False"),
    "svc": Parameter("calibrate singular values afterwards", _flag, "True or False"),
    "svc_floor": Parameter("smallest share that a task may have", _positive, "above 0"),
}
# What every method takes that is not another tool's.
COMMON: Mapping[str, Any] = {"lambda": 1.0, "pico": False, "svc": False, "svc_floor": 0.1}


def settings_of(method: Method, asked: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of the method, those asked for checked, the others at their defaults.

    Raises: OptionError for a parameter the method does not have, and for a value that is not allowed.
    """
    known = {**({} if method.is_compatibility else COMMON), **method.parameters}
    found = dict(known)
    for name, value in asked.items():
        if value is None:
            continue
        if name not in known:
            takes = ", ".join(known) or "none"
            raise OptionError(f"{name} has no meaning for {method.name}; its parameters: {takes}")
        try:
            found[name] = PARAMETERS[name].read(value)
        except (TypeError, ValueError, OverflowError):
            raise OptionError(f"{name} is {value!r}; it must be {PARAMETERS[name].needed}") from None
    if "svc_floor" in asked and asked["svc_floor"] is not None and not found.get("svc"):
        raise OptionError("svc_floor belongs to svc, which was not asked for")
    if method.check is not None:
        method.check(found)
    return found
