"""``lora check``: only what is wrong, and an exit code that says so."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import typer

from ..json_ready import encodable
from .exits import Exit
from .inputs import resolve
from .looking import Options, Outcome, look_at_all
from .output import complain, emit, emit_json, show, shown
from .progress import counted
from .shared_options import AsJson

SCHEMA = "lora-analysis/check/1"


class Severity(StrEnum):
    """How bad a finding is; later is worse."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_ORDER = list(Severity)


class Runtime(StrEnum):
    """``--for``."""

    VLLM = "vllm"
    LLAMA_CPP = "llama.cpp"
    DIFFUSERS = "diffusers"
    COMFYUI = "comfyui"


class Checked(NamedTuple):
    """The findings of one adapter."""

    path: str
    findings: list[dict[str, Any]]


def checked(outcome: Outcome) -> Checked:
    """Condense an outcome; runs in the workers."""
    return Checked(outcome.path, outcome.findings)


def check(
    paths: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Files, folders, patterns.", show_default=False)
    ],
    json: AsJson = False,
    scan: Annotated[bool, typer.Option("--scan", help="Read every value and look for NaN and infinity.")] = False,
    severity: Annotated[
        Severity, typer.Option(help="Count and show findings from this severity on.")
    ] = Severity.WARNING,
    runtime: Annotated[
        Runtime | None,
        typer.Option("--for", help="Also what this program would misread or refuse.", show_default=False),
    ] = None,
) -> None:
    """List what is broken, contradictory or suspicious. Exit code 3 where there is anything.

    A file that cannot be read at all is a finding too.
    """
    inputs = resolve(paths)
    counting = _ORDER[_ORDER.index(severity) :]
    outcomes = look_at_all(inputs.paths, Options(scan=scan), condense=checked)
    results = [
        Checked(path, [one for one in [*findings, *_misread(path, runtime)] if one["severity"] in counting])
        for path, findings in counted(outcomes, len(inputs.paths))
    ]
    for path in inputs.skipped:
        complain(f"{path}: not a regular file; skipped", kind="note")
    problems = sum(len(result.findings) for result in results)
    if json:
        emit_json(_document(results, problems))
    else:
        _print(results, problems)
    raise typer.Exit(Exit.PROBLEMS if problems else Exit.OK)


def _misread(path: str, runtime: Runtime | None) -> list[dict[str, Any]]:
    """What the program asked about would read otherwise; nothing for a file that cannot be read, which is said."""
    if runtime is None:
        return []
    from ..errors import LoraAnalysisError
    from ..formats import open_adapter
    from ..runtimes import check_for

    try:
        with open_adapter(path, lenient_metadata=True) as adapter:
            return [one.to_dict() for one in check_for(runtime.value, adapter)]
    except LoraAnalysisError:
        return []


def _document(results: list[Checked], problems: int) -> dict[str, Any]:
    adapters = [{"path": encodable(path), "findings": findings} for path, findings in results]
    return {"schema": SCHEMA, "problems": problems, "adapters": adapters}


def _print(results: list[Checked], problems: int) -> None:
    from .view import findings_table

    for path, findings in results:
        if findings:
            show(shown(path, "bold"))
            show(findings_table(findings))
            for fix in dict.fromkeys(finding["fix"] for finding in findings if finding.get("fix")):
                show(shown(f"fix: {fix}", "green", limit=400))
            emit("")
    clean = sum(not result.findings for result in results)
    emit(f"{len(results)} checked, {clean} without problems, {problems} found")
