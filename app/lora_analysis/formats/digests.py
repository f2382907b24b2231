"""Hashes that a safetensors file carries about itself, computed while it is written.

Definitions, as in kohya-ss/sd-scripts ``precalculate_safetensors_hashes`` (library/train_util.py) and
sd-webui-additional-networks, which it follows:

- ``sshs_model_hash``: SHA-256 of the tensor data, everything after the header, 64 hex digits;
- ``sshs_legacy_hash``: SHA-256 of 0x10000 bytes at 0x100000, first 8 hex digits, of the same file with
  only the ``ss_*`` part of its metadata;
- ``modelspec.hash_sha256``: ``0x`` and the SHA-256 of the tensor data (ModelSpec 1.0.1).

The digits stand in the header, in front of the bytes they describe; their number is known, so a header
with placeholders of that length is written first, and overwritten at the end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .layout import TensorPlan, header_bytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

# "?" is no hex digit: a stale or all-zero hash found in a file is never taken for a request.
PLACEHOLDERS: Mapping[str, str] = {
    "sshs_model_hash": "?" * 64,
    "sshs_legacy_hash": "?" * 8,
    "modelspec.hash_sha256": "0x" + "?" * 64,
}
_LEGACY_WINDOW = range(0x100000, 0x110000)


def request_hashes(metadata: Mapping[str, str]) -> dict[str, str]:
    """``metadata`` with a placeholder for every hash it holds, to be filled in by the writer.

    What changes a tensor makes the stored hashes false; this keeps the keys and asks for true values.
    """
    return {key: PLACEHOLDERS.get(key, value) for key, value in metadata.items()}


def requested_hashes(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Keys whose value is a placeholder."""
    return tuple(key for key, value in PLACEHOLDERS.items() if metadata.get(key) == value)


class DataDigest:
    """The hashes of tensor data that arrives in file order."""

    def __init__(self, tensors: Sequence[TensorPlan], metadata: Mapping[str, str]) -> None:
        self._data = hashlib.sha256()
        self._legacy = _WindowDigest(_LEGACY_WINDOW)
        # Tensor names and order are the file's own; training tools hash before the other keys are added.
        self._legacy.update(header_bytes(tensors, {k: v for k, v in metadata.items() if k.startswith("ss_")}))

    def update(self, data: Buffer) -> None:
        self._data.update(data)
        self._legacy.update(data)

    def hexdigest(self) -> str:
        """SHA-256 of the data so far."""
        return self._data.hexdigest()

    def filled(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """``metadata`` with the placeholders replaced by the hashes of the data so far."""
        found = {
            "sshs_model_hash": self.hexdigest(),
            "sshs_legacy_hash": self._legacy.hexdigest()[:8],
            "modelspec.hash_sha256": "0x" + self.hexdigest(),
        }
        return {**metadata, **{key: found[key] for key in requested_hashes(metadata)}}


class _WindowDigest:
    """SHA-256 of the bytes of a stream whose positions lie in ``window``."""

    def __init__(self, window: range) -> None:
        self._window = window
        self._position = 0
        self._digest = hashlib.sha256()

    def update(self, data: Buffer) -> None:
        view = memoryview(data)
        start = max(self._window.start - self._position, 0)
        stop = max(self._window.stop - self._position, 0)
        self._position += view.nbytes
        if start < view.nbytes and stop:
            self._digest.update(view[start:stop])

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
