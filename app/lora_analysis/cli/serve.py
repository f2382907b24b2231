"""``lora serve``: the REST server and the web UI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import complain, emit
from .quantities import bytes_of

if TYPE_CHECKING:
    from ..server.settings import Settings


def serve(
    roots: Annotated[
        list[Path] | None, typer.Argument(metavar="[ROOT...]", help="Folders of adapters.", show_default=False)
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than loopback need --allow-remote.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = 8777,
    token: Annotated[
        str | None,
        typer.Option(
            help="Fixed token; LORA_TOKEN is better hidden. A new one per start unless you say.", show_default=False
        ),
    ] = None,
    password: Annotated[
        bool,
        typer.Option(
            "--password",
            help="Ask now for a password that opens the pages too; LORA_PASSWORD where nobody can be asked.",
        ),
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the pages in a browser.")] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where jobs write; beside the server's state unless you say.", show_default=False
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Catalog, jobs, uploads; your data folder unless you say.", show_default=False
        ),
    ] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Let others than this machine connect.")] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A further name of this server, as a proxy sends it; repeatable.", show_default=False
        ),
    ] = None,
    max_upload: Annotated[str, typer.Option(metavar="SIZE", help="Largest upload.")] = "2GB",
    job_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that one job may use; half of the machine's unless you say.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the library's adapters, the REST API and the web pages, to who has the token.

    Prints the address with the token. Listens on this machine only. Reads in the roots named and in its own folders,
    and writes in its own folders alone.
    """
    from ..server import serving
    from ..server.settings import Limits, Settings
    from ..server.ui import find_ui

    folders = tuple(roots or ())
    limits = {"upload_bytes": bytes_of(max_upload)}
    if job_memory is not None:
        limits["memory_bytes"] = bytes_of(job_memory)
    settings = Settings(
        state=state or serving.default_state(folders),
        token=serving.find_token(token),
        roots=folders,
        outputs=output,
        host=host,
        port=port,
        hosts=tuple(allow_host or ()),
        password_hash=_password_hash() if password else None,
        ui=find_ui(),
        limits=Limits(**limits),
    )

    def ready(settings: Settings, one_time: str) -> None:
        emit(serving.url_of(settings, settings.token))
        sys.stdout.flush()  # a pipe is written to when its buffer is full, and whoever reads it waits for this line
        if settings.ui is None:
            complain("the web pages are not built; see the page that is served instead", kind="note")
        if allow_remote:
            complain("others can connect, and the connection is not encrypted", kind="warning")
        if browser:
            serving.open_browser(settings, one_time)

    serving.serve(settings, allow_remote=allow_remote, ready=ready)


def _password_hash() -> str:
    import os

    from ..server.auth.credentials import hash_password

    given = os.environ.get("LORA_PASSWORD")
    return hash_password(given or typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
