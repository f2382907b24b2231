"""sd-scripts' ``svd_merge_lora.py``: the truncated sum, its factors then clamped to their 0.99 quantile.

``up = U_k Σ_k``, ``down = V_kᵀ``, k 4 unless said otherwise (here: the largest rank); every value of both is clamped to
plus or minus the 0.99 quantile of all their signed values. Which sign a pair of singular vectors has is the SVD
routine's choice, and the quantile depends on it. Observed in sd-scripts 48d368fa.
"""

from __future__ import annotations

from . import peft_svd
from .method import Merged, Method, Request

CLAMP = 0.99


def _merge(request: Request) -> Merged:
    import numpy as np

    from ...adapter import LowRank

    made = peft_svd.METHOD.merge(request).factors
    limit = float(np.quantile(np.concatenate([made.up.ravel(), made.down.ravel()]), CLAMP))
    return Merged(LowRank(np.clip(made.up, -limit, limit), np.clip(made.down, -limit, limit), 1.0, made.kernel))


METHOD = Method(
    "compat:sd_scripts_svd",
    "what sd-scripts' svd_merge_lora.py makes",
    _merge,
    size=peft_svd.METHOD.size,
    alone="merged",
    normalize=False,
    wrong="clamps the factors to their 0.99 quantile: some 9 % of error on even spectra, half on steep ones",
)
