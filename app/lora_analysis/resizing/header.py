"""The header and configuration of a resized adapter: what became false is corrected, the rest is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .. import __version__
from ..adapter import Adapter
from ..errors import FormatError
from ..formats.adapter_config import PEFT_PREFIX
from ..formats.digests import PLACEHOLDERS, request_hashes
from ..formats.strict_json import dumps, loads
from .options import ResizeOptions
from .plan import LayerPlan

HISTORY_KEY = "lora_analysis.history"
OPERATION_KEY = "lora_analysis.operation"
_DYNAMIC = "Dynamic"  # sd-scripts' word for ranks that differ from layer to layer
_FACTORED = frozenset({"lora", "adalora", "loha", "lokr", "full"})


def output_metadata(
    adapter: Adapter, options: ResizeOptions, layers: Mapping[str, LayerPlan]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The output's header metadata, and remarks on what was dropped from it."""
    metadata = {key: value for key, value in adapter.metadata.items() if isinstance(value, str)}
    metadata = request_hashes(metadata)
    metadata.setdefault("sshs_model_hash", PLACEHOLDERS["sshs_model_hash"])
    ranks = _ranks(layers.values())
    if ranks:
        metadata["ss_network_dim"] = metadata["ss_network_rank"] = _common(ranks)
        metadata["ss_network_alpha"] = _common(_alphas(options, layers.values()))
    _correct_network_args(metadata, adapter, layers)
    notes = _correct_adapter_metadata(metadata, adapter, options, layers)
    metadata[OPERATION_KEY] = "resize"
    metadata[HISTORY_KEY] = _history(metadata.get(HISTORY_KEY), adapter, options)
    return metadata, notes


def _ranks(layers: Iterable[LayerPlan]) -> list[int]:
    return [layer.new_rank for layer in layers if layer.new_rank and layer.kind in _FACTORED]


def _alphas(options: ResizeOptions, layers: Iterable[LayerPlan]) -> list[float]:
    return [
        layer.new_rank * (layer.scale if options.alpha == "keep-scale" else 1.0)
        for layer in layers
        if layer.new_rank and layer.kind in _FACTORED
    ]


def _common(values: Iterable[float]) -> str:
    """The one value, or ``Dynamic``."""
    found = set(values)
    return f"{found.pop():g}" if len(found) == 1 else _DYNAMIC


def _correct_network_args(metadata: dict[str, str], adapter: Adapter, layers: Mapping[str, LayerPlan]) -> None:
    """``conv_dim`` and ``conv_alpha`` describe the convolutions' rank; other arguments stay."""
    try:
        arguments = loads(metadata.get("ss_network_args", "null"), what="ss_network_args")
    except FormatError:
        return  # the header parser reports it; what cannot be read cannot be corrected
    if not isinstance(arguments, dict) or "conv_dim" not in arguments:
        return
    convolutions = [layers[name] for name, layer in adapter.layers.items() if layer.is_conv and name in layers]
    if convolutions:
        arguments["conv_dim"] = _common(_ranks(convolutions))
        if "conv_alpha" in arguments:
            arguments["conv_alpha"] = _common(plan.new_rank * plan.scale for plan in convolutions if plan.new_rank)
        metadata["ss_network_args"] = dumps(arguments)


# -- configurations that hold rank and alpha ---------------------------------------------------------------


def _correct_adapter_metadata(
    metadata: dict[str, str], adapter: Adapter, options: ResizeOptions, layers: Mapping[str, LayerPlan]
) -> tuple[str, ...]:
    """diffusers' ``lora_adapter_metadata`` and SimpleTuner's flat pairs, per component."""
    try:
        document = loads(metadata.get("lora_adapter_metadata", "null"), what="lora_adapter_metadata")
    except FormatError:
        document = None
    components = {name.partition(".")[0] for name in layers}
    for component in components:
        own = {name.partition(".")[2]: plan for name, plan in layers.items() if name.startswith(f"{component}.")}
        prefix = f"{component}."
        if isinstance(document, dict) and f"{prefix}lora_alpha" in document:
            new = _with_ranks({key: document.get(prefix + key) for key in ("use_rslora",)}, own, options)
            document.update({prefix + key: value for key, value in new.items()})
        if f"{prefix}lora_alpha" in metadata and f"{prefix}r" in metadata:
            new = _with_ranks({}, own, options)
            metadata[f"{prefix}r"], metadata[f"{prefix}lora_alpha"] = str(new["r"]), f"{new['lora_alpha']:g}"
    if isinstance(document, dict):
        metadata["lora_adapter_metadata"] = dumps(document)
    return _drop_bare_alpha(metadata)


