"""ComfyUI, ai-toolkit, diffusion-pipe: ``diffusion_model.`` and ``text_encoders.`` before native names."""

from __future__ import annotations

from .view import Dialect, KeyView

_PREFIXES = ("diffusion_model.", "model.diffusion_model.", "text_encoders.")


def _speaks(view: KeyView) -> bool:
    return view.count(*_PREFIXES) > 0


COMFYUI = Dialect("comfyui", "ComfyUI, ai-toolkit, diffusion-pipe", _speaks)
