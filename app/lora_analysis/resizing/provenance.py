"""The record of what was done to an adapter, kept in its header."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..adapter import Adapter, TensorSource
from ..errors import CancelledError, FormatError
from ..formats.strict_json import dumps, loads

if TYPE_CHECKING:
    from ..formats.digest_ahead import DigestAhead

HISTORY_KEY = "lora_analysis.history"
UNKNOWN_DIGEST = "?" * 64  # stands in a plan's header for the digest of an input, which only writing needs


def history(adapter: Adapter, operation: str, options: Mapping[str, Any]) -> str:
    """The record of every operation so far, with this one added: a JSON list."""
    record = {
        "operation": operation,
        "options": dict(options),
        "version": __version__,
        "inputs": [input_record(adapter)],
    }
    return dumps([*_earlier(adapter.metadata.get(HISTORY_KEY)), record])


def _earlier(old: object) -> list[Any]:
    if not isinstance(old, str):
        return []
    try:
        records = loads(old, what=HISTORY_KEY)
    except FormatError:
        return [{"unreadable": True}]
    return records if isinstance(records, list) else [records]


def input_record(adapter: Adapter) -> dict[str, Any]:
    """What identifies the input: its name without folders, which can name a person, its size, its data's digest."""
    name = os.path.basename(os.path.normpath(adapter.path))
    return {"name": name, "size": adapter.source.size, "sha256": UNKNOWN_DIGEST}


def with_digest(metadata: Mapping[str, str], digest: str) -> dict[str, str]:
    """``metadata`` with the digest that its last record lacks."""
    before, _, after = metadata[HISTORY_KEY].rpartition(UNKNOWN_DIGEST)
    return {**metadata, HISTORY_KEY: before + digest + after}


def data_sha256(source: TensorSource, cancel: Callable[[], bool], ahead: DigestAhead | None = None) -> str:
    """SHA-256 of all tensors' bytes in the order of their offsets, 64 hex digits; from ``ahead`` where that has it.

    Of a safetensors file that is everything after the header: ``sshs_model_hash``, whose first 12 digits are AutoV3.
    Raises: CancelledError soon after ``cancel()`` is true.
    """
    begun = None if ahead is None else ahead.of(source)
    if begun is not None:
        return begun
    digest = hashlib.sha256()
    tensors = source.tensors
    for name in sorted(tensors, key=lambda key: tensors[key].offset):
        if cancel():
            raise CancelledError("stopped while the input was hashed")
        digest.update(source.raw(name))
    return digest.hexdigest()
