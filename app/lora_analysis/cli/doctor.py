"""``lora doctor``: versions, optional parts, BLAS, cores, temporary folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from .exits import Exit
from .output import emit_json, show, shown
from .shared_options import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from ..doctor import Diagnosis

SCHEMA = "lora-analysis/doctor/1"


def doctor(
    json: AsJson = False,
) -> None:
    """Show versions, optional parts with the line that installs each, BLAS, cores and the temporary folder.

    Exit code 1 where something needed is missing.
    """
    from ..doctor import diagnose

    diagnosis = diagnose()
    if json:
        emit_json({"schema": SCHEMA, **diagnosis.to_dict()})
    else:
        show(_table(diagnosis))
    if diagnosis.problems:
        raise typer.Exit(Exit.FAILURE)


def _table(diagnosis: Diagnosis) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("lora-analysis", shown(f"{diagnosis.version}  {diagnosis.location}"))
    table.add_row("python", shown(f"{diagnosis.python} on {diagnosis.platform}"))
    table.add_row("packages", shown(_versions(diagnosis.packages)))
    for name, extra in diagnosis.extras.items():
        if extra.installed:
            table.add_row(f"[{name}]", shown(_versions(extra.packages), "green"))
        else:
            table.add_row(f"[{name}]", shown(f"not installed: {extra.install}", "dim"))
    for library in diagnosis.blas:
        described = f"{library['internal_api']} {library['version'] or ''}, {library['num_threads']} threads"
        table.add_row("threads", shown(described))
    table.add_row("cores", shown(diagnosis.cores))
    free = diagnosis.temporary_free_bytes
    table.add_row("temporary", shown(f"{diagnosis.temporary_folder}  {(free or 0) / 1e9:.1f} GB free"))
    for problem in diagnosis.problems:
        table.add_row("problem", shown(problem, "bold red"))
    return table


def _versions(packages: dict[str, str | None]) -> str:
    return "  ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
