"""One worker process as the server sees it: started anew, spoken to in lines of JSON, killed where it must be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from ..roots import Root
from ..settings import Settings

# -P: the folder that the server was started in may hold a file named like a module.
_BOOT = "import sys, importlib; sys.path.append(sys.argv[1]); importlib.import_module(sys.argv[2]).main()"
_KILL_SECONDS = 0.5


class WorkerProcess:
    """A process that runs one job after another. Use it from one thread, which has to live as long as the process."""

    def __init__(self, settings: Settings, roots: tuple[Root, ...]) -> None:
        package = __package__.rpartition(".")[0]
        depth = package.count(".") + 1
        home = os.path.dirname(os.path.abspath(__file__))
        for _ in range(depth):
            home = os.path.dirname(home)
        self._process = subprocess.Popen(  # noqa: S603  # this interpreter and our own module
            [sys.executable, "-P", "-c", _BOOT, home, f"{package}.work.main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._messages: SimpleQueue[dict[str, Any]] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.jobs = 0
        self.send(
            {
                "server": os.getpid(),
                "memory_bytes": settings.limits.memory_bytes,
                "names": os.fspath(settings.names_folder),
                "state": os.fspath(settings.state),
                "roots": [root.to_dict() for root in roots],
            }
        )

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError, OSError):  # killed in the middle of a line
            for line in self._process.stdout:
                self._messages.put(json.loads(line))
        self._process.stdout.close()
        self._process.wait()
        self._messages.put({"died": self._process.returncode})

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """Say something. A process that is gone does not hear it; ``next`` will tell."""
        assert self._process.stdin is not None
        with suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None where none comes in time. ``{"died": code}`` is the last."""
        try:
            return self._messages.get(timeout=seconds)
        except Empty:
            return None

    def resident_bytes(self) -> int:
        """Memory in use now; 0 where the system does not say."""
        try:
            with open(f"/proc/{self.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0

    def end(self) -> None:
        """Close the pipe, which an idle process takes for goodbye; kill it where it does not."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.kill()
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
