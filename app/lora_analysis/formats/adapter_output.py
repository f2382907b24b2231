"""Where a new adapter goes: one file, or a weights file with its configuration beside it.

PEFT and MLX adapters are two files that mean nothing alone. A folder that does not exist yet appears with both in
it, in one step. In a folder that is there, both files are written first and take their names at the end, the weights
before the configuration: a kill between the two leaves ranks that contradict each other, which loaders refuse.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapter import Adapter
from ..errors import OptionError
from .atomic import atomic_file, synced_folder
from .chunks import Cancel, Progress
from .debris import remove_debris, temporary_folder_beside
from .folder import CONFIG_NAME, WEIGHT_NAMES
from .layout import TensorPlan
from .strict_json import dumps
from .target import PathLike, check_target, explained
from .torch_writer import TORCH_SUFFIXES, write_torch
from .writer import WriteReport, write_safetensors

if TYPE_CHECKING:
    from typing_extensions import Buffer

OUTPUT_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
_WEIGHTS_BY_DIALECT = {"mlx": "adapters.safetensors", "diffusers": "pytorch_lora_weights.safetensors"}


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """The files of a new adapter."""

    target: Path  # as asked for: a file or a folder
    weights: Path
    config: Path | None  # None where the adapter needs none

    @property
    def is_torch(self) -> bool:
        """Whether the weights become a PyTorch checkpoint, which has no place for metadata."""
        return self.weights.suffix.lower() in TORCH_SUFFIXES

    @property
    def is_new_folder(self) -> bool:
        return self.config is not None and self.target != self.weights and not os.path.lexists(self.target)


def place_for(target: PathLike, *, dialect: str, has_config: bool) -> OutputPlace:
    """The files that ``target`` stands for.

    Raises: OptionError for a name that says no format, or that could not be found beside a configuration.
    """
    path = Path(target)
    if path.suffix.lower() in OUTPUT_SUFFIXES:
        if has_config and path.name not in WEIGHT_NAMES:
            raise OptionError(
                f"{path}: this adapter is a weights file and its {CONFIG_NAME}; name a folder, or the file "
                f"{path.parent / _weights_name(dialect)}"
            )
        return OutputPlace(path, path, path.parent / CONFIG_NAME if has_config else None)
    if not has_config:
        raise OptionError(f"{path}: the output name must end in {' or '.join(sorted(OUTPUT_SUFFIXES))}")
    return OutputPlace(path, path / _weights_name(dialect), path / CONFIG_NAME)


def check_place(place: OutputPlace, adapters: Iterable[Adapter], *, overwrite: bool) -> None:
    """Refuse what cannot or must not be written, before any long work.

    Raises: OptionError where a file would replace one of ``adapters``' own, under any name; OutputError where a file
    exists without ``overwrite``, or its folder is missing or may not be written.
    """
    inputs = [file for adapter in adapters for file in input_files(adapter)]
    if place.is_new_folder:
        check_target(os.path.normpath(place.target), inputs, overwrite=overwrite, suffixes=())
        return
    for path in (place.weights, place.config):
        if path is not None:
            check_target(path, inputs, overwrite=overwrite, suffixes=())


def input_files(adapter: Adapter) -> tuple[str, ...]:
    """The files an open adapter is read from, its configuration included."""
    files = tuple(getattr(adapter.source, "files", (adapter.path,)))
    config = Path(files[0]).parent / CONFIG_NAME
    return (*files, os.fspath(config)) if adapter.config is not None and config.exists() else files


def write_adapter(
    place: OutputPlace,
    tensors: Sequence[TensorPlan],
    chunks: Iterable[Buffer],
    metadata: Mapping[str, str],
    config: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    with_hashes: bool = True,
    late_metadata: Callable[[], Mapping[str, str]] | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> WriteReport:
    """Write an adapter to its place, whole or not at all; the arguments are those of ``write_safetensors``.

    Raises: as ``write_safetensors``. In every case what was there before is untouched.
    """
    if place.is_torch:
        write = write_torch
    else:
        write = partial(write_safetensors, late_metadata=late_metadata)

    def write_weights(path: Path) -> WriteReport:
        return write(
            path, tensors, chunks, metadata,
            overwrite=overwrite, with_hashes=with_hashes, progress=progress, cancel=cancel,
        )  # fmt: skip

    if place.config is None:
        return write_weights(place.weights)
    document = dumps(dict(config or {}), indent=2).encode() + b"\n"
    if place.is_new_folder:
        with new_folder(place.target) as folder:
            written = _write_pair(folder / place.weights.name, folder / CONFIG_NAME, document, write_weights)
        return replace(written, path=os.fspath(place.weights))
    return _write_pair(place.weights, place.config, document, write_weights, overwrite=overwrite)


def _write_pair(
    weights: Path,
    config: Path,
    document: bytes,
    write_weights: Callable[[Path], WriteReport],
    *,
    overwrite: bool = False,
) -> WriteReport:
    with atomic_file(config, overwrite=overwrite) as file:  # takes its name after the weights took theirs
        file.write(document)
        return write_weights(weights)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that takes its name when the block ends, and vanishes if the block fails."""
    path = os.path.normpath(target)
    building = Path(temporary_folder_beside(path))
    with synced_folder(path):
        try:
            with explained(path):
                building.mkdir()
                remove_debris(os.fspath(building.parent), now=building.stat().st_mtime)
            yield building
            with explained(path):  # the system refuses where a folder with files took the name meanwhile
                os.rename(building, path)
        except BaseException:
            with suppress(OSError):  # the first error is the one to tell
                shutil.rmtree(building)
            raise


def _weights_name(dialect: str) -> str:
    return _WEIGHTS_BY_DIALECT.get(dialect, "adapter_model.safetensors")
