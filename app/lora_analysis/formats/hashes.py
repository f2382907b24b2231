"""The digests by which adapters are known, computed in one pass over the file, and those a header claims.

=================  ===================================================================================
sha256             of the whole file; AutoV2 is its first 10 hex digits
AutoV1             first 8 hex digits of the SHA-256 of 0x10000 bytes at offset 0x100000 of the file
data_sha256        of everything after the safetensors header. It is what ``sshs_model_hash`` (kohya)
                   and AutoV3 (first 12 digits) are taken from; editing metadata leaves it alone
named_sha256       of the tensors' bytes in the order of their names: OneTrainer's ``modelspec.hash_sha256``
sshs_legacy        AutoV1's window over the file as it would be with ``ss_*`` metadata alone
=================  ===================================================================================

What cannot be reproduced: kohya hashes ``modelspec.hash_sha256`` in the order of a state dict that the
file no longer shows, and a legacy hash whose window starts inside the header depends on the order in
which the writer happened to put its keys. Such claims are called unverified, not wrong.

Sources: ``library/train_util.py`` of https://github.com/kohya-ss/sd-scripts (``addnet_hash_legacy``,
``addnet_hash_safetensors``), ``modules/hashes.py`` of https://github.com/AUTOMATIC1111/stable-diffusion-webui,
``DtypeModelSaverMixin`` of https://github.com/Nerogar/OneTrainer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..adapter import EMPTY, Finding, TensorInfo
from ..errors import CancelledError, OptionError
from ..json_ready import encodable
from .chunks import Cancel, Progress
from .files import InputFile
from .layout import HEADER_LIMIT, TensorPlan, header_bytes

WINDOW_START, WINDOW_BYTES = 0x100000, 0x10000
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_CHUNK = 4 * 1024 * 1024
_LENGTH_BYTES = 8  # of the number before a safetensors header
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class FileHashes:
    """Digests of one file, lower-case hexadecimal. Those of the data are None for other containers than safetensors."""

    name: str  # of the file, without its folder
    size_bytes: int
    sha256: str
    autov1: str
    data_sha256: str | None = None
    named_sha256: str | None = None  # computed only where a header claims a digest that data_sha256 does not explain
    sshs_legacy: str | None = None  # None also where it cannot be reproduced

    @property
    def autov2(self) -> str:
        return self.sha256[:10]

    @property
    def autov3(self) -> str | None:
        return self.data_sha256[:12] if self.data_sha256 else None

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": encodable(self.name),
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "autov1": self.autov1,
            "autov2": self.autov2,
            "autov3": self.autov3,
            "sshs_model_hash": self.data_sha256,
            "sshs_legacy_hash": self.sshs_legacy,
            "named_sha256": self.named_sha256,
        }


def hash_file(
    path: str | os.PathLike[str],
    tensors: Mapping[str, TensorInfo] = EMPTY,
    metadata: Mapping[str, Any] = EMPTY,
    *,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> FileHashes:
    """All digests of a file, read once from start to end.

    ``tensors`` and ``metadata``, as its header has them, are needed for ``sshs_legacy`` and
    ``named_sha256`` only; the latter reads the data a second time, and only where the header claims a
    digest that the first reading does not explain. ``progress(bytes_done, bytes_in_all)``.

    Raises: FileAccessError; FormatError where the file shrinks meanwhile; CancelledError soon after
    ``cancel()`` is true.
    """
    with InputFile(path) as file:
        start = _data_start(file)
        sha256, data_sha256 = _stream(file, start, progress, cancel)
        claim = _hex_claim(metadata.get("modelspec.hash_sha256"))
        needs_order = claim is not None and data_sha256 is not None and claim != data_sha256
        return FileHashes(
            name=os.path.basename(file.path),
            size_bytes=file.size,
            sha256=sha256,
            autov1=_window(file, WINDOW_START)[:8],
            data_sha256=data_sha256,
            named_sha256=_in_name_order(file, tensors, cancel) if needs_order and tensors else None,
            sshs_legacy=None if start is None else _legacy(file, start, tensors, metadata),
        )


def _data_start(file: InputFile) -> int | None:
    """Where the data of a safetensors file begins; None for other containers."""
    if file.size <= _LENGTH_BYTES:
        return None
    head = file.read(0, _LENGTH_BYTES + 1)
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    is_header = head[_LENGTH_BYTES:] == b"{" and length <= min(HEADER_LIMIT, file.size - _LENGTH_BYTES)
    return _LENGTH_BYTES + length if is_header else None


def _stream(
    file: InputFile, start: int | None, progress: Progress | None, cancel: Cancel | None
) -> tuple[str, str | None]:
    """SHA-256 of the whole file and of what follows ``start``, side by side: hashlib releases the interpreter lock."""
    whole, data = hashlib.sha256(), hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with ThreadPoolExecutor(max_workers=1) as second:
        for done in range(0, file.size, _CHUNK):
            if cancel is not None and cancel():
                raise CancelledError(f"stopped as asked, after {done:,} of {file.size:,} bytes")
            chunk = buffer[: min(_CHUNK, file.size - done)]
            file.read_into(chunk, done)
            pending = None if start is None else second.submit(data.update, chunk[max(start - done, 0) :])
            whole.update(chunk)
            if pending is not None:
                pending.result()
            if progress is not None:
                progress(done + len(chunk), file.size)
    return whole.hexdigest(), None if start is None else data.hexdigest()


def _window(file: InputFile, offset: int) -> str:
    count = max(min(WINDOW_BYTES, file.size - offset), 0)
    return hashlib.sha256(file.read(offset, count)).hexdigest()


def _legacy(file: InputFile, start: int, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, Any]) -> str | None:
    """``sshs_legacy_hash``: with a shorter header the same data lies further ahead, so the window moves back.

    None where the header does not let itself be repeated, or reaches into the window: its order is unknown.
    """
    ordered = sorted(tensors.items(), key=lambda item: item[1].offset)
    plans = [TensorPlan(name, info.dtype, info.shape) for name, info in ordered]
    try:
        header = header_bytes(plans, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    except OptionError:
        return None
    offset = WINDOW_START - len(header)
    return _window(file, start + offset)[:8] if plans and offset >= 0 else None


def _in_name_order(file: InputFile, tensors: Mapping[str, TensorInfo], cancel: Cancel | None) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if cancel is not None and cancel():
            raise CancelledError("stopped as asked, while hashing the tensors by name")
        info = tensors[name]
        for offset in range(info.offset, info.offset + info.nbytes, _CHUNK):
            digest.update(file.read(offset, min(_CHUNK, info.offset + info.nbytes - offset)))
    return digest.hexdigest()


# -- what a header claims ----------------------------------------------------------------------------


def embedded_autov3(metadata: Mapping[str, Any]) -> str | None:
    """AutoV3 as sites take it from the header: 12 digits of ``sshs_model_hash``, else of ModelSpec's digest."""
    for key in ("sshs_model_hash", "modelspec.hash_sha256"):
        claim = _hex_claim(metadata.get(key))
        if claim is not None and len(claim) >= 12 and not _is_placeholder(claim):
            return claim[:12]
    return None


