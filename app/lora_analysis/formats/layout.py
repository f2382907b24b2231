"""The layout of a safetensors file, computed before a byte of it exists.

Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from ..errors import OptionError
from .dtypes import BITS

HEADER_LIMIT = 100_000_000  # bytes of JSON; readers refuse more
METADATA_KEY = "__metadata__"


class TensorPlan(NamedTuple):
    """One tensor that will be written. ``dtype`` uses the names of the safetensors specification."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its data. Raises: OptionError for an unknown type or a shape that ends within a byte."""
        size = _data_bytes(self.dtype, self.shape)
        return self._checked_bytes() if size is None else size

    def _checked_bytes(self) -> int:
        bits = BITS.get(self.dtype)
        if bits is None:
            raise OptionError(f"{self.name}: cannot write the type {self.dtype}; known: {', '.join(BITS)}")
        if any(size < 0 for size in self.shape):
            raise OptionError(f"{self.name}: the shape {self.shape} has a negative size")
        whole, rest = divmod(prod(self.shape) * bits, 8)
        if rest:
            raise OptionError(f"{self.name}: {self.shape} values of {self.dtype} do not fill whole bytes")
        return whole


@lru_cache(4096)
def _data_bytes(dtype: str, shape: tuple[int, ...]) -> int | None:
    """Most tensors of a file share a few shapes, and a plan asks for each one's size ten times. None: there is none."""
    bits = BITS.get(dtype)
    if bits is None or min(shape, default=0) < 0:
        return None
    whole, rest = divmod(prod(shape) * bits, 8)
    return None if rest else whole


def header_bytes(tensors: Sequence[TensorPlan], metadata: Mapping[str, str]) -> bytes:
    """Everything before the data: the 8-byte length, the JSON, and spaces up to a multiple of 8.

    Metadata and tensors keep the caller's order, and offsets follow it without holes: the same plan is
    always the same bytes. No metadata, no ``__metadata__`` entry.

    Raises: OptionError for names that repeat or are reserved, metadata that is not text, text that is
    no Unicode, or a header above the format's limit.
    """
    check_names(tensors)
    _check_metadata(metadata)
    entries: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    offset = 0
    for plan in tensors:
        end = offset + plan.nbytes
        entries[plan.name] = {"dtype": plan.dtype, "shape": list(plan.shape), "data_offsets": [offset, end]}
        offset = end
    document = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    document += b" " * (-len(document) % 8)  # 8 + a multiple of 8: the data starts aligned
    if len(document) > HEADER_LIMIT:
        raise OptionError(f"the header would be {len(document):,} bytes; the format allows {HEADER_LIMIT:,}")
    return len(document).to_bytes(8, "little") + document


def predicted_size(tensors: Sequence[TensorPlan], metadata: Mapping[str, str]) -> int:
    """Size in bytes of the file that ``write_safetensors`` would write. Raises: as ``header_bytes``."""
    return len(header_bytes(tensors, metadata)) + data_size(tensors)


def data_size(tensors: Iterable[TensorPlan]) -> int:
    """Bytes of all tensors together."""
    return sum(plan.nbytes for plan in tensors)


def aligned(tensors: Iterable[TensorPlan]) -> list[TensorPlan]:
    """Widest types first, otherwise the order given: every tensor then starts at a multiple of its item size.

    The format asks for no alignment, but torch cannot view misaligned bytes, so the safetensors library and every
    loader built on it depend on this order.
    """
    return sorted(tensors, key=lambda tensor: -BITS[tensor.dtype])


def check_names(tensors: Iterable[TensorPlan]) -> None:
    """Raises: OptionError for a tensor name that repeats, is reserved, or is no Unicode text."""
    seen: set[str] = set()
    for name, *_ in tensors:
        if name == METADATA_KEY:
            raise OptionError(f"a tensor cannot be named {METADATA_KEY}: the name is reserved")
        if name in seen:
            raise OptionError(f"{name}: two tensors of this name; a file holds each name once")
        _check_text(name)
        seen.add(name)


def _check_metadata(metadata: Mapping[str, object]) -> None:
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise OptionError(
                f"metadata {key!r} is {type(value).__name__}: keys and values are text; encode it, as JSON for example"
            )
        _check_text(key)
        _check_text(value)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate
        raise OptionError(f"{text}: not Unicode text, and a file holds nothing else") from error
