"""Results on stdout, everything else on stderr; nothing a file says can steer the terminal.

Strings from files go through :func:`shown`, which escapes control characters and never reads console markup. JSON is
strict (no NaN, no lone surrogates) and pure ASCII, so it survives every pipe and locale.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from ..json_ready import json_ready
from ..text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

PIPE_WIDTH = 120  # columns where nobody says how wide the output is


def console(*, stderr: bool = False) -> Console:
    """A console that prints strings literally. Colour only on a terminal and without NO_COLOR."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def show(renderable: RenderableType) -> None:
    """Draw on stdout, without the blanks that fill the last column up to the width."""
    drawing = console()
    with drawing.capture() as captured:
        drawing.print(renderable)
    emit("\n".join(line.rstrip() for line in captured.get().split("\n")).rstrip("\n"))


def shown(value: object, style: str = "", *, limit: int | None = None) -> Text:
    """A string from a file as rich text: escaped, not interpreted, at most ``limit`` characters."""
    from rich.text import Text

    return Text(printable(value, limit=limit), style=style)


def complain(message: str, *, kind: str = "error") -> None:
    """One line on stderr: ``error: <message>``. No rich: an error must cost nothing and cannot fail."""
    sys.stderr.write(f"{kind}: {printable(message)}\n")


def emit(text: str) -> None:
    """Write a finished text, line breaks kept, to stdout."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def emit_json(document: object) -> None:
    """One indented JSON document on stdout."""
    emit(to_json(document, indent=2))


def to_json(document: object, *, indent: int | None = None) -> str:
    """One strict JSON document, ASCII only: DEL, C1 and bidi characters leave as ``\\u`` escapes too."""
    return json.dumps(json_ready(document), allow_nan=False, indent=indent)
