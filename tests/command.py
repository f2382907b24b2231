"""Run the ``lora`` command: in this process, which is quick, or in one of its own, as a user does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple
from unittest import mock

from lora_analysis.cli import main


class Ran(NamedTuple):
    """What a finished command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as strict JSON."""
        return strict_json(self.out)


def lora(*arguments: object) -> Ran:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["lora", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.dict(os.environ, {"COLUMNS": "140"}),
    ):
        try:
            main()
            code: Any = 0
        except SystemExit as stop:
            code = stop.code
    return Ran(int(code or 0), out.getvalue(), err.getvalue())


def lora_process(*arguments: object, timeout: float = 60.0, **environment: str) -> Ran:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "lora_analysis", *map(str, arguments)]
    surroundings = {**os.environ, **environment}
    done = subprocess.run(command, env=surroundings, capture_output=True, timeout=timeout, check=False)
    return Ran(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))


def strict_json(text: str) -> Any:
    """Parsed JSON. Raises: ValueError for NaN, infinities and lone surrogates, which Python alone accepts."""

    def refuse(token: str) -> Any:
        raise ValueError(f"{token} is no JSON")

    document = json.loads(text, parse_constant=refuse)
    json.dumps(document, ensure_ascii=False).encode("utf-8")
    return document
