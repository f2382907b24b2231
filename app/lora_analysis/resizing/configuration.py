"""The configuration that ranks and alphas of a resized adapter are read from: PEFT's, its copies, and MLX'."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..adapter import Adapter
from ..formats.adapter_config import PEFT_PREFIX
from .plan import LayerPlan

FACTORED = frozenset({"lora", "adalora", "loha", "lokr", "full"})  # kinds that have a rank once they are resized
_FACTORED_TYPES = frozenset({"LORA", "LOHA", "LOKR", "ADALORA"})
# Fields of PEFT's other configurations that its LoRA does not have.
_NOT_LORA = (
    "alpha", "rank_dropout", "module_dropout", "use_effective_conv2d", "decompose_both", "decompose_factor",
    "rank_dropout_scale", "init_weights", "target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2",
    "orth_reg_weight", "total_step",
)  # fmt: skip
_BASE_LAYER = ".base_layer"  # a second adapted parameter of one module wraps the first


def output_config(adapter: Adapter, layers: Mapping[str, LayerPlan]) -> dict[str, Any] | None:
    """``adapter_config.json`` of the result: unknown fields kept, ranks and alphas corrected. None without one."""
    if adapter.config is None:
        return None
    config = dict(adapter.config)
    if adapter.dialect == "mlx":
        return _mlx_config(config, layers)
    if str(config.get("peft_type", "LORA")).upper() not in _FACTORED_TYPES:
        return config
    new = ranks_and_alphas(config, {_module(name): plan for name, plan in layers.items()})
    return _as_lora(config, layers) | new if new else config


def _module(name: str) -> str:
    """A module as patterns spell it."""
    return name.removeprefix(PEFT_PREFIX).removesuffix(_BASE_LAYER)


def _as_lora(config: dict[str, Any], layers: Mapping[str, LayerPlan]) -> dict[str, Any]:
    """The fields that say LoRA where the layers became it."""
    changed = [plan for plan in layers.values() if plan.is_changed]
    if any(plan.kind != "lora" for plan in changed):
        config = {key: value for key, value in config.items() if key not in _NOT_LORA} | {"peft_type": "LORA"}
    if isinstance(config.get("enable_lora"), list) and changed:  # the parts of a merged linear became one pair
        config = config | {"enable_lora": None}
    return config


def ranks_and_alphas(config: Mapping[str, Any], layers: Mapping[str, LayerPlan]) -> dict[str, Any]:
    """``r``, ``lora_alpha`` and their patterns for these modules: the most common values, and the exceptions."""
    ranked = {name: plan for name, plan in layers.items() if plan.new_rank and plan.kind in FACTORED}
    if not ranked:
        return {}
    power = 0.5 if config.get("use_rslora") is True else 1.0  # what the rank is raised to in alpha / rank
    ranks = {name: int(plan.new_rank or 1) for name, plan in ranked.items()}
    alphas = {name: _plain(plan.scale * ranks[name] ** power) for name, plan in ranked.items()}
    # How many experts a parameter stacks is told by the general rank alone, so theirs is the usual one.
    usual = [name for name, plan in ranked.items() if _is_stacked(plan)] or list(ranked)
    rank, alpha = _most_common(ranks[name] for name in usual), _most_common(alphas[name] for name in usual)
    return {
        "r": int(rank),
        "lora_alpha": alpha,
        "rank_pattern": _pattern(ranks, rank),
        "alpha_pattern": _pattern(alphas, alpha),
    }


def _is_stacked(plan: LayerPlan) -> bool:
    return plan.spelling is not None and plan.spelling.orientation == "parameter-experts"


def _most_common(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0]


def _plain(value: float) -> float:
    """4 rather than 4.0: PEFT's own files hold integers."""
    return int(value) if value == int(value) else value


def _pattern(values: Mapping[str, float], usual: float) -> dict[str, float]:
    """Modules with another value than the usual one, spelled so that PEFT finds each one's own.

    A key is a regular expression, and the first that matches the end of a module's name wins. So longer names come
    first, and a module whose name ends in another's gets an entry even where its value is the usual one.
    """
    exceptions = {name for name, value in values.items() if value != usual}
    listed = exceptions | {name for name in values if any(end in exceptions for end in _proper_ends(name))}
    ordered = sorted(listed, key=lambda name: (-len(name), name))
    return {_key(name): values[name] for name in ordered}


def _proper_ends(name: str) -> Iterable[str]:
    """What follows each dot of a module's name."""
    parts = name.split(".")
    return (".".join(parts[start:]) for start in range(1, len(parts)))


def _key(name: str) -> str:
    """The name itself, which every version of PEFT looks up, unless its characters mean something else."""
    return name if re.fullmatch(r"[\w.]+", name) else re.escape(name)


def _mlx_config(config: dict[str, Any], layers: Mapping[str, LayerPlan]) -> dict[str, Any]:
    """MLX has one rank, and one scale that multiplies as it is."""
    parameters = config.get("lora_parameters")
    changed = [plan for plan in layers.values() if plan.is_changed]
    if not isinstance(parameters, dict) or not changed:
        return config
    stated = {"rank": int(changed[0].new_rank or 1)} | ({"scale": changed[0].scale} if "scale" in parameters else {})
    return config | {"lora_parameters": parameters | stated}
