"""mlx-lm: the model's own names with ``.lora_a`` and ``.lora_b``, both transposed."""

from __future__ import annotations

from .view import Dialect, KeyView


def _speaks(view: KeyView) -> bool:
    return any("down_t" in roles or "up_t" in roles for roles in view.modules.values())


MLX = Dialect("mlx", "mlx-lm", _speaks)
