"""Folders that are one adapter: PEFT, diffusers and MLX layouts, sharded weights, a pipeline's components.

``adapter_config.json`` beside the weights is read as data. Nothing it names is imported, no pattern of it is
run unbounded, and no path in it is followed; shards are looked up by plain file names inside the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..adapter import Finding, TensorInfo, TensorSource
from ..errors import ConfigError, FileAccessError, FormatError
from .files import read_small_file
from .strict_json import loads

if TYPE_CHECKING:
    from ..adapter import FloatArray

CONFIG_NAME = "adapter_config.json"
# In order of preference: safetensors before pickles.
WEIGHT_NAMES = (
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "adapters.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.bin",
    "adapter_model.pt",
    "adapter_model.pth",
    "adapter.gguf",
)
_COMPONENT_FOLDERS = ("unet", "transformer", "transformer_2", "text_encoder", "text_encoder_2", "text_encoder_3")
_MAX_CONFIG_BYTES = 10_000_000
_MAX_SHARDS = 1_000

Opener = Callable[[str], TensorSource]


@dataclass(slots=True)
class JoinedSource:
    """Several weight files read as one: shards, or one file per pipeline component."""

    path: str
    parts: Sequence[tuple[str, TensorSource]]  # prefix added to every name, file
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    _home: dict[str, tuple[TensorSource, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for prefix, source in self.parts:
            self.findings.extend(source.findings)
            for key, value in source.metadata.items():
                self.metadata.setdefault(key, value)
            for name, info in source.tensors.items():
                if prefix + name in self.tensors:
                    raise ConfigError(f"{source.path}: tensor {prefix + name} is also in another file of the folder")
                self.tensors[prefix + name] = info
                self._home[prefix + name] = (source, name)

    @property
    def container(self) -> str:
        return self.parts[0][1].container

    @property
    def size(self) -> int:
        return sum(source.size for _, source in self.parts)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(source.path for _, source in self.parts)

    def array(self, name: str) -> FloatArray:
        source, inner = self._home[name]
        return source.array(inner)

    def raw(self, name: str) -> bytes:
        source, inner = self._home[name]
        return source.raw(inner)

    def scalar(self, name: str) -> float:
        source, inner = self._home[name]
        return source.scalar(inner)

    def scalars(self, names: Sequence[str]) -> dict[str, float]:
        wanted = set(names)
        return {
            prefix + name: value
            for prefix, source in self.parts
            for name, value in source.scalars([name for name in source.tensors if prefix + name in wanted]).items()
        }

    def close(self) -> None:
        for _, source in self.parts:
            source.close()


def read_config(path: Path) -> dict[str, Any] | None:
    """The parsed ``adapter_config.json`` at ``path``, or None where there is no such file.

    Raises: ConfigError naming the file where it is no JSON object.
    """
    if not os.path.lexists(path):
        return None
    try:
        document = loads(read_small_file(path, limit=_MAX_CONFIG_BYTES), what=path.name)
    except FormatError as error:
        raise ConfigError(error.message) from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path.name}: the document is {type(document).__name__}; it must be an object")
    return document


def open_folder(folder: Path, open_file: Opener) -> TensorSource:
    """The weights of an adapter folder. Raises: FileAccessError where the folder holds none."""
    index = next((path for name in WEIGHT_NAMES if (path := folder / f"{name}.index.json").exists()), None)
    if index is not None:
        return _open_shards(folder, index, open_file)
    weights = next((path for name in WEIGHT_NAMES if os.path.lexists(path := folder / name)), None)
    if weights is not None:
        return open_file(os.fspath(weights))
    return _open_components(folder, open_file) or _open_only_file(folder, open_file)


def _open_only_file(folder: Path, open_file: Opener) -> TensorSource:
    """A folder with exactly one safetensors file beside a config: tools name it as they like."""
    found = sorted(folder.glob("*.safetensors")) if (folder / CONFIG_NAME).exists() else []
    if len(found) == 1:
        return open_file(os.fspath(found[0]))
    what = f"{len(found)} weight files of other names" if found else "no adapter weights"
    raise FileAccessError(f"{folder.name}: the folder holds {what}; expected one of {', '.join(WEIGHT_NAMES[:4])}")


def _open_components(folder: Path, open_file: Opener) -> TensorSource | None:
    """PEFT saved into a pipeline's folders (``unet/adapter_model.safetensors``): names get the folder as prefix."""
    found = [
        (f"{component}.", path)
        for component in _COMPONENT_FOLDERS
        if (path := next((p for name in WEIGHT_NAMES if (p := folder / component / name).exists()), None))
    ]
    return _join(folder, found, open_file) if found else None


def _open_shards(folder: Path, index: Path, open_file: Opener) -> TensorSource:
    document = read_config(index)
    weight_map = document.get("weight_map") if document else None
    if not isinstance(weight_map, Mapping) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ConfigError(f"{index.name}: weight_map is missing or is no map of tensor names to file names")
    names = sorted(set(weight_map.values()))
    if len(names) > _MAX_SHARDS:
        raise ConfigError(f"{index.name}: {len(names)} shards; at most {_MAX_SHARDS} are read")
    outside = next((name for name in names if name != os.path.basename(name) or name in ("", ".", "..")), None)
    if outside is not None:
        raise ConfigError(f"{index.name}: shard {outside!r} is not a plain file name")
    joined = _join(folder, [("", folder / name) for name in names], open_file)
    missing = [name for name in weight_map if name not in joined.tensors]
    if missing:
        joined.close()
        raise ConfigError(f"{index.name}: tensor {missing[0]} is listed, no shard holds it ({len(missing)} missing)")
    return joined


def _join(folder: Path, files: Sequence[tuple[str, Path]], open_file: Opener) -> JoinedSource:
    opened: list[tuple[str, TensorSource]] = []
    try:
        for prefix, path in files:
            opened.append((prefix, open_file(os.fspath(path))))
        return JoinedSource(os.fspath(folder), opened)
    except BaseException:
        for _, source in opened:
            source.close()
        raise
