"""The model's own names with no prefix: DiffSynth-Studio, Black Forest Labs, and other original layouts."""

from __future__ import annotations

import re

from .view import Dialect, KeyView

_NAMED_ADAPTER = re.compile(r"\.lora_[AB]\.[^.]+\.weight$")
_FLUX_BLOCKS = ("double_blocks.", "single_blocks.", "img_in", "txt_in", "time_in.", "vector_in.", "final_layer.")


def _speaks_diffsynth(view: KeyView) -> bool:
    return any(_NAMED_ADAPTER.search(tail) for tail in view.tails)


DIFFSYNTH = Dialect("diffsynth", "DiffSynth-Studio", _speaks_diffsynth)
BFL = Dialect("bfl", "Black Forest Labs", lambda view: view.mostly(*_FLUX_BLOCKS))
NATIVE = Dialect("native", "the model's own names", lambda view: bool(view.modules))
