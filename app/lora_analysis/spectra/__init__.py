"""Spectra: the singular values of every layer, and what they say. Importing it does not load numpy."""

from __future__ import annotations

from .calculation import spectrum
from .values import LayerSpectrum, Order, SkippedLayer, Spectrum

__all__ = ["LayerSpectrum", "Order", "SkippedLayer", "Spectrum", "spectrum"]
