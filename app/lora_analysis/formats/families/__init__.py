"""Which base model an adapter was made for: names and shapes first, the header second.

Rules stand in one registry, most particular first; each takes a :class:`Structure` and answers with a verdict or
None. A new family is a line in ``vocabulary.py``, a rule or a table row, and a row in ``header.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...adapter import BaseModel
from . import dit, encoders, flux, llm, text_encoders, unet, video
from .header import read_header
from .structure import ModuleShape, Structure
from .verdict import Rule, Verdict, combine
from .vocabulary import FAMILIES, LABELS, UNKNOWN

__all__ = ["FAMILIES", "LABELS", "UNKNOWN", "ModuleShape", "infer_base_model"]

# The first rule that answers wins.
_RULES: tuple[Rule, ...] = (
    *unet.RULES,
    *flux.FUSED,
    *dit.RULES,
    *flux.SPLIT,
    *dit.JOINT,
    *video.RULES,
    *encoders.RULES,
    *llm.RULES,
    *text_encoders.RULES,
)


def infer_base_model(
    modules: Mapping[str, ModuleShape],
    metadata: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    keys: Iterable[str] = (),
) -> BaseModel:
    """The base-model family of an adapter, and who says so.

    ``modules``: name as the file spells it -> shape of its delta. ``metadata``: the header, ``config``:
    adapter_config.json. ``keys``: names of the other tensors, for the hints in them. Never raises for odd values.
    """
    structure = Structure(modules, keys)
    return combine(_read_keys(structure), read_header(metadata, config))


def _read_keys(structure: Structure) -> Verdict | None:
    return next((verdict for rule in _RULES if (verdict := rule(structure)) is not None), None)
