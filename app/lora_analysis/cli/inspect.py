"""``lora inspect``: what is inside one adapter, or a row for each of many."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .exits import Exit, code_for_many
from .inputs import Inputs, resolve
from .looking import Options, Outcome, look
from .many import SCHEMA, Format, print_json, print_table
from .output import complain, emit, emit_json, show
from .progress import bytes_bar
from .shared_options import AsJson


def inspect(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files, folders, patterns.", show_default=False)
    ],
    json: AsJson = False,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="One JSON document per line and adapter.")] = False,
    format: Annotated[  # noqa: A002  # the option's name
        Format | None, typer.Option(help="text for one adapter, table for many, unless you say.", show_default=False)
    ] = None,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer.")] = False,
    hash: Annotated[  # noqa: A002  # the option's name
        bool, typer.Option("--hash", help="Read the whole file: SHA-256, AutoV2, AutoV3, and check stored hashes.")
    ] = False,
    tags: Annotated[bool, typer.Option("--tags", help="Show every tag, not only the most frequent.")] = False,
    scan: Annotated[bool, typer.Option("--scan", help="Read every value and look for NaN and infinity.")] = False,
) -> None:
    """Show what is inside an adapter, from its header.

    A folder with adapter_config.json is one adapter; any other folder is searched. One adapter is described, many are
    listed. Exit code 1: it cannot be read or is not valid. 4: so it is for some of many.
    """
    if sum((json, jsonl, format is not None)) > 1:
        raise typer.BadParameter("choose one of --json, --jsonl and --format")
    inputs = resolve(paths)
    options = Options(hash=hash, scan=scan, layers=layers)
    if jsonl or (json and inputs.many):
        code = print_json(inputs, options, lines=jsonl)
    elif inputs.many:
        code = _many(inputs, options, format or Format.TABLE, all_tags=tags)
    else:
        code = _one(inputs.paths[0], options, None if json else format or Format.TEXT, all_tags=tags)
    raise typer.Exit(code)


def _many(inputs: Inputs, options: Options, form: Format, *, all_tags: bool) -> Exit:
    if form != Format.TEXT:
        return print_table(inputs, options, form)
    codes = []
    for path in inputs.paths:
        codes.append(_one(path, options, form, all_tags=all_tags))
        emit("")
    return code_for_many(codes)


def _one(path: str, options: Options, form: Format | None, *, all_tags: bool) -> Exit:
    with bytes_bar(os.path.basename(path), wanted=options.hash or options.scan) as progress:
        outcome = look(path, options, progress)
    if form is None:
        emit_json({"schema": SCHEMA, **outcome.to_dict()})
    elif outcome.document is not None:
        _print(outcome, form, all_tags=all_tags)
    if outcome.complaint:
        complain(outcome.complaint)
    return outcome.code


def _print(outcome: Outcome, form: Format, *, all_tags: bool) -> None:
    document = outcome.document
    assert document is not None  # the caller looked
    if form == Format.TABLE:
        from .rows import rich_table, row_of

        show(rich_table([row_of(outcome)]))
    elif form == Format.MARKDOWN:
        from ..inspection.rendering import render_markdown

        emit(render_markdown(document))
    else:
        from .view import view

        show(view(document, all_tags=all_tags))
