"""sd-scripts' ``merge_lora.py --concat``: factors side by side, but alpha stays that of the first adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .method import Method
from .sd_scripts import merged_by

if TYPE_CHECKING:
    from ...linalg.floats import Float64Array


def _join(ups: Sequence[Float64Array], downs: Sequence[Float64Array]) -> tuple[Float64Array, Float64Array]:
    import numpy as np

    return np.concatenate(ups, axis=1), np.concatenate(downs)


METHOD = Method(
    "compat:sd_scripts_concat",
    "what sd-scripts' merge_lora.py --concat makes",
    merged_by(_join),
    stored_factors="any",
    alone="merged",
    normalize=False,
    wrong="alpha is not raised with the rank, so two adapters of equal rank act at half; ratios act squared",
)
