"""cloneofsimo/lora: ``unet:12:up``, modules counted in traversal order, class names in the header.

Its first files are a bare list of tensors, which is read as ``list:12``.
"""

from __future__ import annotations

import re

from .view import Dialect, KeyView

_NUMBERED = re.compile(r"(unet|text_encoder|list):\d+$")


def _speaks(view: KeyView) -> bool:
    return any(":" in module and _NUMBERED.match(module) for module in view.modules)


CLONEOFSIMO = Dialect("cloneofsimo", "cloneofsimo/lora", _speaks)
