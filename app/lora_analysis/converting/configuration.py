"""What the target says beside its tensors: adapter_config.json, diffusers' copy of it in the header, kohya's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..adapter import Adapter
from ..formats.adapter_config import PEFT_PREFIX
from ..formats.digests import PLACEHOLDERS, request_hashes
from ..formats.headers.trainers import OPERATION_KEY
from ..formats.strict_json import dumps
from ..resizing.configuration import ranks_and_alphas
from ..resizing.plan import LayerPlan as Ranked
from ..resizing.provenance import HISTORY_KEY, history
from .options import ConvertOptions
from .plan import LayerPlan

# What a header says about scales in other dialects: true of the input's names, and read before the output's own.
_STATED_ELSEWHERE = ("lora_adapter_metadata", "lora_alpha", "alpha", "network_alpha", "adapter.lora.alpha")
_NOT_LORA = frozenset(
    {
        "alpha", "rank_dropout", "module_dropout", "use_effective_conv2d", "decompose_both", "decompose_factor",
        "rank_dropout_scale", "init_weights", "target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2",
        "orth_reg_weight", "total_step", "enable_lora", "merge_weights",
    }
)  # fmt: skip
_KOHYA_MODULES = {
    "flux1": "networks.lora_flux", "chroma": "networks.lora_flux", "lumina2": "networks.lora_lumina",
    "sd3-medium": "networks.lora_sd3", "sd35-medium": "networks.lora_sd3", "sd35-large": "networks.lora_sd3",
    "anima": "networks.lora_anima", "wan": "networks.lora_wan", "qwen-image": "networks.lora_qwen_image",
}  # fmt: skip


def output_config(
    adapter: Adapter, layers: Mapping[str, LayerPlan], experts: bool, *, keeps_experts: bool
) -> dict[str, Any]:
    """``adapter_config.json`` of a PEFT folder: the input's own fields where it was PEFT's, ranks and alphas exact."""
    known = {key: value for key, value in (adapter.config or {}).items() if key not in _NOT_LORA}
    if adapter.dialect != "peft":
        known = {}
    config = {
        "base_model_name_or_path": None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "task_type": None,
        **known,
    }
    return config | lora_config(layers, PEFT_PREFIX, known if keeps_experts and experts else {})


def lora_config(layers: Mapping[str, LayerPlan], prefix: str, kept: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of PEFT's ``LoraConfig`` that say what these layers are. ``prefix`` is cut from their names."""
    names = {name.removeprefix(prefix): plan for name, plan in layers.items()}
    ranked = {name: _ranked(name, plan) for name, plan in names.items() if plan.rank}
    has_bias = any(one.tensor.name.endswith(".lora_B.bias") for plan in layers.values() for one in plan.tensors)
    config = {
        "peft_type": "LORA",
        "target_modules": kept.get("target_modules", target_modules(names)),
        "use_rslora": False,
        "use_dora": any(one.tensor.name.endswith("_vector") for plan in layers.values() for one in plan.tensors),
        **ranks_and_alphas({}, ranked),
    }
    return config | ({"lora_bias": True} if has_bias else {})


def _ranked(name: str, plan: LayerPlan) -> Ranked:
    # The alpha itself and not scale * rank: its last bit is the input's.
    scale = plan.alpha / plan.rank if plan.alpha is not None and plan.rank else plan.scale
    return Ranked(name, "lora", "keep", plan.rank, plan.rank, scale)


def target_modules(names: Iterable[str]) -> list[str]:
    """PEFT's list: the last words where every block has the same modules, as people write it; else whole names."""
    blocks: dict[str, set[str]] = {}
    whole = sorted(names)
    for name in whole:
        parts = name.split(".")
        places = [place for place, part in enumerate(parts) if part.isdigit()]
        if len(places) != 1 or places[0] == len(parts) - 1:
            return whole
        blocks.setdefault(".".join(parts[: places[0] + 1]), set()).add(".".join(parts[places[0] + 1 :]))
    indices = sorted(int(block.rpartition(".")[2]) for block in blocks)
    endings = list(blocks.values())
    is_regular = bool(endings) and all(one == endings[0] for one in endings) and indices == list(range(len(indices)))
    return sorted({ending.rpartition(".")[2] for ending in endings[0]}) if is_regular else whole


def output_metadata(
    adapter: Adapter, options: ConvertOptions, layers: Mapping[str, LayerPlan], family: str
) -> dict[str, str]:
    """The output's header: the input's words, without those about scales that are no longer its own."""
    metadata = {
        key: value if isinstance(value, str) else dumps(value)
        for key, value in adapter.metadata.items()
        if key not in _STATED_ELSEWHERE and not key.endswith((".lora_alpha", ".r"))
    }
    metadata = request_hashes(metadata)
    metadata.setdefault("sshs_model_hash", PLACEHOLDERS["sshs_model_hash"])
    _correct_kohya(metadata, options, layers, family)
    if options.to == "diffusers":
        metadata["format"] = "pt"
        metadata["lora_adapter_metadata"] = dumps(component_configs(layers))
    metadata[OPERATION_KEY] = "convert"
    metadata[HISTORY_KEY] = history(adapter, "convert", options.to_dict())
    return metadata


def _correct_kohya(
    metadata: dict[str, str], options: ConvertOptions, layers: Mapping[str, LayerPlan], family: str
) -> None:
    if options.to == "kohya":
        kinds = {plan.kind for plan in layers.values()}
        module = _KOHYA_MODULES.get(family, "networks.lora")
        if kinds != {"lora"}:
            module = "lycoris.kohya"
        if kinds == {"lora"} or "ss_network_module" not in metadata:
            metadata["ss_network_module"] = module
    ranked = [plan for plan in layers.values() if plan.rank and plan.alpha is not None]
    if ranked and (options.to == "kohya" or "ss_network_dim" in metadata):
        metadata["ss_network_dim"] = _common(float(plan.rank or 0) for plan in ranked)
        metadata["ss_network_alpha"] = _common(plan.alpha or 0.0 for plan in ranked)


def _common(values: Iterable[float]) -> str:
    """The one value, or sd-scripts' word for several."""
    found = {f"{value:.6g}" for value in values}
    return found.pop() if len(found) == 1 else "Dynamic"


def component_configs(layers: Mapping[str, LayerPlan]) -> dict[str, Any]:
    """diffusers' ``lora_adapter_metadata``: every component's configuration, keys behind its name (0.34)."""
    own: dict[str, dict[str, LayerPlan]] = {}
    for name, plan in layers.items():
        component, _, module = name.partition(".")
        own.setdefault(component, {})[module] = plan
    document: dict[str, Any] = {}
    for component, plans in own.items():
        config = lora_config(plans, "", {})
        del config["peft_type"]
        config["target_modules"] = sorted(plans)
        document |= {f"{component}.{key}": value for key, value in config.items()}
    return document
