"""What ``adapter_config.json`` (PEFT, MLX) or its copy in a header says about one module.

PEFT 0.21: the scale is ``lora_alpha / r``, with ``use_rslora`` ``lora_alpha / sqrt(r)``; ``alpha_pattern`` and
``rank_pattern`` override per module, resolved independently of each other. A pattern's key is a regular
expression, matched against the end of the module's name; see :func:`pattern_value`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite, sqrt
from typing import Any

PEFT_PREFIX = "base_model.model."
_DEFAULT_ALPHA = 8  # PEFT's default for lora_alpha and alpha, where a config leaves it out
_MAX_PATTERN = 500  # characters
_MAX_UNBOUNDED = 3  # "*", "+" and "{n,}" in one pattern: more can take exponential or high polynomial time
_REPEATED_GROUP = re.compile(r"\)[*+{]")  # backtracking over a repeated group can be exponential


def number(value: Any) -> float | None:
    """``value`` as a finite number, or None. Strings count where they spell one; booleans do not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if isfinite(result) else None


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str] | None:
    """The pattern, or None where it is no regular expression or could run for ever on a module name."""
    unbounded = len(re.findall(r"(?<!\\)[*+]|\{\d*,\}", pattern))
    if len(pattern) > _MAX_PATTERN or unbounded > _MAX_UNBOUNDED or _REPEATED_GROUP.search(pattern) or r"\1" in pattern:
        return None
    try:
        return re.compile(rf"(?:.*\.)?(?:{pattern})\Z")
    except (re.error, RecursionError, OverflowError):
        return None


def unusable_patterns(config: Mapping[str, Any]) -> list[str]:
    """Keys of ``rank_pattern`` and ``alpha_pattern`` that are not run: broken, or too costly to be safe."""
    return [
        key
        for name in ("rank_pattern", "alpha_pattern")
        for key in _patterns(config, name)
        if _compile(key) is None
    ]  # fmt: skip


def _patterns(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = config.get(name)
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def pattern_value(config: Mapping[str, Any], name: str, module: str) -> float | None:
    """The first entry of ``rank_pattern`` or ``alpha_pattern`` that matches the module, in the file's order."""
    for key, value in _patterns(config, name).items():
        compiled = _compile(key)
        if compiled is not None and compiled.match(module):
            return number(value)
    return None


def configured_rank(config: Mapping[str, Any], module: str) -> float | None:
    """``r`` of this module, or None where the config does not say (or says nonsense)."""
    rank = pattern_value(config, "rank_pattern", module)
    return rank if rank is not None else number(config.get("r"))


def configured_alpha(config: Mapping[str, Any], module: str) -> float | None:
    """``lora_alpha`` (LoRA) or ``alpha`` (LoHa, LoKr) of this module; PEFT's default where it is left out."""
    alpha = pattern_value(config, "alpha_pattern", module)
    if alpha is None:
        for name in ("lora_alpha", "alpha"):
            alpha = number(config.get(name))
            if alpha is not None:
                break
    if alpha is None and "peft_type" in config and not {"lora_alpha", "alpha"} & config.keys():
        return float(_DEFAULT_ALPHA)
    return alpha


def configured_scale(config: Mapping[str, Any], module: str, divisor: float | None) -> tuple[float, float] | None:
    """``(alpha, scale)`` by the config, or None. ``divisor``: the stored rank, None where both LoKr sides are whole."""
    alpha = configured_alpha(config, module)
    if divisor is None or str(config.get("peft_type", "")).upper() == "LOKR":
        divisor = configured_rank(config, module)  # PEFT's LoKr divides by the config's r, whole sides or not
    if alpha is None or not divisor or divisor < 0:
        return None
    return alpha, alpha / (sqrt(divisor) if config.get("use_rslora") is True else divisor)


def is_full_fine_tune(config: Mapping[str, Any] | None) -> bool:
    """Whether mlx-lm trained whole parameters and saved those (mlx-lm ``tuner/utils.py``, ``fine_tune_type``)."""
    return config is not None and config.get("fine_tune_type") == "full" and "peft_type" not in config


def mlx_scale(config: Mapping[str, Any]) -> float | None:
    """MLX applies ``lora_parameters.scale`` as it is; an alpha beside it has no effect (mlx-lm ``tuner/lora.py``)."""
    parameters = config.get("lora_parameters")
    return number(parameters.get("scale")) if isinstance(parameters, Mapping) else None
