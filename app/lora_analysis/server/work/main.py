"""A worker process: takes jobs as lines of JSON on stdin, tells what becomes of them on stdout.

Nothing is unpickled between the processes. What a job prints goes to stderr, where it cannot break into the
conversation.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TextIO

from ...errors import CancelledError, LoraAnalysisError
from ...text import printable
from ..catalog.store import Catalog
from ..roots import Root
from .context import Work
from .kinds import KINDS

logger = logging.getLogger(__name__)
_NICER = 5  # the server's own process answers first
_RESERVED_BYTES = 3_000_000_000  # address space that threads and libraries reserve and never touch
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


@dataclass(slots=True)
class _Conversation:
    """The two pipes. A line is written whole, whichever thread writes it."""

    out: TextIO
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: dict[str, Any]) -> None:
        with self.lock:
            self.out.write(json.dumps(message) + "\n")
            self.out.flush()


@dataclass(slots=True)
class _Inbox:
    """Jobs as they come, and the one that should stop."""

    jobs: SimpleQueue[dict[str, Any]] = field(default_factory=SimpleQueue)
    stopped: set[str] = field(default_factory=set)

    def listen(self) -> None:
        """Runs in a thread of its own. The end of stdin is the end of the server, and of this process."""
        for line in sys.stdin:
            message = json.loads(line)
            if "cancel" in message:
                self.stopped.add(message["cancel"])
            else:
                self.jobs.put(message)
        os._exit(0)


def main() -> None:
    """Serve until the server closes the pipe."""
    conversation = _Conversation(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="worker: %(levelname)s: %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the terminal; the server answers
    setup = json.loads(sys.stdin.readline() or "null")
    if setup is None:
        return
    _die_with(setup["server"])
    _limit(setup["memory_bytes"])
    os.chdir(setup["names"])
    roots = tuple(Root(**root) for root in setup["roots"])
    catalog = Catalog(setup["state"])
    inbox = _Inbox()
    threading.Thread(target=inbox.listen, daemon=True).start()
    conversation.send({"ready": os.getpid()})
    while True:
        job = inbox.jobs.get()
        conversation.send({"job": job["job"], **_run(job, roots, catalog, inbox, conversation)})


def _run(
    job: dict[str, Any], roots: tuple[Root, ...], catalog: Catalog, inbox: _Inbox, conversation: _Conversation
) -> dict[str, Any]:
    name = job["job"]
    work = Work(
        job["params"],
        roots=roots,
        catalog=catalog,
        result=job["result"],
        send=lambda message: conversation.send({"job": name, **message}),
        cancelled=lambda: name in inbox.stopped,
    )
    try:
        summary = KINDS[job["kind"]].load()(work)
    except CancelledError:
        return {"cancelled": True}
    except LoraAnalysisError as error:
        return {"failed": error.to_dict()}
    except MemoryError:
        return {
            "failed": {"type": "MemoryError", "code": "memory", "message": "the job needs more memory than it may use"}
        }
    except Exception as error:  # a defect of ours ends this job, not the worker; the log has the trace
        logger.exception("%s failed", job["kind"])
        message = printable(f"unexpected {type(error).__name__}: {error}", limit=300)
        return {"failed": {"type": type(error).__name__, "code": "internal", "message": message}}
    return {"done": summary, "outputs": work.outputs}


def _die_with(server: int) -> None:
    """End when the server ends, however it ends: even while a long calculation holds every lock of this process."""
    if sys.platform.startswith("linux"):
        import ctypes

        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        if prctl is not None:
            prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != server:  # it ended before this was set up
        os._exit(0)


def _limit(memory_bytes: int) -> None:
    """Bound this process's address space. The server watches its resident memory besides."""
    os.nice(_NICER)
    try:
        import resource
    except ImportError:  # no such limits on this system
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = memory_bytes + _RESERVED_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
