"""Hugging Face PEFT: ``base_model.model.`` before the model's own names, the rest in ``adapter_config.json``."""

from __future__ import annotations

import re

from .view import Dialect, KeyView

# How Hugging Face's transformers count layers. Image and video models say "blocks", or "layers" alone; a pipeline's
# text encoder has the component's name in front, and is diffusers'.
_TRANSFORMERS = re.compile(
    r"(?!text_encoder|lora_te)(?:h|(?:.*\.)?(?:(?:encoder|decoder)\.(?:layers?|block|albert_layer_groups)|transformer\.(?:h|layer)"
    r"|(?:model|language_model|gpt_neox|backbone)\.layers))\.\d+\."
)


def _speaks(view: KeyView) -> bool:
    if any(name.startswith("base_model.") for name in view.names()):
        return True
    if "peft_type" in view.settings:
        return True
    # Bare names of a language model or an encoder: PEFT state dicts with the prefix stripped.
    if view.any_key(".lora_a"):
        return False
    return 2 * sum(_TRANSFORMERS.match(module) is not None for module in view.modules) >= max(len(view.modules), 1)


PEFT = Dialect("peft", "Hugging Face PEFT", _speaks)
