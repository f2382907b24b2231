"""Figures as files: whole or not at all, the same bytes every time."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from ..formats.atomic import atomic_file
from .style import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]
FORMATS = ("png", "svg", "pdf")
SUFFIXES = tuple(f".{name}" for name in FORMATS)
DPI = 160
# No dates and no program versions: the same figure gives the same file.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def format_of(target: PathLike) -> str:
    """The format that a suffix names. Raises: OptionError for another one."""
    suffix = os.path.splitext(os.fspath(target))[1].lower()
    if suffix not in SUFFIXES:
        raise OptionError(f"{os.fspath(target)}: a figure's name ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return suffix[1:]


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a PNG, SVG or PDF file."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=_METADATA[kind])
    return buffer.getvalue()


def save(figure: Figure, target: PathLike, *, overwrite: bool) -> None:
    """Write a figure in the format of the target's suffix. Raises: OptionError, OutputError."""
    data = rendered(figure, format_of(target))
    with atomic_file(target, overwrite=overwrite, size_hint=len(data)) as file:
        file.write(data)
