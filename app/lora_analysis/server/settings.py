"""How a server is set up: plain values, so that building an application and running it stay apart."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ..doctor import usable_cores

_GIGABYTE = 1_000_000_000
_MOST_WORKERS = 2  # jobs at once; each uses every core for its layers already
MIN_TOKEN_CHARACTERS = 22  # of an alphabet of 64: 132 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one client, one job and one upload may cost."""

    upload_bytes: int = 2 * _GIGABYTE
    body_bytes: int = 1_000_000  # of a JSON request
    slow_seconds: float = 60.0  # for a request to arrive, and for a client to take a piece of a reply
    queued_jobs: int = 100
    workers: int = field(default_factory=lambda: max(1, min(_MOST_WORKERS, usable_cores())))
    memory_bytes: int = field(default_factory=lambda: default_memory())
    analysis_seconds: float = 600.0
    write_seconds: float = 3_600.0
    idle_seconds: float = 30.0  # after which a worker process without work ends, and gives its memory back
    results_bytes: int = 2 * _GIGABYTE  # kept results of analyses, oldest dropped first
    failures_per_minute: int = 5  # wrong tokens or passwords per address
    session_seconds: float = 7 * 86_400.0  # since the last request


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a server needs to know. ``token`` never leaves this value but for comparison."""

    state: Path  # catalog, jobs, uploads, results; one server at a time uses it
    token: str = field(repr=False)
    roots: tuple[Path, ...] = ()
    outputs: Path | None = None  # where jobs write; a folder in ``state`` unless said otherwise
    host: str = "127.0.0.1"
    port: int = 8777
    hosts: tuple[str, ...] = ()  # further names by which this server may be addressed
    password_hash: str | None = field(default=None, repr=False)
    ui: Path | None = None  # the built web UI; None where there is none
    limits: Limits = field(default_factory=Limits)
    scan_at_start: bool = True

    @property
    def uploads_folder(self) -> Path:
        return self.state / "uploads"

    @property
    def outputs_folder(self) -> Path:
        return self.outputs or self.state / "outputs"

    @property
    def results_folder(self) -> Path:
        """Finished analyses, one file per job."""
        return self.state / "results"

    @property
    def trash_folder(self) -> Path:
        """What was removed, until the server ends."""
        return self.state / "trash"

    @property
    def names_folder(self) -> Path:
        """One link per root. Workers run here, so that every path they see or say is ``label/inside/the/root``."""
        return self.state / "names"


def default_memory() -> int:
    """Bytes one job may use: half of this machine's memory, from 1 to 16 GB."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # the system does not say
        return 4 * _GIGABYTE
    return max(_GIGABYTE, min(16 * _GIGABYTE, total // 2))