def _drop_bare_alpha(metadata: dict[str, str]) -> tuple[str, ...]:
    """One alpha for the whole file cannot stay true once ranks differ; the factors hold the scale instead."""
    dropped = tuple(key for key in ("alpha", "lora_alpha", "network_alpha") if key in metadata)
    for key in dropped:
        del metadata[key]
    return tuple(f"header value {key} was removed: the scale is in the factors now" for key in dropped)


def output_config(adapter: Adapter, options: ResizeOptions, layers: Mapping[str, LayerPlan]) -> dict[str, Any] | None:
    """``adapter_config.json`` of the result: unknown fields kept, ranks and alphas corrected."""
    if adapter.config is None:
        return None
    config = dict(adapter.config)
    if adapter.dialect == "mlx":
        return _mlx_config(config, layers)
    if str(config.get("peft_type", "LORA")).upper() in ("LORA", "LOHA", "LOKR", "ADALORA") and _ranks(layers.values()):
        own = {name.removeprefix(PEFT_PREFIX): plan for name, plan in layers.items()}
        config.update(_with_ranks(config, own, options))
        config.update(_as_lora(config, layers))
    return config


def _as_lora(config: Mapping[str, Any], layers: Mapping[str, LayerPlan]) -> dict[str, Any]:
    """Fields that say LoRA where the layers became it."""
    changed = [plan for plan in layers.values() if plan.is_changed]
    fields: dict[str, Any] = {}
    if any(plan.kind != "lora" for plan in changed):
        fields["peft_type"] = "LORA"
    if isinstance(config.get("enable_lora"), list) and changed:
        fields["enable_lora"] = None
    return fields


def _with_ranks(config: Mapping[str, Any], layers: Mapping[str, LayerPlan], options: ResizeOptions) -> dict[str, Any]:
    """``r``, ``lora_alpha`` and their patterns for these layers: the most common value, and the exceptions."""
    ranked = {name: plan for name, plan in layers.items() if plan.new_rank and plan.kind in _FACTORED}
    if not ranked:
        return {}
    rslora = config.get("use_rslora") is True
    ranks = {name: int(plan.new_rank or 1) for name, plan in ranked.items()}
    alphas = {name: plan.scale * (ranks[name] ** 0.5 if rslora else ranks[name]) for name, plan in ranked.items()}
    rank, alpha = _most_common(ranks.values()), _most_common(alphas.values())
    return {
        "r": int(rank),
        "lora_alpha": _plain(alpha),
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: _plain(value) for name, value in alphas.items() if value != alpha},
    }


def _most_common(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0]


def _plain(value: float) -> float | int:
    """4 rather than 4.0: PEFT's own files hold integers."""
    return int(value) if value == int(value) else value


def _mlx_config(config: dict[str, Any], layers: Mapping[str, LayerPlan]) -> dict[str, Any]:
    """MLX states one rank, for information; the scale is absolute and does not change with it."""
    parameters = config.get("lora_parameters")
    ranks = _ranks(layers.values())
    if isinstance(parameters, dict) and ranks:
        config["lora_parameters"] = {**parameters, "rank": int(_most_common(ranks))}
    return config


# -- provenance --------------------------------------------------------------------------------------


def _history(old: str | None, adapter: Adapter, options: ResizeOptions) -> str:
    """The record of every operation so far, with this one added."""
    try:
        records = loads(old, what=HISTORY_KEY) if old else []
    except FormatError:
        records = [{"unreadable": True}]
    record = {
        "operation": "resize",
        "options": options.to_dict(),
        "version": __version__,
        "inputs": [_input_record(adapter)],
    }
    return dumps([*(records if isinstance(records, list) else [records]), record])


def _input_record(adapter: Adapter) -> dict[str, Any]:
    """What identifies the input without its path: a path can name a person."""
    stated = adapter.metadata.get("sshs_model_hash")
    record: dict[str, Any] = {"size": adapter.source.size}
    if isinstance(stated, str):
        record["stated_model_hash"] = stated
    return record
