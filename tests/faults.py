"""Make the system calls of the writer fail, one at a time, and see what is left behind."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lora_analysis.formats import adapter_output, atomic, target
from lora_analysis.formats import debris as leftovers
from lora_analysis.formats.layout import TensorPlan

COUNTED = ("lstat", "open", "fchmod", "fstat", "write", "lseek", "readv", "fsync", "close", "replace", "link", "unlink")


class FaultyOs:
    """Stands in for the module ``os``: notes every counted call, and makes the ``nth`` of ``operation`` fail.

    Calls on a descriptor are noted as ``"fsync file"`` or ``"fsync folder"``.
    """

    def __init__(self, operation: str = "", nth: int = 0, error: BaseException | None = None) -> None:
        self.calls: list[str] = []
        self.failed: str | None = None  # the call that was made to fail
        self._operation = operation
        self._nth = nth
        self._error = error or OSError(errno.EIO, os.strerror(errno.EIO))

    def __getattr__(self, name: str) -> object:
        real = getattr(os, name)
        return self._counted(name, real) if name in (*COUNTED, "rename") else real

    def _counted(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(first: int | str, *rest: object, **options: object) -> object:
            note = f"{name} {_kind(first)}"
            self.calls.append(note)
            if name == self._operation and sum(c.startswith(f"{name} ") for c in self.calls) == self._nth:
                self.failed = note
                if name == "close":  # a failing close() frees the descriptor all the same
                    real(first)
                raise self._error
            return real(first, *rest, **options)

        return call


def _kind(first: int | str) -> str:
    if isinstance(first, int):
        return "folder" if stat.S_ISDIR(os.fstat(first).st_mode) else "file"
    return "folder" if os.path.isdir(first) else "file"


@contextmanager
def system(faulty: object) -> Iterator[None]:
    """Run the block with ``faulty`` as the writer's ``os``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic, "os", faulty)
        patch.setattr(leftovers, "os", faulty)
        patch.setattr(adapter_output, "os", faulty)
        patch.setattr(target, "os", faulty)
        yield


def debris(folder: Path) -> list[str]:
    """Everything in ``folder`` that looks like a temporary file, by a rule of its own: hidden names."""
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


# A small plan whose data is easy to tell apart: generation g fills every tensor with the byte g.
PLAN = (TensorPlan("a", "F16", (3, 2)), TensorPlan("alpha", "F32", ()), TensorPlan("b", "BF16", (5,)))


def generation(byte: int) -> list[bytes]:
    return [bytes([byte]) * plan.nbytes for plan in PLAN]
