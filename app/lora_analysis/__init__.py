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
    from .adapter import Adapter as Adapter
    from .adapter import Layer as Layer
    from .delta import materialise as materialise
    from .errors import LoraAnalysisError as LoraAnalysisError
    from .formats import open_adapter as open  # noqa: A004, F401  a public name of the package, as in gzip.open
    from .metadata import LoraMetadataExtractor as LoraMetadataExtractor
    from .metadata import inspect as inspect
    from .spectra import Spectrum as Spectrum
    from .spectra import spectrum as spectrum

_HOME = {
    "Adapter": ("adapter", "Adapter"),
    "Layer": ("adapter", "Layer"),
    "LoraAnalysisError": ("errors", "LoraAnalysisError"),
    "LoraMetadataExtractor": ("metadata", "LoraMetadataExtractor"),
    "Spectrum": ("spectra", "Spectrum"),
    "inspect": ("metadata", "inspect"),
    "materialise": ("delta", "materialise"),
    "open": ("formats", "open_adapter"),
    "spectrum": ("spectra", "spectrum"),  # no module may take this name: importing it would replace the function
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    value = getattr(importlib.import_module(f".{module}", __name__), attribute)
    globals()[name] = value  # the next access is a plain lookup
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
