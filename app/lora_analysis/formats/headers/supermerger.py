"""sd-webui-supermerger: the whole header of each merged file as JSON, under ``sshs_cp0``, ``sshs_cp1``, ...

Source: https://github.com/hako-mikan/sd-webui-supermerger, ``scripts/mergers/pluslora.py``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import values
from .draft import Draft

_KEY = re.compile(r"sshs_cp\d{1,3}")
_MAX_SOURCES = 100


def applies(metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> bool:
    """Whether any key is of this grammar."""
    return any(_KEY.fullmatch(key) for key in metadata)


def read(draft: Draft, metadata: Mapping[str, Any], config: Mapping[str, Any] | None) -> None:
    """State the names of the merged files, as far as their headers held one."""
    keys = sorted((key for key in metadata if _KEY.fullmatch(key)), key=lambda key: int(key[len("sshs_cp") :]))
    names = []
    for key in keys[:_MAX_SOURCES]:
        source = draft.read(metadata, key, values.mapping) or {}
        names.append(draft.read(source, "ss_output_name", values.text) or f"(unnamed, {key})")
    draft.state(merged_from=tuple(names))
