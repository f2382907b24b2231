"""Write a state dict as a PyTorch checkpoint (``.pt``, ``.bin``), without torch.

Layout, as ``torch.save`` writes it since 1.6: a zip archive of uncompressed records ``data.pkl``,
``byteorder``, ``data/0``, ``data/1``, ... and ``version`` under one root. Observed in torch 2.13.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from .atomic import atomic_file
from .chunks import Cancel, Progress, checked_chunks, closing_chunks
from .digests import DataDigest
from .layout import TensorPlan, check_names, data_size
from .state_dict_pickle import state_dict_pickle
from .stored_zip import StoredZip
from .target import PathLike
from .writer import WriteReport, file_sha256

if TYPE_CHECKING:
    from typing_extensions import Buffer

TORCH_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
_ROOT = "archive"


def write_torch(
    target: PathLike,
    tensors: Sequence[TensorPlan],
    chunks: Iterable[Buffer],
    metadata: Mapping[str, str],
    *,
    overwrite: bool = False,
    with_hashes: bool = True,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> WriteReport:
    """Write ``tensors`` to ``target``, whole or not at all; the arguments are those of ``write_safetensors``.

    The container has no place for metadata: the report lists its keys as ``dropped_metadata``.

    Raises: OptionError for a plan that cannot be written, 4- and 6-bit floats among others; ShapeError
    for a buffer that is not what was planned; CancelledError; OutputError. In every case the old file
    is untouched.
    """
    check_names(tensors)
    index = state_dict_pickle(tensors)
    digest = DataDigest(tensors, {}) if with_hashes else None
    size = len(index) + data_size(tensors)  # at least
    with closing_chunks(chunks), atomic_file(target, overwrite=overwrite, size_hint=size) as file:
        archive = StoredZip(file)
        archive.add(f"{_ROOT}/data.pkl", index)
        archive.add(f"{_ROOT}/byteorder", b"little")
        for number, data in enumerate(checked_chunks(tensors, chunks, progress, cancel)):
            archive.add(f"{_ROOT}/data/{number}", data)
            if digest is not None:
                digest.update(data)
        archive.add(f"{_ROOT}/version", b"3\n")
        archive.finish()
        size = file.tell()
        sha256 = file_sha256(file) if with_hashes else None
    data_sha256 = digest.hexdigest() if digest else None
    return WriteReport(os.fspath(target), size, sha256, data_sha256, dropped_metadata=tuple(metadata))
