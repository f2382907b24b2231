"""A layer that can be resized, with what the choice of its rank needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..adapter import Layer
from ..formats.spelling import Spelling

if TYPE_CHECKING:
    from ..linalg.floats import Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One layer in a plan that is being made."""

    layer: Layer
    spelling: Spelling
    dtypes: tuple[str, str]  # of the stored down and up
    spectrum: Float64Array | None = None  # largest first, scale included, where it was calculated
