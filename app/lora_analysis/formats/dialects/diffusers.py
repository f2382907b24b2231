"""diffusers: pipeline components (``unet.``, ``transformer.``, ``text_encoder.``) before the module's own path.

Older files name the attention processors (``attn1.processor.to_q_lora.down.weight``, diffusers before 0.20).
"""

from __future__ import annotations

from .view import Dialect, KeyView

_COMPONENTS = (
    "unet.",
    "transformer.",
    "transformer_2.",
    "text_encoder.",
    "text_encoder_2.",
    "text_encoder_3.",
    "prior.",
)
_BARE = (
    "transformer_blocks.",
    "single_transformer_blocks.",
    "joint_transformer_blocks.",
    "down_blocks.",
    "mid_block.",
    "up_blocks.",
    "controlnet.",
)


def _speaks_legacy(view: KeyView) -> bool:
    return view.any_key("_lora.down.weight")  # a text encoder's modules have no processor: "self_attn.to_q_lora"


def _speaks(view: KeyView) -> bool:
    return view.mostly(*_COMPONENTS) or view.mostly(*_COMPONENTS, *_BARE)


DIFFUSERS_LEGACY = Dialect("diffusers-legacy", "diffusers attention processors", _speaks_legacy)
DIFFUSERS = Dialect("diffusers", "diffusers", _speaks)
