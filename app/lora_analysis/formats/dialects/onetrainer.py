"""OneTrainer's legacy layout: kohya's prefixes with diffusers' block names, embeddings bundled beside them.

``lora_transformer_`` exists nowhere else. Behind ``lora_unet_`` the names alone are also LCM-LoRA's, so there
the bundled embeddings or the ``ot_*`` header decide.
"""

from __future__ import annotations

import re

from .view import Dialect, KeyView

_BUNDLE = re.compile(r"bundle_emb\.[^.]+\.(clip_l|clip_g|t5)(_out)?$")
_DIFFUSERS_BLOCKS = ("lora_unet_down_blocks", "lora_unet_mid_block", "lora_unet_up_blocks")


def _speaks(view: KeyView) -> bool:
    if view.count("lora_transformer_"):
        return True
    if any(_BUNDLE.match(key) for key in view.rest):
        return view.count("lora_unet_", "lora_te") > 0
    from_onetrainer = any(str(key).startswith("ot_") for key in view.metadata)
    return from_onetrainer and view.count(*_DIFFUSERS_BLOCKS) > 0


ONETRAINER = Dialect("onetrainer", "OneTrainer (legacy layout)", _speaks)
