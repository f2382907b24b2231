"""The ``lora`` command that does what a job does, to copy: inputs and outputs named as roots and names within them."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from .naming import report_name

_FLAGS: Mapping[str, str] = {
    "rank": "--rank", "energy": "--energy", "norm": "--norm", "sum": "--sum", "ratio": "--ratio",
    "absolute": "--absolute", "layer_error": "--layer-error", "sv_ratio": "--sv-ratio", "sv_fro": "--sv-fro",
    "sv_cumulative": "--sv-cumulative", "parameters": "--params", "error": "--error", "conv_rank": "--conv-rank",
    "min_rank": "--min-rank", "max_rank": "--max-rank", "recipe": "--recipe", "density": "--density",
    "epsilon": "--epsilon", "threshold": "--threshold", "seed": "--seed", "lambda": "--lambda", "beta": "--beta",
    "common": "--common", "core_rule": "--core-rule", "svc_floor": "--svc-floor",
    "to": "--to", "uniform_rank": "--uniform-rank", "component": "--component", "family": "--base-model",
    "power": "--power",
}  # fmt: skip
_SWITCHES = {
    "knee": "--knee", "keep_structure": "--keep-structure", "allow_disjoint": "--allow-disjoint",
    "drop_unsupported": "--drop-unsupported", "pico": "--pico", "plain": "--plain", "bake_scale": "--bake-scale",
    "drop": "--drop", "svc": "--svc", "full_norms": "--full-norms",
}  # fmt: skip
_NAMED = ("method", "dtype", "alpha", "metadata")
_UNSAID_OF_EXTRACT = (("to", "kohya"), ("max_rank", 256), ("dtype", "fp16"), ("seed", 0), ("power", 3))
_UNSAID = (
    ("method", "svd"),
    ("method", "weighted_sum"),
    ("dtype", "keep"),
    ("alpha", "keep-scale"),
    ("metadata", "fresh"),
)


def command_of(kind: str, params: Mapping[str, Any], name_of: Callable[[str], str]) -> str | None:
    """One line for a shell; None for what has no command. ``name_of`` an adapter's id is its ``label/path``."""
    if kind == "resize":
        words = [name_of(params["adapter"]), *_options(params["options"]), *_base(params, name_of)]
    elif kind == "merge":
        words = [f"{name_of(one['adapter'])}:{_text(one['weight'])}" for one in params["inputs"]]
        for number, one in enumerate(params["inputs"], start=1):
            if "layer_weights" in one:
                words += ["--layer-weights", f"{number}:{one['layer_weights']}"]
        words += [*_options(params["options"]), *_base(params, name_of)]
    elif kind == "convert":
        words = [name_of(params["adapter"]), *_options(params["options"])]
    elif kind == "bake":
        words = [name_of(params["base"])]
        words += [f"{name_of(one['adapter'])}:{_text(one['weight'])}" for one in params["inputs"]]
        words += _options(params["options"])
    elif kind == "extract":
        words = [name_of(params["tuned"]), name_of(params["base"]), *_extract_options(params["options"])]
    elif kind == "verify":
        return shlex.join(["lora", "inspect", "--hash", "--scan", name_of(params["adapter"])])
    elif kind == "base-spectrum":
        return shlex.join(["lora", "spectrum", name_of(params["adapter"]), *_base(params, name_of)])
    elif kind == "report":
        place = name_of(params["adapter"])
        return shlex.join(["lora", "report", place, "-o", f"outputs/{report_name(posixpath.basename(place))}"])
    else:
        return None
    return shlex.join(["lora", kind, *words, "-o", f"outputs/{params['output']}"])


def _extract_options(options: Mapping[str, Any]) -> list[str]:
    """Without what the command does anyway."""
    stated = {name: value for name, value in options.items() if (name, value) not in _UNSAID_OF_EXTRACT}
    return _options(stated)


def _base(params: Mapping[str, Any], name_of: Callable[[str], str]) -> list[str]:
    return ["--base", name_of(params["base"])] if "base" in params else []


def _options(options: Mapping[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in options.items():
        if name in _FLAGS:
            words += [_FLAGS[name], _text(value)]
        elif name == "size":
            words += ["--size", str(int(value))]
        elif name == "rank_for":
            for pattern, rank in value.items():
                words += ["--rank-for", f"{pattern}={rank}"]
        elif name in _SWITCHES and value:
            words.append(_SWITCHES[name])
        elif name in _NAMED and (name, value) not in _UNSAID:
            words += [f"--{name}", _text(value)]
        elif name == "normalize":
            words.append("--normalize" if value else "--no-normalize")
    return words


def _text(value: Any) -> str:
    """A number so that it is read back as the same one."""
    if not isinstance(value, float):
        return str(value)
    short = f"{value:.15g}"
    return short if float(short) == value else repr(value)
