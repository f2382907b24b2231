"""Press Ctrl-C on a program that has begun its work, and see how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import NamedTuple

# A shell without job control starts background jobs with SIGINT ignored, and children inherit that: whoever runs the
# tests so would test nothing.
AS_ON_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
_LONGEST = 20.0  # seconds


class Ended(NamedTuple):
    """How the program ended."""

    code: int
    out: str  # after the first line
    err: str
    seconds: float  # since the signal


def interrupted(program: str, *arguments: str) -> Ended:
    """Run ``program`` (Python), send SIGINT once it has printed a line, and wait for its end.

    Raises: AssertionError where it ends before that line, with what it said; subprocess.TimeoutExpired where it goes
    on. No process and no pipe is left then either.
    """
    command = [sys.executable, "-c", AS_ON_A_TERMINAL + program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            if not child.stdout.readline():
                err = child.communicate(timeout=_LONGEST)[1]
                raise AssertionError(f"ended with {child.returncode} before its first line: {err}")
            child.send_signal(signal.SIGINT)
            sent = time.monotonic()
            out, err = child.communicate(timeout=_LONGEST)
        except BaseException:
            child.kill()  # leaving the block closes the pipes and waits
            raise
    return Ended(child.returncode, out, err, time.monotonic() - sent)
