"""kohya sd-scripts, musubi-tuner and LyCORIS' kohya wrapper: ``lora_unet_`` and dots as underscores."""

from __future__ import annotations

from .view import Dialect, KeyView

_PREFIXES = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "oft_unet_", "oft_te_", "lora_prior_")


def _speaks(view: KeyView) -> bool:
    return view.count(*_PREFIXES) > 0


KOHYA = Dialect("kohya", "kohya sd-scripts, musubi-tuner, LyCORIS", _speaks)
