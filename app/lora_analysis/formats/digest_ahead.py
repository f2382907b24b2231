"""The digest of a file's data, begun before anything is known about the file.

A command needs the best part of a second to load its libraries, read the header and plan; one core idles meanwhile,
and hashing the input takes as long. Imports nothing heavy, so that it can begin first.
"""

from __future__ import annotations

import hashlib
import os
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import LoraAnalysisError
from .files import FileIdentity, InputFile

if TYPE_CHECKING:
    from ..adapter import TensorSource

_PIECE = 1 << 22  # bytes: few, because a thread that hashes waits for the interpreter between two; they stay in a cache
_PEFT_WEIGHTS = "adapter_model.safetensors"
_LENGTH_BYTES = 8  # of the number before a safetensors header


class DigestAhead:
    """SHA-256 of what follows a safetensors header, calculated in a thread of its own from now on.

    A context: leaving it ends the thread. What goes wrong here goes wrong again, and is told, where the file is read
    for its tensors; this only answers None.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.path.join(path, _PEFT_WEIGHTS) if os.path.isdir(path) else path
        self._stop = Event()
        self._found: tuple[FileIdentity, int, str] | None = None  # which file, where its data begins, the digest
        self._thread = Thread(target=self._run, name="digest", daemon=True)
        self._thread.start()

    def of(self, source: TensorSource) -> str | None:
        """The digest, 64 hex digits, waited for; None unless ``source`` is that very safetensors file, unchanged."""
        self._thread.join()
        identity = getattr(source, "identity", None)
        if self._found is None or identity is None or source.container != "safetensors" or not source.tensors:
            return None
        start = min(info.offset for info in source.tensors.values())  # the format allows no hole, there or later
        return self._found[2] if self._found[:2] == (identity, start) else None

    def stop(self) -> None:
        """End the thread, soon, and wait for it."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> DigestAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            with InputFile(self._path) as file:
                start = _LENGTH_BYTES + int.from_bytes(file.read(0, min(_LENGTH_BYTES, file.size)), "little")
                digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_PIECE, file.size)))
                for offset in range(start, file.size, _PIECE):
                    if self._stop.is_set():
                        return
                    piece = buffer[: min(_PIECE, file.size - offset)]
                    file.read_into(piece, offset)
                    digest.update(piece)
                self._found = (file.identity(), start, digest.hexdigest())
        except (LoraAnalysisError, MemoryError):
            return
