"""What a file that is no adapter is instead, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

# Of files that are adapters, under any name.
GGUF_MAGIC = b"GGUF"
LEGACY_NUMBER = 0x1950A86A20F9469CFC6C  # torch.save before 1.6 pickles it first
LEGACY_MAGIC = b"\x8a\x0a" + LEGACY_NUMBER.to_bytes(10, "little")  # as a pickle spells it


class _Signature(NamedTuple):
    prefix: bytes
    what: str


_DOWNLOAD = "a download that failed leaves such files; download it again"
_UNPACK = "unpack it and open the file inside"
_SIGNATURES = (
    _Signature(
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself: fetch it with 'git lfs pull' or download it",
    ),
    # Written as a 32-bit number, so the letters are reversed on disk.
    _Signature(b"algg", "an old llama.cpp adapter (ggla), a format that no program reads any more; convert it to GGUF"),
    _Signature(b"ggla", "an old llama.cpp adapter (ggla), a format that no program reads any more; convert it to GGUF"),
    _Signature(b"lmgg", "an old llama.cpp model (ggml), not an adapter"),
    _Signature(b"tjgg", "an old llama.cpp model (ggjt), not an adapter"),
    _Signature(b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {_UNPACK}"),
    _Signature(b"\x1f\x8b", f"a gzip archive; {_UNPACK}"),
    _Signature(b"BZh", f"a bzip2 archive; {_UNPACK}"),
    _Signature(b"\xfd7zXZ\0", f"an xz archive; {_UNPACK}"),
    _Signature(b"\x28\xb5\x2f\xfd", f"a zstd archive; {_UNPACK}"),
    _Signature(b"Rar!\x1a\x07", f"a RAR archive; {_UNPACK}"),
    _Signature(b"PK\x05\x06", "an empty zip archive"),
    _Signature(b"\x89PNG", "a PNG picture"),
    _Signature(b"\xff\xd8\xff", "a JPEG picture"),
    _Signature(b"RIFF", "a WebP picture, a sound or a film"),
    _Signature(b"%PDF", "a PDF document"),
    _Signature(b"\x89HDF", "an HDF5 file (Keras); save the adapter as safetensors"),
    _Signature(b"\x93NUMPY", "a numpy array; save the adapter as safetensors"),
    _Signature(b"SQLite format 3", "an SQLite database"),
    _Signature(b"\x7fELF", "a program"),
    _Signature(b"MZ", "a program"),
    _Signature(b'{"', f"JSON text and no tensors: a configuration, or an error reply; {_DOWNLOAD}"),
)
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg")


def recognise(head: bytes, size: int) -> str | None:
    """What a file of ``size`` bytes that starts with ``head`` is, with the next step; None where it is not known."""
    if size == 0:
        return f"the file is empty; {_DOWNLOAD}"
    if size <= 8:
        return f"a stub of {size} bytes; {_DOWNLOAD}"
    for signature in _SIGNATURES:
        if head.startswith(signature.prefix):
            return signature.what
    if head.lstrip().lower().startswith(_HTML):
        return "a web page: the download needed a login, or the address was that of a page; download it again"
    if head[257:262] == b"ustar":
        return f"a tar archive; {_UNPACK}. PyTorch's own tar layout, from before 2017, is not read"
    if not head.strip(b"\0"):
        return f"it starts with nothing but zero bytes; {_DOWNLOAD}"
    return None
