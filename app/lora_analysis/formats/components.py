"""Which part of a pipeline a module belongs to, by the prefix of its name."""

from __future__ import annotations

from functools import lru_cache

# Longest first: "lora_te1_" before "lora_te_".
_PREFIXES: tuple[tuple[str, str], ...] = (
    ("lora_prior_unet_", "prior"),
    ("lora_prior_te_", "text_encoder"),
    ("lora_transformer_", "transformer"),
    ("lora_unet_", "unet"),
    ("oft_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te3_", "text_encoder_3"),
    ("lora_te_", "text_encoder"),
    ("lora_te.", "text_encoder"),
    ("oft_te_", "text_encoder"),
    ("lycoris_te1_", "text_encoder"),
    ("lycoris_te2_", "text_encoder_2"),
    ("lycoris_", "transformer"),
    ("text_encoders.clip_l.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
    ("text_encoders.t5xxl.", "text_encoder_3"),
    ("text_encoders.", "text_encoder"),
    ("text_encoder_3.", "text_encoder_3"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder:", "text_encoder"),
    ("model.diffusion_model.", "diffusion_model"),
    ("diffusion_model.", "diffusion_model"),
    ("transformer_2.", "transformer_2"),
    ("unet.", "unet"),
    ("unet:", "unet"),
    ("controlnet.", "controlnet"),
    ("vae.", "vae"),
)


@lru_cache(maxsize=1 << 16)  # a folder of adapters repeats the same few thousand names
def component_of(module: str) -> str:
    """``unet``, ``transformer``, ``text_encoder``, ...; ``model`` where the name has no such prefix."""
    for prefix, component in _PREFIXES:
        if module.startswith(prefix):
            return component
    # "transformer." also starts GPT-2's own module names ("transformer.h.0..."): those are a language model.
    if module.startswith("transformer.") and not module.startswith(("transformer.h.", "transformer.word_")):
        return "transformer"
    return "model"
