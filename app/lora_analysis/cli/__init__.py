"""The ``lora`` command: parse, call one use case, render.

Building the command imports typer only. Each command imports its use case, and rich, when it runs, so that
``lora --help`` stays instant.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ..errors import LoraAnalysisError
from .bake import bake
from .check import check
from .compare import compare
from .convert import convert
from .demo import demo
from .doctor import doctor
from .exits import Exit, exit_code
from .extract import extract
from .inspect import inspect
from .merge import merge
from .output import complain, emit
from .pca import pca
from .plot import plot
from .report import report
from .resize import resize
from .serve import serve
from .spectrum import spectrum

__all__ = ["build_app", "main"]

_HELP = """Open any LoRA-family adapter and see what is inside.

Examples:

\b
  lora demo demo-library                     a small library to try things on
  lora inspect adapter.safetensors           one file, for reading
  lora inspect ~/loras --jsonl > loras.jsonl a folder, for a program
  lora merge a.safetensors:0.7 b.safetensors:0.3 -o c.safetensors
"""


def main() -> None:
    """Run ``lora`` with the process's arguments and exit with a code of :class:`.exits.Exit`.

    Typer itself ends usage errors with 2, Ctrl-C with 130 and a closed pipe (``lora inspect ... | head``) quietly.
    """
    try:
        _run()
    except LoraAnalysisError as error:
        complain(error.message)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        complain("no unfinished file is left", kind="interrupted")  # files appear whole or not at all
        sys.exit(Exit.INTERRUPTED)


def _run() -> None:
    try:
        build_app()()
    except SystemExit as stop:
        if stop.code == Exit.INTERRUPTED:  # Typer's own word for Ctrl-C
            raise KeyboardInterrupt from stop
        raise


def build_app() -> typer.Typer:
    """The command with its subcommands."""
    app = typer.Typer(
        name="lora",
        no_args_is_help=True,
        rich_markup_mode=None,  # help is printed as written, and without loading rich
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=_HELP)(_root)
    for command in (
        *(inspect, check, spectrum, pca, compare, plot, report),
        *(resize, merge, convert, bake, extract, serve, demo, doctor, version),
    ):
        app.command()(command)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Options of ``lora`` itself."""


def version() -> None:
    """Show the version."""
    from .. import __version__

    emit(f"lora-analysis {__version__}")
