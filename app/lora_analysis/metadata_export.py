"""Inspection documents as files: strict JSON, plain text or Markdown, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .errors import FileAccessError, FormatError, OptionError
from .formats.atomic import atomic_file
from .formats.files import InputFile
from .formats.strict_json import dumps
from .inspection.file_facts import path_text
from .inspection.rendering import render_markdown, render_text
from .json_ready import json_ready

_FORMATS: Mapping[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], str]]] = {
    "json": ((".json",), partial(dumps, indent=2)),
    "text": ((".txt", ".text"), render_text),
    "markdown": ((".md", ".markdown"), render_markdown),
}
_ALIASES = {"txt": "text", "md": "markdown"}
# What holds weights, or says how to read them, is never replaced by a description of it.
_WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf"})
_CONFIG_NAMES = frozenset({"adapter_config.json", "config.json"})
_MAGICS = (b"PK\x03\x04", b"GGUF", b"\x80\x02")  # zip, GGUF, legacy pickle
_SNIFFED_BYTES = 16


def write_document(metadata: Mapping[str, Any], path: str | os.PathLike[str], format: str | None = None) -> str:  # noqa: A002
    """Write ``metadata`` to ``path`` and return the format, by default the one its suffix names.

    An older export is replaced, an adapter or its configuration never.
    Raises: OptionError for an unknown format or a target that is an adapter; OutputError where it cannot be written.
    """
    if not isinstance(metadata, Mapping):
        raise OptionError(f"the metadata to export is a {type(metadata).__name__}; expected a dict of blocks")
    target = path_text(path)
    chosen = _format_of(target, format)
    _refuse_adapter(target)
    content = _FORMATS[chosen][1](json_ready(metadata))
    if not content.endswith("\n"):
        content += "\n"
    with atomic_file(target, overwrite=True) as file:
        file.write(content.encode("utf-8"))
    return chosen


def _format_of(target: str, wanted: str | None) -> str:
    if wanted is not None:
        name = _ALIASES.get(wanted.lower(), wanted.lower())
        if name not in _FORMATS:
            raise OptionError(f"unknown export format {wanted}; known: {', '.join(_FORMATS)}")
        return name
    suffix = os.path.splitext(target)[1].lower()
    for name, (suffixes, _) in _FORMATS.items():
        if suffix in suffixes:
            return name
    raise OptionError(f"{target}: the suffix names no export format; use .json, .txt or .md, or give the format")


def _refuse_adapter(target: str) -> None:
    name = os.path.basename(target).lower()
    is_index = name.endswith(".index.json")
    if os.path.splitext(name)[1] in _WEIGHT_SUFFIXES or name in _CONFIG_NAMES or is_index or _holds_weights(target):
        raise OptionError(f"{target}: that is an adapter or part of one; export to another name")


def _holds_weights(target: str) -> bool:
    """Whether a file that is already there begins like weights, whatever its name."""
    try:
        with InputFile(target) as file:
            head = file.read(0, min(file.size, _SNIFFED_BYTES))
    except (FileAccessError, FormatError):  # absent, a folder, not readable: writing says which
        return False
    is_safetensors = head[8:9] == b"{" and head[5:8] == bytes(3)  # a header below 1 TB; text holds no NUL
    return is_safetensors or head.startswith(_MAGICS)
