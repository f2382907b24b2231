"""The ``lora`` command that does what a job does, to copy: inputs and outputs named as roots and names within them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

_FLAGS: Mapping[str, str] = {
    "rank": "--rank", "energy": "--energy", "norm": "--norm", "sum": "--sum", "ratio": "--ratio",
    "absolute": "--absolute", "layer_error": "--layer-error", "sv_ratio": "--sv-ratio", "sv_fro": "--sv-fro",
    "sv_cumulative": "--sv-cumulative", "parameters": "--params", "error": "--error", "conv_rank": "--conv-rank",
    "min_rank": "--min-rank", "max_rank": "--max-rank", "recipe": "--recipe",
}  # fmt: skip
_SWITCHES = {
    "knee": "--knee", "keep_structure": "--keep-structure", "allow_disjoint": "--allow-disjoint",
    "drop_unsupported": "--drop-unsupported",
}  # fmt: skip
_DEFAULTS = {"method": "svd", "dtype": "keep", "alpha": "keep-scale"}


def command_of(kind: str, params: Mapping[str, Any], name_of: Callable[[str], str]) -> str | None:
    """One line for a shell; None for what has no command. ``name_of`` an adapter's id is its ``label/path``."""
    if kind == "resize":
        words = [name_of(params["adapter"]), *_options(params["options"])]
    elif kind == "merge":
        words = [f"{name_of(one['adapter'])}:{one['weight']:g}" for one in params["inputs"]]
        words += _options(params["options"])
    elif kind == "verify":
        return shlex.join(["lora", "inspect", "--hash", "--scan", name_of(params["adapter"])])
    else:
        return None
    return shlex.join(["lora", kind, *words, "-o", f"outputs/{params['output']}"])


def _options(options: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        if name in _FLAGS:
            words += [_FLAGS[name], f"{value:.15g}" if isinstance(value, float) else str(value)]
        elif name == "size":
            words += ["--size", f"{value:.0f}"]
        elif name == "rank_for":
            for pattern, rank in value.items():
                words += ["--rank-for", f"{pattern}={rank}"]
        elif name in _SWITCHES and value:
            words.append(_SWITCHES[name])
        elif name in _DEFAULTS and value != _DEFAULTS[name]:
            words += [f"--{name}", str(value)]
        elif name == "normalize" and not value:
            words.append("--no-normalize")
    return words
