"""Values that several commands take as options: sizes as people type them, and types of stored values."""

from __future__ import annotations

import re
from enum import StrEnum

from ..errors import OptionError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([kmg]i?)?b?\s*", re.IGNORECASE | re.ASCII)


class StoredType(StrEnum):
    """``--dtype``."""

    KEEP = "keep"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"


def bytes_of(text: str) -> int:
    """``50MB`` (decimal, as file managers count), ``48MiB``, ``512k`` or a plain number, in whole bytes.

    Raises: OptionError for anything else.
    """
    match = _BYTES.fullmatch(text)
    if match is None:
        raise OptionError(f"{text!r} is no size; write it as 50MB, 48MiB or a number of bytes")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])
