"""What the routes of one application share: its parts, put together once."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import IO

from ..errors import OutputError
from .auth.credentials import Credentials
from .catalog.query import Library
from .catalog.store import Catalog
from .jobs.events import Events
from .jobs.runner import JobRunner
from .jobs.store import JobStore
from .roots import Root, link_roots, roots_of
from .settings import Settings
from .trash import empty_trash


class Server:
    """The parts of one server. Making it reads and makes the state folder; nothing runs before ``start``."""

    def __init__(self, settings: Settings) -> None:
        os.makedirs(settings.state, mode=0o700, exist_ok=True)
        self._lock = _lock(settings)
        try:
            self.settings = settings
            self.roots = roots_of(settings)
            link_roots(self.roots, settings.names_folder)
            self.catalog = Catalog(settings.state)
            self.catalog.forget_other_roots(self.roots)
            self.library = Library(self.catalog)
            self.jobs = JobStore(settings.state)
            self.events = Events()
            self.runner = JobRunner(settings, self.roots, self.jobs, self.events)
            self.credentials = Credentials(settings)
        except BaseException:
            self._lock.close()
            raise

    def start(self) -> None:
        _remove_partial_uploads(self.settings)
        empty_trash(self.settings)
        self.runner.start()
        if self.settings.scan_at_start:
            # As many jobs as may wait can have been left by the last run: no reason not to start.
            self.runner.submit("scan", "Scan the library", {"roots": []}, key="scan:", even_if_full=True)

    def stop(self) -> None:
        self.events.close()
        self.runner.stop()
        empty_trash(self.settings)
        self.catalog.database.close()
        self.jobs.database.close()
        self._lock.close()

    def root(self, wanted: str) -> Root | None:
        return next((root for root in self.roots if root.id == wanted), None)

    def root_of_kind(self, kind: str) -> Root:
        return next(root for root in self.roots if root.kind == kind)


def _lock(settings: Settings) -> IO[str]:
    """Hold the state folder while this process lives. Raises: OutputError where another server holds it."""
    file = open(settings.state / "lock", "a", encoding="ascii")  # noqa: SIM115  # held until the server ends
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OutputError("another server serves these folders already; stop it, or give another --state") from error
    return file


def _remove_partial_uploads(settings: Settings) -> None:
    """What was being uploaded when the last server ended."""
    with suppress(OSError), os.scandir(settings.uploads_folder) as entries:
        for entry in entries:
            if entry.name.startswith(".upload-"):
                with suppress(OSError):
                    os.unlink(entry.path)
