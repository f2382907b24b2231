"""A checkpoint's files, opened together: one safetensors file, shards with their index, or a diffusers pipeline.

A pipeline is a folder with ``model_index.json`` and a folder for each component (diffusers, ``DiffusionPipeline``). Its
tensors are called after their component, ``unet.conv_in.weight``, as adapters of several components call theirs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..adapter import FloatArray, TensorInfo
from ..errors import ConfigError, FileAccessError, OptionError
from .container import open_source
from .discovery import COMPONENTS, DENOISERS, PIPELINE_INDEX, component_folders
from .folder import read_config
from .source import FileSource

_HEADER_LIMIT = 100_000_000  # bytes; what the format allows
_INDEX = ".safetensors.index.json"
# Of several files in a folder, what diffusers and transformers load: the others are variants, "model.fp16.safetensors".
_USUAL = ("diffusion_pytorch_model", "model")
NORMS_SUFFIX = ".norms.json"  # of the file beside a checkpoint that keeps its weights' norms


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Base weights by name, whichever file holds them."""

    path: Path
    shards: Mapping[str, FileSource]  # file name, of a pipeline with its folder -> its tensors
    index: Path | None  # of a checkpoint in several files, or of a pipeline
    homes: Mapping[str, str]  # tensor -> file name
    components: Mapping[str, str] = field(default_factory=dict)  # of a pipeline: file name -> component

    def info(self, key: str) -> TensorInfo:
        source, own = self._home(key)
        return source.tensors[own]

    def array(self, key: str) -> FloatArray:
        source, own = self._home(key)
        return source.array(own)

    def raw(self, key: str) -> bytes:
        """The stored bytes of one tensor."""
        source, own = self._home(key)
        return source.raw(own)

    def _home(self, key: str) -> tuple[FileSource, str]:
        file = self.homes[key]
        component = self.components.get(file)
        return self.shards[file], key if component is None else key.removeprefix(f"{component}.")

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

    def require_one_component(self, what: str) -> None:
        """Raises: OptionError for a whole pipeline, where ``what`` is for one checkpoint."""
        if self.components:
            first = next(iter(self.components.values()))
            raise OptionError(f"{self.path} is a pipeline; {what} one component of it, e.g. {self.path / first}")


class _Part(NamedTuple):
    """Files of one folder that belong together."""

    folder: Path
    names: list[str]
    index_file: Path | None = None
    listed: Collection[str] = ()  # tensors that the index promises


@contextmanager
def open_checkpoint(path: str | os.PathLike[str]) -> Iterator[Checkpoint]:
    """Open a file, the index of a sharded checkpoint, a folder with one of either, or a pipeline's folder.

    Raises: FileAccessError where there is none, ConfigError for an index that does not fit its shards, HeaderError;
    OptionError for a pipeline with two denoisers, whose weights have the same names.
    """
    path = Path(path)
    parts = _parts_of_pipeline(path) if (path / PIPELINE_INDEX).is_file() else {"": _part_of(path)}
    with ExitStack() as stack:
        shards: dict[str, FileSource] = {}
        homes: dict[str, str] = {}
        for component, part in parts.items():
            prefix = f"{component}." if component else ""
            for name in part.names:
                file = os.path.join(component, name)
                source = open_source(part.folder / name, header_limit=_HEADER_LIMIT)
                stack.callback(source.close)
                shards[file] = source
                for key in source.tensors:
                    if prefix + key in homes:
                        raise ConfigError(f"{file}: tensor {key} is also in {homes[prefix + key]}")
                    homes[prefix + key] = file
            missing = [key for key in part.listed if prefix + key not in homes]
            if missing and part.index_file is not None:
                raise ConfigError(
                    f"{part.index_file.name}: tensor {missing[0]} is listed, no shard holds it ({len(missing)} missing)"
                )
        if "" in parts:
            yield Checkpoint(path, shards, parts[""].index_file, homes)
        else:
            yield Checkpoint(
                path, shards, path / PIPELINE_INDEX, homes, {file: os.path.dirname(file) for file in shards}
            )


def _parts_of_pipeline(path: Path) -> dict[str, _Part]:
    """Component -> its files, of the components that adapters change."""
    listed = read_config(path / PIPELINE_INDEX) or {}
    found = [name for name in component_folders(os.fspath(path)) if name in listed]
    denoisers = [str(path / name) for name in found if name in DENOISERS]
    if len(denoisers) > 1:
        raise OptionError(f"{path}: the pipeline has several denoisers; name one of {', '.join(denoisers)}")
    if not found:
        raise FileAccessError(f"{path}: the pipeline has none of the folders {', '.join(COMPONENTS)}")
    return {name: _part_of(path / name) for name in found}


def _part_of(path: Path) -> _Part:
    if path.name.endswith(_INDEX):
        return _sharded(path)
    if not path.is_dir():
        return _Part(path.parent, [path.name])
    indices = sorted(file.name for file in path.glob(f"*{_INDEX}"))
    files = sorted(file.name for file in path.glob("*.safetensors"))
    for usual in _USUAL:
        if usual + _INDEX in indices:
            return _sharded(path / (usual + _INDEX))
        if f"{usual}.safetensors" in files:
            return _Part(path, [f"{usual}.safetensors"])
    if len(indices) == 1:
        return _sharded(path / indices[0])
    if len(files) != 1 or indices:
        what = f"{len(indices)} indices" if indices else f"{len(files)} safetensors files and no index"
        raise FileAccessError(f"{path}: the folder holds {what}; name the checkpoint's file or its index")
    return _Part(path, files)


def _sharded(index: Path) -> _Part:
    document = read_config(index)
    weight_map = document.get("weight_map") if document else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise ConfigError(f"{index.name}: weight_map is missing or empty")
    names = sorted({str(name) for name in weight_map.values()})
    outside = next((name for name in names if name != os.path.basename(name) or name in ("", ".", "..")), None)
    if outside is not None:
        raise ConfigError(f"{index.name}: shard {outside!r} is not a plain file name")
    return _Part(index.parent, names, index, weight_map)
