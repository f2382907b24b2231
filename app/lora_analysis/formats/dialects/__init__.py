"""Every naming family, one registry. A new dialect is a new file, a line here and a row in the tests' table."""

from __future__ import annotations

from .cloneofsimo import CLONEOFSIMO
from .comfyui import COMFYUI
from .diffusers import DIFFUSERS, DIFFUSERS_LEGACY
from .gguf import GGUF
from .kohya import KOHYA
from .lycoris import LYCORIS
from .mlx import MLX
from .native import BFL, DIFFSYNTH, NATIVE
from .onetrainer import ONETRAINER
from .peft import PEFT
from .view import Dialect, KeyView
from .xlabs import XLABS

__all__ = ["DIALECTS", "Dialect", "KeyView", "dialect_of"]

# The first that recognises its own wins: spellings that exist nowhere else come before those that others share.
DIALECTS: tuple[Dialect, ...] = (
    GGUF,
    CLONEOFSIMO,
    XLABS,
    ONETRAINER,
    KOHYA,
    LYCORIS,
    COMFYUI,
    PEFT,
    MLX,
    DIFFUSERS_LEGACY,
    DIFFSYNTH,
    DIFFUSERS,
    BFL,
    NATIVE,
)


def dialect_of(view: KeyView) -> str:
    """The name of the dialect a file speaks, ``unknown`` where it holds no module of an adapter."""
    return next((dialect.name for dialect in DIALECTS if dialect.speaks(view)), "unknown")
