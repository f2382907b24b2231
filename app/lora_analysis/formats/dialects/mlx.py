"""mlx-lm: the model's own names with ``.lora_a`` and ``.lora_b``, both transposed.

A full fine-tune (``fine_tune_type: full``) has the trained parameters themselves under the same file name.
"""

from __future__ import annotations

from ..adapter_config import is_full_fine_tune
from .view import Dialect, KeyView


def _speaks(view: KeyView) -> bool:
    if any("down_t" in roles or "up_t" in roles for roles in view.modules.values()):
        return True
    return is_full_fine_tune(view.config)


MLX = Dialect("mlx", "mlx-lm", _speaks)