def check_claims(metadata: Mapping[str, Any], computed: FileHashes | None = None) -> list[Finding]:
    """What is wrong with the digests in a header; with ``computed``, also whether they are those of the data."""
    findings = []
    for key in ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256"):
        value = metadata.get(key)
        if value is None or (isinstance(value, str) and value.strip() in ("", "None")):
            continue
        claim = _hex_claim(value)
        if claim is None:
            findings.append(Finding("warning", "hash-format", f"{key} holds no hexadecimal digest"))
        elif _is_placeholder(claim):
            findings.append(_placeholder(key, claim))
        elif computed is not None and computed.data_sha256 is not None:
            findings += _compared(key, claim, computed)
    return findings


def _compared(key: str, claim: str, computed: FileHashes) -> list[Finding]:
    if key == "sshs_model_hash" and not str(computed.data_sha256).startswith(claim):
        message = f"{key} is {claim[:12]}…, the tensors hash to {computed.autov3}…: they changed after it was written"
        return [Finding("warning", "hash-stale", message)]
    if key == "modelspec.hash_sha256" and claim not in (computed.data_sha256, computed.named_sha256):
        message = (
            f"{key} is {claim[:12]}…, which is not the digest of the tensors in file order or in name order: "
            "it is stale, or was taken in an order the file does not show"
        )
        return [Finding("warning", "hash-unverified", message)]
    if key == "sshs_legacy_hash" and computed.sshs_legacy is not None and claim != computed.sshs_legacy:
        message = (
            f"{key} is {claim[:8]}, by its definition it would be {computed.sshs_legacy}: "
            "tensors or ss_ keys changed after it was written"
        )
        return [Finding("info", "hash-unverified", message)]
    return []


def _placeholder(key: str, claim: str) -> Finding:
    what = "zeros" if not claim.strip("0") else "the digest of nothing"
    return Finding("warning", "hash-placeholder", f"{key} is {what}, so the file cannot be found by it")


def _is_placeholder(claim: str) -> bool:
    # Eight digits of the empty digest are a true legacy hash: of every file that ends before the window.
    return not claim.strip("0") or (len(claim) > 8 and EMPTY_SHA256.startswith(claim))


def _hex_claim(value: Any) -> str | None:
    """The digits in lower case without a leading ``0x``; None where they are none."""
    if not isinstance(value, str):
        return None
    digits = value.strip().lower().removeprefix("0x")
    return digits if 8 <= len(digits) <= 64 and _HEX.issuperset(digits) else None
