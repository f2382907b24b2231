"""Tensors that are understood but are no update to a weight."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..adapter import Extra, TensorInfo
from .adapter_config import PEFT_PREFIX
from .keys import CONTROLNET_MARKER

_Rule = tuple[str, str, Callable[[str], bool]]

_PROMPTS = re.compile(
    r"(^|\.)(prompt_embeddings|prompt_encoder|prefix_encoder|prefix_task_(cols|rows)|mlp_head|adaption_(prompt|gate))(\.|$)"
)
_EMBEDDING = re.compile(
    r"^(bundle_emb\.|<[^>]+>$|emb_params$|text_encoders_\d$|clip_[lg]$|t5(_out)?$)|string_to_param\."
)
_REPLACEMENT = re.compile(r"(\.set_weight|(^|[._])norm\.(query_norm|key_norm)\.scale)$")
_ROUTER = re.compile(r"(^|\.)(poly_router|xlora_classifier)\.")
_PROJECTION = re.compile(
    r"(^|\.)(vera_[AB]|randlora_[AB]|vblora_vector_bank|waveft_|fourierft_"
    r"|pvera_|frod_|unilora_|tinylora_|adamss_)"
)

_RULES: tuple[_Rule, ...] = (
    ("embedding", "a textual-inversion embedding", lambda key: bool(_EMBEDDING.search(key))),
    ("prompt", "a trained prompt, not a weight delta", lambda key: bool(_PROMPTS.search(key))),
    ("replacement", "a value that replaces the base's", lambda key: bool(_REPLACEMENT.search(key))),
    ("shared-projection", "a projection shared by the layers", lambda key: bool(_PROJECTION.search(key))),
    ("router", "weighs several adapters, and is none itself", lambda key: bool(_ROUTER.search(key))),
    ("token-rows", "trained rows of an embedding", lambda key: "trainable_tokens_delta" in key),
    ("marker", "a marker without values", lambda key: key == CONTROLNET_MARKER),
    ("position", "a fixed position table", lambda key: key.endswith(".position_ids")),
)


def classify_extra(
    key: str, info: TensorInfo, *, is_peft: bool, is_controlnet: bool = False, is_full: bool = False
) -> Extra | None:
    """What a tensor that belongs to no module is, or None where nothing is known about it."""
    for category, note, matches in _RULES:
        if matches(key):
            return Extra(key, category, note)
    if is_peft and key.startswith(PEFT_PREFIX) and key.endswith((".weight", ".bias")):
        return Extra(key, "saved-module", "a full copy of the base's own parameter")
    if is_full:
        return Extra(key, "saved-module", "the base's own parameter, trained and stored whole")
    if is_controlnet:  # a control-lora stores what the base network lacks, and its biases, whole
        return Extra(key, "saved-module", "a parameter of the control network, stored whole")
    return Extra(key, "empty", "holds no value") if 0 in info.shape else None
