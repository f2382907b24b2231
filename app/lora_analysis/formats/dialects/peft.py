"""Hugging Face PEFT: ``base_model.model.`` before the model's own names, the rest in ``adapter_config.json``."""

from __future__ import annotations

from .view import Dialect, KeyView

_LLM_MODULES = ("model.layers.", "model.model.layers.", "model.decoder.layers.", "transformer.h.", "encoder.block.")


def _speaks(view: KeyView) -> bool:
    if any(name.startswith("base_model.") for name in view.names()):
        return True
    if "peft_type" in view.settings:
        return True
    # A language model's bare names: PEFT state dicts with the prefix stripped.
    return view.mostly(*_LLM_MODULES) and not view.any_key(".lora_a")


PEFT = Dialect("peft", "Hugging Face PEFT", _speaks)
