"""A small library of invented adapters, in the forms found in the wild.

The names, shapes, scales and headers are those that trainers write; the values are random with the spectra that
trained adapters show. Nothing comes from a real model, so the files can be shared, broken and shipped with a bug
report. ``lora demo`` writes them, and the tests use them.
"""

from __future__ import annotations

from .library import RECIPES as RECIPES
from .library import write_demo_library as write_demo_library

__all__ = ["RECIPES", "write_demo_library"]
