"""A resize as people ask for it, ``rank=32`` or ``energy=0.95``, as options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .options import Budget, BudgetKind, ResizeOptions

if TYPE_CHECKING:
    from ..linalg.rank import RankChoice

# The word asked with -> the rule in linalg/rank.py. sd-scripts' own words stand for its own answers.
RULES: Mapping[str, str] = {
    "rank": "fixed",
    "energy": "energy",
    "norm": "norm",
    "sum": "sum",
    "ratio": "ratio",
    "absolute": "absolute",
    "layer_error": "error",
    "knee": "knee",
    "sv_ratio": "sd_scripts:sv_ratio",
    "sv_fro": "sd_scripts:sv_fro",
    "sv_cumulative": "sd_scripts:sv_cumulative",
}
BUDGETS: tuple[BudgetKind, ...] = ("size", "parameters", "error")
_OTHERS = (
    "recipe",
    "base",
    "conv_rank",
    "rank_for",
    "min_rank",
    "max_rank",
    "method",
    "dtype",
    "alpha",
    "keep_structure",
)


def options_of(**asked: Any) -> ResizeOptions:
    """Options from keywords; what is None counts as not asked for.

    One of ``rank``, ``energy``, ``norm``, ``sum``, ``ratio``, ``absolute``, ``layer_error``, ``knee`` (True),
    ``sv_ratio``, ``sv_fro``, ``sv_cumulative`` (rules per layer), ``size`` (bytes), ``parameters``, ``error`` (budgets
    for the whole adapter) or ``recipe`` (with ``base``, a checkpoint, for its scores ``spn_ckpt`` and ``fro_ckpt``).
    Further ``conv_rank``, ``rank_for`` ({glob: rank}), ``min_rank``, ``max_rank``, ``method``, ``dtype``, ``alpha``,
    ``keep_structure``.

    Raises: OptionError for what is unknown, no number, or contradicts itself.
    """
    given = {key: value for key, value in asked.items() if value is not None and value is not False}
    known = (*RULES, *BUDGETS, *_OTHERS)
    unknown = [key for key in given if key not in known]
    if unknown:
        raise OptionError(f"no option of a resize is named {unknown[0]!r}; there are {', '.join(known)}")
    ways = [key for key in (*RULES, *BUDGETS, "recipe") if key in given]
    if len(ways) != 1:
        raise OptionError(
            f"{_listed(ways)} choose ranks; give one of them"
            if ways
            else "nothing says which ranks to choose; give rank, energy, size, error, ..."
        )
    found: dict[str, Any] = _way(ways[0], given[ways[0]])
    if "conv_rank" in given:
        found["conv_choice"] = _choice("rank", given["conv_rank"])
    found["table"] = _table(given.get("rank_for", {}))
    found["floor"] = _whole("min_rank", given.get("min_rank", 1))
    if "max_rank" in given:
        found["cap"] = _whole("max_rank", given["max_rank"])
    passed_on = {key: given[key] for key in ("base", "method", "dtype", "alpha", "keep_structure") if key in given}
    return ResizeOptions(**found, **passed_on)


def _way(name: str, value: Any) -> dict[str, Any]:
    if name == "recipe":
        from .recipes import parse_recipe

        return {"recipe": parse_recipe(str(value))}
    for kind in BUDGETS:
        if name == kind:
            return {"budget": Budget(kind, _number(name, value))}
    return {"choice": _choice(name, value)}


def _choice(name: str, value: Any) -> RankChoice:
    from ..linalg.rank import RankChoice

    if name == "rank":
        return RankChoice("fixed", _whole(name, value))
    return RankChoice(RULES[name], 0.0 if name == "knee" else _number(name, value))


def _table(ranks: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(ranks, Mapping):
        raise OptionError(f"rank_for is {ranks!r}; it must be a mapping of patterns of layer names to ranks")
    return tuple((str(pattern), _whole(f"the rank for {pattern}", rank)) for pattern, rank in ranks.items())


def _whole(name: str, value: Any) -> int:
    """Raises: OptionError where the value is no whole number of at least 1."""
    number = _number(name, value)
    if number != int(number) or number < 1:
        raise OptionError(f"{name} is {number:.12g}; it must be a whole number of at least 1")
    return int(number)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, bool) or number in (float("inf"), float("-inf")) or number != number:
        raise OptionError(f"{name} is {value!r}; it must be a number")
    return number


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
