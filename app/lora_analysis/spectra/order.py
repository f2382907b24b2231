"""What spectra can be sorted by."""

from __future__ import annotations

from enum import StrEnum


class Order(StrEnum):
    """A layer's place in the file, its name, or a measure, largest first."""

    FILE = "file"
    NAME = "name"
    NORM = "norm"
    SIGMA = "sigma"
    RANK = "rank"
    EFFECTIVE = "effective"
    ENERGY_EFFECTIVE = "energy-effective"
    STABLE = "stable"
    K90 = "k90"
    K95 = "k95"
    K99 = "k99"
    SCALE = "scale"
