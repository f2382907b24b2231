"""The header of a resized adapter: what became false is corrected, the rest is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..adapter import Adapter
from ..errors import FormatError
from ..formats.digests import PLACEHOLDERS, request_hashes
from ..formats.headers.trainers import OPERATION_KEY
from ..formats.scale import StatedScales
from ..formats.strict_json import dumps, loads
from .configuration import FACTORED, ranks_and_alphas
from .options import ResizeOptions
from .plan import LayerPlan
from .provenance import HISTORY_KEY, history

_DYNAMIC = "Dynamic"  # sd-scripts' word for ranks that differ from layer to layer


def output_metadata(
    adapter: Adapter, options: ResizeOptions, layers: Mapping[str, LayerPlan], stated: StatedScales
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The output's header metadata, and remarks on what was changed in it beyond ranks and alphas."""
    metadata, remarks = _as_text(adapter.metadata)
    metadata = request_hashes(metadata)
    metadata.setdefault("sshs_model_hash", PLACEHOLDERS["sshs_model_hash"])
    _correct_network(metadata, adapter, layers)
    _correct_components(metadata, layers, stated)
    metadata[OPERATION_KEY] = "resize"
    metadata[HISTORY_KEY] = history(adapter, "resize", options.to_dict())
    return metadata, remarks


def _as_text(metadata: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Values that are no text (GGUF has typed ones) as JSON: a safetensors header holds nothing else."""
    text = {key: value if isinstance(value, str) else dumps(value) for key, value in metadata.items()}
    changed = [key for key, value in metadata.items() if not isinstance(value, str)]
    if not changed:
        return text, ()
    return text, (f"{len(changed)} header values that were no text are written as JSON, e.g. {changed[0]}",)


# -- kohya's words -----------------------------------------------------------------------------------


def _correct_network(metadata: dict[str, str], adapter: Adapter, layers: Mapping[str, LayerPlan]) -> None:
    """``ss_network_dim`` and its relatives; where the trainer named convolutions apart, they are told apart here."""
    convolutions = [plan for name, plan in layers.items() if adapter.layers[name].is_conv]
    others = [plan for name, plan in layers.items() if not adapter.layers[name].is_conv]
    arguments = _network_args(metadata)
    tells_apart = "conv_dim" in arguments and _ranks(others)
    general = others if tells_apart else list(layers.values())
    if _ranks(general):
        metadata["ss_network_dim"] = metadata["ss_network_rank"] = _common(_ranks(general))
        metadata["ss_network_alpha"] = _common(_alphas(general))
    if _ranks(convolutions):
        corrected = {"conv_dim": _common(_ranks(convolutions)), "conv_alpha": _common(_alphas(convolutions))}
        arguments.update({key: value for key, value in corrected.items() if key in arguments})
    if "algo" in arguments and any(plan.is_changed and plan.kind != "lora" for plan in layers.values()):
        arguments["algo"] = "lora"
    if arguments:
        metadata["ss_network_args"] = dumps(arguments)


def _network_args(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The trainer's arguments; empty where they cannot be read, which the header parser reports."""
    try:
        arguments = loads(metadata.get("ss_network_args", "null"), what="ss_network_args")
    except FormatError:
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _ranks(layers: Iterable[LayerPlan]) -> list[int]:
    return [plan.new_rank for plan in layers if plan.new_rank and plan.kind in FACTORED]


def _alphas(layers: Iterable[LayerPlan]) -> list[float]:
    return [plan.new_rank * plan.scale for plan in layers if plan.new_rank and plan.kind in FACTORED]


def _common(values: Iterable[float]) -> str:
    """The one value, or ``Dynamic``."""
    found = {f"{value:.6g}" for value in values}
    return found.pop() if len(found) == 1 else _DYNAMIC


# -- configurations inside the header ------------------------------------------------------------------


def _correct_components(metadata: dict[str, str], layers: Mapping[str, LayerPlan], stated: StatedScales) -> None:
    """diffusers' ``lora_adapter_metadata`` and SimpleTuner's flat pairs, per component."""
    document = _adapter_document(metadata)
    for component, config in stated.components.items():
        prefix = f"{component}." if component else ""
        own = {
            name.removeprefix(prefix): plan
            for name, plan in layers.items()
            if stated.config_for(name) is config
        }  # fmt: skip
        new = ranks_and_alphas(config, own)
        if not new:
            continue
        if document is not None and any(f"{prefix}{key}" in document for key in ("lora_alpha", "alpha")):
            document.update({prefix + key: value for key, value in new.items()})
        if f"{prefix}lora_alpha" in metadata:
            metadata[f"{prefix}lora_alpha"] = f"{new['lora_alpha']:.17g}"
            if f"{prefix}r" in metadata:
                metadata[f"{prefix}r"] = str(new["r"])
    if document is not None:
        metadata["lora_adapter_metadata"] = dumps(document)


def _adapter_document(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    try:
        document = loads(metadata.get("lora_adapter_metadata", "null"), what="lora_adapter_metadata")
    except FormatError:  # nothing was read from it either
        return None
    return document if isinstance(document, dict) else None
