"""LoRA Analysis: open any LoRA-family adapter, see what is inside, and reshape it exactly.

>>> import lora_analysis as la
>>> with la.open("adapter.safetensors") as adapter:            # doctest: +SKIP
...     print(adapter.algorithm, adapter.base_model.family, len(adapter.layers))

Importing this package loads neither numpy nor a plotting or web library: names are found on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:  # type checkers and editors see ordinary imports
    from . import plots as plot  # noqa: F401  a public name of the package
    from .adapter import Adapter as Adapter
    from .adapter import Layer as Layer
    from .baking.api import bake as bake
    from .comparing.calculation import compare as compare
    from .comparing.values import Comparison as Comparison
    from .converting.api import convert as convert
    from .converting.api import plan_convert as plan_convert
    from .delta import materialise as materialise
    from .errors import LoraAnalysisError as LoraAnalysisError
    from .extracting.api import extract as extract
    from .formats import open_adapter as open  # noqa: A004, F401  a public name of the package, as in gzip.open
    from .merging.api import merge as merge
    from .merging.api import plan_merge as plan_merge
    from .merging.api import repeat_merge as repeat_merge
    from .metadata import LoraMetadataExtractor as LoraMetadataExtractor
    from .metadata import inspect as inspect
    from .pca import LoraPcaAnalyzer as LoraPcaAnalyzer
    from .reporting.report import report as report
    from .resizer import LoraResizer as LoraResizer
    from .resizer import plan_resize as plan_resize
    from .resizer import resize as resize
    from .spectra.calculation import spectrum as spectrum
    from .spectra.recommendation import recommend as recommend
    from .spectra.values import Spectrum as Spectrum
    from .visualizer import LoraVisualizer as LoraVisualizer

_HOME: dict[str, tuple[str, str | None]] = {
    "Adapter": ("adapter", "Adapter"),
    "Comparison": ("comparing.values", "Comparison"),
    "Layer": ("adapter", "Layer"),
    "LoraAnalysisError": ("errors", "LoraAnalysisError"),
    "LoraMetadataExtractor": ("metadata", "LoraMetadataExtractor"),
    "LoraPcaAnalyzer": ("pca", "LoraPcaAnalyzer"),
    "LoraResizer": ("resizer", "LoraResizer"),
    "LoraVisualizer": ("visualizer", "LoraVisualizer"),
    "Spectrum": ("spectra.values", "Spectrum"),
    "bake": ("baking.api", "bake"),  # no module has this name: importing it would hide the function
    "compare": ("comparing.calculation", "compare"),  # no module has this name: importing it would hide the function
    "convert": ("converting.api", "convert"),  # no module has this name: importing it would hide the function
    "extract": ("extracting.api", "extract"),  # no module has this name: importing it would hide the function
    "inspect": ("metadata", "inspect"),
    "materialise": ("delta", "materialise"),
    "merge": ("merging.api", "merge"),  # no module has this name: importing it would hide the function
    "open": ("formats", "open_adapter"),
    "plan_convert": ("converting.api", "plan_convert"),
    "plan_merge": ("merging.api", "plan_merge"),
    "plan_resize": ("resizer", "plan_resize"),
    "plot": ("plots", None),  # the package itself: la.plot.energy(...)
    "recommend": ("spectra.recommendation", "recommend"),
    "repeat_merge": ("merging.api", "repeat_merge"),
    "report": ("reporting.report", "report"),  # no module has this name: importing it would hide the function
    "resize": ("resizer", "resize"),  # no module has this name: importing it would hide the function
    "spectrum": ("spectra.calculation", "spectrum"),  # no module has this name: importing it would hide the function
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    home = importlib.import_module(f".{module}", __name__)
    value = home if attribute is None else getattr(home, attribute)
    globals()[name] = value  # the next access is a plain lookup
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
