"""Every system call of a whole resize fails once: the old adapter stays, nothing is left behind, the error says why."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

import lora_analysis as la
from faults import COUNTED, FaultyOs, debris, system
from lora_analysis.errors import OutputError
from resizable import Work

OPERATIONS = [name for name in COUNTED if name != "lstat"]
# After the new file has its name, only these can fail, and neither can take it back.
FILES = ["adapter_config.json", "adapter_model.safetensors"]
HARMLESS = {"close folder", "unlink file"}


def state(target: Path) -> object:
    if target.is_dir():
        return {path.name: path.read_bytes() for path in target.iterdir()}
    return target.read_bytes() if target.exists() else None


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("replacing", [True, False], ids=["replacing", "new"])
def test_a_failing_call_leaves_the_old_file_and_no_other(operation: str, replacing: bool, work: Work) -> None:
    source, target = work.save("linear"), work.folder / "out.safetensors"
    whole = state(Path(work.resize(source, rank=2).written.path))
    for nth in range(1, 100):
        target.unlink(missing_ok=True)
        if replacing:
            target.write_bytes(b"old")
        old, error, faulty = state(target), None, FaultyOs(operation, nth)
        with system(faulty):
            try:
                la.resize(source, target, rank=2, overwrite=replacing)
            except OutputError as caught:
                error = caught
        left = debris(work.folder)
        if faulty.failed is None:
            assert (error, state(target), left) == (None, whole, [])
            return
        if faulty.failed in HARMLESS:
            assert (error, state(target)) == (None, whole)
            for name in left:
                (work.folder / name).unlink()
            continue
        assert error is not None, f"{faulty.failed} number {nth} failed and nobody was told"
        assert state(target) == (whole if faulty.failed == "fsync folder" else old)
        assert left == []
    pytest.fail("the resize never ran clean")


@pytest.mark.parametrize("operation", [*OPERATIONS, "rename"])
def test_a_failing_call_leaves_no_new_adapter_folder(operation: str, work: Work) -> None:
    source, target = work.save("peft"), work.folder / "out"
    for nth in range(1, 100):
        error, faulty = None, FaultyOs(operation, nth)
        with system(faulty):
            try:
                la.resize(source, target, rank=2)
            except OutputError as caught:
                error = caught
        left, found = debris(work.folder), state(target)
        if faulty.failed is None:
            assert error is None
            assert (sorted(found), left) == (FILES, [])
            return
        if error is None:
            assert faulty.failed in HARMLESS
            work.remove("out")
            continue
        assert left == []
        if found is not None:  # only its durability is in doubt, and that is what the error says
            assert (faulty.failed, sorted(found)) == ("fsync folder", FILES)
            work.remove("out")
    pytest.fail("the resize never ran clean")


def test_a_disk_that_fills_up_is_named_and_leaves_the_old_file(work: Work) -> None:
    source, target = work.save("linear"), work.folder / "out.safetensors"
    target.write_bytes(b"old")
    full = FaultyOs("write", 3, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with system(full), pytest.raises(OutputError, match="no space left"):
        la.resize(source, target, rank=2, overwrite=True)
    assert target.read_bytes() == b"old"
    assert debris(work.folder) == []
