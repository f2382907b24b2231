"""The header of a merged adapter: made anew, with what is true of all inputs kept, and what a policy takes over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .. import __version__
from ..errors import FormatError
from ..formats.digests import PLACEHOLDERS
from ..formats.headers.trainers import OPERATION_KEY
from ..formats.strict_json import dumps, loads
from ..resizing.plan import LayerPlan
from ..resizing.provenance import HISTORY_KEY, UNKNOWN_DIGEST
from .inputs import MergeInput
from .options import MergeOptions
from .policies import inherited
from .recipe import RECIPE_KEY, recipe_text

# What the header says about the base model and the container, for loaders that read it.
_KEPT_WHERE_EQUAL = (
    "format",
    "ss_base_model_version",
    "ss_v2",
    "modelspec.architecture",
)
_KOHYA_MODULE = "networks.lora"


def output_metadata(
    inputs: Sequence[MergeInput],
    options: MergeOptions,
    layers: Mapping[str, LayerPlan],
    digests: Sequence[str] | None = None,
) -> dict[str, str]:
    """The output's header metadata. Without ``digests`` of the inputs' data, a text of their length stands there."""
    stated = [item.adapter.metadata for item in inputs]
    metadata = inherited(inputs, options.metadata)
    metadata |= {key: value for key in _KEPT_WHERE_EQUAL if (value := _common_text(stated, key)) is not None}
    module = _network_module(inputs, layers.values())
    if module is not None:
        metadata["ss_network_module"] = module
    ranks = {layer.new_rank for layer in layers.values() if layer.new_rank is not None}
    if ranks:
        rank = str(ranks.pop()) if len(ranks) == 1 else "Dynamic"
        metadata |= {"ss_network_dim": rank, "ss_network_rank": rank, "ss_network_alpha": rank}
    for key in ("sshs_model_hash", "sshs_legacy_hash"):
        metadata[key] = PLACEHOLDERS[key]
    metadata[OPERATION_KEY] = options.method
    known = digests or [UNKNOWN_DIGEST] * len(inputs)
    metadata[HISTORY_KEY] = dumps([_record(inputs, options, known)])
    recipe = recipe_text(inputs, options, known)
    if recipe is not None:
        metadata[RECIPE_KEY] = recipe
    return metadata


def _common_text(headers: Iterable[Mapping[str, Any]], key: str) -> str | None:
    """The value that all headers that state one agree on."""
    found = {str(header[key]) for header in headers if isinstance(header.get(key), str)}
    return found.pop() if len(found) == 1 else None


def _network_module(inputs: Sequence[MergeInput], layers: Collection[LayerPlan]) -> str | None:
    """The training module whose files look like the output: the inputs' own, if all that they hold was LoRA."""
    module = _common_text((item.adapter.metadata for item in inputs), "ss_network_module")
    if module is not None and all(item.adapter.algorithm == "lora" for item in inputs):
        return module
    is_kohya = inputs[0].adapter.dialect == "kohya" and any(layer.new_rank for layer in layers)
    return _KOHYA_MODULE if is_kohya else None


# -- provenance --------------------------------------------------------------------------------------


def _record(inputs: Sequence[MergeInput], options: MergeOptions, digests: Sequence[str]) -> dict[str, Any]:
    return {
        "operation": options.method,
        "options": options.to_dict(),
        "version": __version__,
        "inputs": [_input_record(item, digest) for item, digest in zip(inputs, digests, strict=True)],
    }


def _input_record(item: MergeInput, digest: str) -> dict[str, Any]:
    record: dict[str, Any] = {"name": item.name, "sha256": digest, "weight": item.weight}
    history = _history(item.adapter.metadata.get(HISTORY_KEY))
    return record | ({"history": history} if history else {})


def _history(text: Any) -> Any:
    """What was done to an input before, so that the chain does not break."""
    if not isinstance(text, str):
        return None
    try:
        return loads(text, what=HISTORY_KEY)
    except FormatError:
        return [{"unreadable": True}]
