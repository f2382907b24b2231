"""A checkpoint's files: one safetensors file, or shards with their index, opened together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..adapter import FloatArray, TensorInfo
from ..errors import ConfigError, FileAccessError
from .container import open_source
from .folder import read_config
from .source import FileSource

_HEADER_LIMIT = 100_000_000  # bytes; what the format allows
_INDEX = ".safetensors.index.json"
NORMS_SUFFIX = ".norms.json"  # of the file beside a checkpoint that keeps its weights' norms


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Base weights by name, whichever file holds them."""

    path: Path
    shards: Mapping[str, FileSource]  # file name -> its tensors, in the order of the names
    index: Path | None  # of a checkpoint in several files
    homes: Mapping[str, str]  # tensor -> file name

    def info(self, key: str) -> TensorInfo:
        return self.shards[self.homes[key]].tensors[key]

    def array(self, key: str) -> FloatArray:
        return self.shards[self.homes[key]].array(key)

    def raw(self, key: str) -> bytes:
        """The stored bytes of one tensor."""
        return self.shards[self.homes[key]].raw(key)

    @property
    def name(self) -> str:
        """Of its file, index or folder; without the path, which can name a person, it can go into files."""
        return os.path.basename(os.path.abspath(self.path))

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        return {key: self.info(key) for key in self.homes}

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(source.size for source in self.shards.values())

    @property
    def main_file(self) -> Path:
        """The index, or the only file: one path, whether the checkpoint was named by it or by its folder."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return self.index or folder / next(iter(self.shards))

    @property
    def files(self) -> list[Path]:
        """Everything that is read."""
        folder = self.path if self.path.is_dir() else self.path.parent
        return [folder / name for name in self.shards] + ([self.index] if self.index else [])


@contextmanager
def open_checkpoint(path: str | os.PathLike[str]) -> Iterator[Checkpoint]:
    """Open a file, the index of a sharded checkpoint, or a folder with one of either.

    Raises: FileAccessError where there is none, ConfigError for an index that does not fit its shards, HeaderError.
    """
    folder, names, index, listed = _files_of(Path(path))
    with ExitStack() as stack:
        shards: dict[str, FileSource] = {}
        homes: dict[str, str] = {}
        for name in names:
            source = open_source(folder / name, header_limit=_HEADER_LIMIT)
            stack.callback(source.close)
            shards[name] = source
            for key in source.tensors:
                if key in homes:
                    raise ConfigError(f"{name}: tensor {key} is also in {homes[key]}")
                homes[key] = name
        missing = [key for key in listed if key not in homes]
        if missing and index is not None:
            raise ConfigError(
                f"{index.name}: tensor {missing[0]} is listed, no shard holds it ({len(missing)} missing)"
            )
        yield Checkpoint(Path(path), shards, index, homes)


def _files_of(path: Path) -> tuple[Path, list[str], Path | None, Collection[str]]:
    """Folder, file names, index, and the tensors that the index lists."""
    if path.name.endswith(_INDEX):
        return _sharded(path)
    if not path.is_dir():
        return path.parent, [path.name], None, ()
    indices = sorted(path.glob(f"*{_INDEX}"))
    if len(indices) == 1:
        return _sharded(indices[0])
    files = sorted(file.name for file in path.glob("*.safetensors"))
    if len(files) != 1 or indices:
        what = f"{len(indices)} indices" if indices else f"{len(files)} safetensors files and no index"
        raise FileAccessError(f"{path}: the folder holds {what}; name the checkpoint's file or its index")
    return path, files, None, ()


def _sharded(index: Path) -> tuple[Path, list[str], Path, Collection[str]]:
    document = read_config(index)
    weight_map = document.get("weight_map") if document else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigError(f"{index.name}: weight_map is missing or empty")
    names = sorted({str(name) for name in weight_map.values()})
    outside = next((name for name in names if name != os.path.basename(name) or name in ("", ".", "..")), None)
    if outside is not None:
        raise ConfigError(f"{index.name}: shard {outside!r} is not a plain file name")
    return index.parent, names, index, weight_map
