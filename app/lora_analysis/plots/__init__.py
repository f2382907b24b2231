"""Figures as functions: each takes values and ``ax=``, draws into those axes or into new ones, and returns them.

>>> import lora_analysis as la
>>> spectrum = la.spectrum("adapter.safetensors")                     # doctest: +SKIP
>>> la.plot.energy(spectrum).figure.savefig("energy.png")             # doctest: +SKIP

Nothing here uses pyplot: no global state, no window, safe in threads and on servers. Matplotlib (the ``plot`` extra) is
loaded by the first figure, not by importing this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # type checkers and editors see ordinary imports
    from .axes.components import component_map as component_map
    from .axes.components import cumulative_variance as cumulative_variance
    from .axes.components import explained_variance as explained_variance
    from .axes.components import singular_value_bars as singular_value_bars
    from .axes.cosines import cosines as cosines
    from .axes.cosines import layer_cosines as layer_cosines
    from .axes.decay import decay as decay
    from .axes.delta_map import delta_map as delta_map
    from .axes.distribution import distribution as distribution
    from .axes.distribution import magnitudes as magnitudes
    from .axes.effective import effective_ranks as effective_ranks
    from .axes.energy import energy as energy
    from .axes.layer_map import layer_map as layer_map
    from .axes.norm_grid import norm_grid as norm_grid
    from .axes.overlap import overlap as overlap
    from .axes.part_norms import part_norms as part_norms

_HOME = {
    "component_map": "axes.components",
    "cosines": "axes.cosines",
    "cumulative_variance": "axes.components",
    "decay": "axes.decay",
    "delta_map": "axes.delta_map",
    "distribution": "axes.distribution",
    "effective_ranks": "axes.effective",
    "energy": "axes.energy",
    "explained_variance": "axes.components",
    "layer_cosines": "axes.cosines",
    "layer_map": "axes.layer_map",
    "magnitudes": "axes.distribution",
    "norm_grid": "axes.norm_grid",
    "overlap": "axes.overlap",
    "part_norms": "axes.part_norms",
    "singular_value_bars": "axes.components",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value  # the next access is a plain lookup
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
