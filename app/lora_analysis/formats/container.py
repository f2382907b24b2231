"""Open one file by what it contains. Its name decides nothing, and is only held against it.

A file called ``.safetensors`` promises that no pickle is involved: with a pickle inside it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..adapter import Finding
from ..errors import FormatError, HeaderError, MissingExtraError, OptionError, UnsafePickleError
from .files import InputFile
from .safetensors import MAX_HEADER_BYTES, open_safetensors
from .source import FileSource
from .wrong_types import GGUF_MAGIC, LEGACY_MAGIC, recognise

DEFAULT_HEADER_LIMIT = 25_000_000  # bytes; huggingface_hub's own cap
_HEAD_BYTES = 512
_PICKLE_STARTS = tuple(bytes((0x80, protocol)) for protocol in range(6))
_JSON_STARTS = (b"{", b" ", b"\t", b"\r", b"\n")
_PICKLE_BASED = {"zip": "a zip archive, as PyTorch writes it", "legacy": "an old PyTorch file", "pickle": "a pickle"}
_BY_SUFFIX = {
    ".safetensors": "safetensors",
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), "pytorch"),
    ".gguf": "gguf",
}


def open_source(
    path: str | os.PathLike[str], *, header_limit: int = DEFAULT_HEADER_LIMIT, lenient_metadata: bool = False
) -> FileSource:
    """Open a safetensors, PyTorch or GGUF file: names, shapes and metadata now, values when asked for.

    ``header_limit``: bytes of header to accept, up to 100,000,000. ``lenient_metadata``: keep safetensors metadata
    that is no text, with an error finding. Close the result, or use it as a context manager.

    Raises: OptionError, FileAccessError; HeaderError, UnsafePickleError, MissingExtraError naming the file.
    """
    if not 0 < header_limit <= MAX_HEADER_BYTES:
        raise OptionError(f"header_limit={header_limit:,}: expected 1 to {MAX_HEADER_BYTES:,} bytes")
    file = InputFile(path)
    try:
        with _naming(file):
            return _open(file, header_limit, lenient_metadata)
    except BaseException:
        file.close()
        raise


@contextmanager
def _naming(file: InputFile) -> Iterator[None]:
    """Put the file's name in front of what a reader says about its content."""
    try:
        yield
    except FormatError as error:
        raise type(error)(f"{file.label}: {error.message}") from error
    except MissingExtraError as error:
        raise MissingExtraError(f"{file.label}: {error.message}", extra=error.extra) from error


def _open(file: InputFile, header_limit: int, lenient_metadata: bool) -> FileSource:
    # Nearly every adapter is safetensors: the other readers are loaded when one of their files comes.
    content = _content(file)
    suffix = os.path.splitext(file.path)[1].lower()
    if suffix == ".safetensors" and content in _PICKLE_BASED:
        raise UnsafePickleError(
            f"the name says safetensors, the content is {_PICKLE_BASED[content]}; refused, and nothing in it was run"
        )
    match content:
        case "gguf":
            from .gguf import open_gguf

            source = open_gguf(file, header_limit=header_limit)
        case "zip":
            from .torch_zip import open_torch_zip

            source = open_torch_zip(file)
        case "legacy":
            from .torch_legacy import open_torch_legacy

            source = open_torch_legacy(file)
        case "pickle":
            raise UnsafePickleError("a bare pickle, which can run programs; not read, and nothing in it was run")
        case _:
            source = open_safetensors(file, header_limit=header_limit, lenient_metadata=lenient_metadata)
    expected = _BY_SUFFIX.get(suffix)
    if expected not in (None, source.container):
        message = f"the name ends in {suffix}, the content is {source.container}; it was read as that"
        source.findings = (*source.findings, Finding("warning", "misleading-suffix", message))
    return source


def _content(file: InputFile) -> str:
    """What the first bytes say. A header length can spell any signature, so a brace after it goes first.

    Raises: HeaderError for what is known to be something else.
    """
    head = file.read(0, min(file.size, _HEAD_BYTES))
    if head.startswith(GGUF_MAGIC):
        return "gguf"
    if head[8:9] in _JSON_STARTS and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES:
        return "safetensors"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(_PICKLE_STARTS):
        return "legacy" if LEGACY_MAGIC in head[:32] else "pickle"
    wrong = recognise(head, file.size)
    if wrong is not None:
        raise HeaderError(f"not an adapter file: {wrong}")
    return "safetensors"  # whose reader explains what is wrong with the first bytes
