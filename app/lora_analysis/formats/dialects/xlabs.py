"""XLabs-AI Flux (and USO, UNO): factors under the attention processors, ``processor.qkv_lora1.down.weight``."""

from __future__ import annotations

import re

from .view import Dialect, KeyView

_PROCESSOR = re.compile(r"(double|single)_blocks\.\d+\.processor\.(qkv|proj)_lora\d?$")


def _speaks(view: KeyView) -> bool:
    return any(".processor." in module and _PROCESSOR.search(module) for module in view.modules)


XLABS = Dialect("xlabs", "XLabs", _speaks)
