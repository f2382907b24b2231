"""Jobs that do what jobs should not. The workers of tests load this beside their own kinds; no release knows of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_analysis.errors import CancelledError, OptionError
from lora_analysis.server.work.context import Work
from lora_analysis.server.work.kinds import KINDS, Kind

# What a worker is started with in tests: as in jobs/process.py, and this module loaded first.
BOOT = (
    "import sys, importlib; sys.path.append(sys.argv[1]); "
    f"sys.path.insert(0, {str(Path(__file__).parent)!r}); importlib.import_module('misbehaving').register(); "
    "importlib.import_module(sys.argv[2]).main()"
)


@dataclass(frozen=True, slots=True)
class Trial(Kind):
    """A kind whose function is here."""

    def load(self) -> Callable[[Work], dict[str, Any]]:
        return trial


TRIAL = Trial("trial", "analysis", "", "")
SLOW_WRITE = Trial("slow-write", "write", "", "")


def register() -> None:
    for kind in (TRIAL, SLOW_WRITE):
        KINDS[kind.name] = kind


def trial(work: Work) -> dict[str, Any]:
    """Do ``params["do"]``."""
    done = _DEEDS[work.params["do"]](work)
    work.leave({"done": done})
    return {"pid": os.getpid()}


def _obey(work: Work) -> None:
    """Counts to 1,000 in ten seconds, and stops when asked."""
    report = work.progress("steps")
    for step in range(1_000):
        if work.cancelled():
            raise CancelledError("stopped")
        report(step, 1_000)
        time.sleep(0.01)


def _hoard(work: Work) -> None:
    """Takes memory and uses it."""
    kept = []
    while True:
        kept.append(bytearray(os.urandom(1 << 20)) * 16)


def _refuse(work: Work) -> None:
    raise OptionError("this cannot be done")


def _break(work: Work) -> None:
    raise RuntimeError("a defect\x1b[31m of ours")


def _ask_for_too_much(work: Work) -> None:
    bytearray(1 << 45)


def _print(work: Work) -> None:
    """What a library that prints would do to the conversation."""
    print('{"job": "x", "done": {}, "outputs": []}')
    os.write(1, b"not json\n")


_DEEDS: dict[str, Callable[[Work], Any]] = {
    "well": lambda work: None,
    "obey": _obey,
    "sleep": lambda work: time.sleep(600),
    "hoard": _hoard,
    "ask": _ask_for_too_much,
    "exit": lambda work: os._exit(3),
    "crash": lambda work: os.kill(os.getpid(), signal.SIGSEGV),
    "refuse": _refuse,
    "break": _break,
    "print": _print,
}
