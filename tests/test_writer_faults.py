"""Every system call of a write fails once: the old file stays, nothing is left behind, the error says why."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import COUNTED, PLAN, FaultyOs, debris, generation, system
from lora_analysis.errors import CancelledError, OutputError
from lora_analysis.formats.atomic import atomic_file
from lora_analysis.formats.digests import request_hashes
from lora_analysis.formats.torch_writer import write_torch
from lora_analysis.formats.writer import write_safetensors

METADATA = request_hashes({"ss_network_dim": "2", "sshs_model_hash": ""})
WRITERS = [write_safetensors, write_torch]

# After the new file has its name, only these can fail; neither can take it back.
HARMLESS = {"close folder", "unlink file"}  # nothing was written through it; a second, hidden name stays
TOO_LATE = "fsync folder"


@pytest.fixture(params=WRITERS, ids=["safetensors", "torch"])
def write(request):
    def call(target, byte, **options):
        return request.param(target, PLAN, iter(generation(byte)), METADATA, **options)

    return call


def expected_bytes(write, folder: Path) -> bytes:
    write(folder / "expected.bin", 2)
    data = (folder / "expected.bin").read_bytes()
    (folder / "expected.bin").unlink()
    return data


@pytest.mark.parametrize("operation", COUNTED)
@pytest.mark.parametrize("replacing", [True, False], ids=["replacing", "new"])
def test_a_failing_call_leaves_the_old_file_and_no_other(write, operation, replacing, tmp_path):
    new, target = expected_bytes(write, tmp_path), tmp_path / "adapter.bin"
    failed = []
    for nth in range(1, 100):
        old = b"old" if replacing else None
        target.unlink(missing_ok=True)
        if replacing:
            target.write_bytes(b"old")
        error, faulty = None, FaultyOs(operation, nth)
        with system(faulty):
            try:
                write(target, 2, overwrite=replacing)
            except OutputError as caught:
                error = caught
        found = target.read_bytes() if target.exists() else None
        left = debris(tmp_path)
        if faulty.failed is None:
            assert (error, found, left) == (None, new, [])
            break
        failed.append(faulty.failed)
        if faulty.failed in HARMLESS:
            assert (error, found) == (None, new)
            assert len(left) == (faulty.failed == "unlink file")
            for name in left:
                (tmp_path / name).unlink()
        else:
            assert error is not None, f"{faulty.failed} number {nth} failed and nobody was told"
            assert str(target) in error.message
            assert found == (new if faulty.failed == TOO_LATE else old)
            assert left == []
    else:
        pytest.fail("the write never ran clean")
    expected_calls = {"replace": replacing, "fchmod": replacing, "link": not replacing, "unlink": not replacing}
    assert bool(failed) == expected_calls.get(operation, True), failed


@pytest.mark.parametrize("moment", ["after a tensor", "between tensors", "never"])
@pytest.mark.parametrize("writer", WRITERS)
def test_what_calculates_the_tensors_has_ended_when_the_write_has(writer, moment, tmp_path):
    """Also while the error is kept: the garbage collector would end it at a moment of its own, in any thread."""
    made = []

    def chunks():
        for data in generation(2):
            made.append(data)
            yield data

    def progress(done, total):
        if moment == "after a tensor":
            raise OutputError("no space")

    def cancel():
        return moment == "between tensors" and len(made) == 1

    making, kept = chunks(), None
    try:
        writer(tmp_path / "adapter.bin", PLAN, making, METADATA, progress=progress, cancel=cancel)
    except (OutputError, CancelledError) as error:
        kept = error  # its traceback knows the frames, and these what they work with
    assert (kept is None) == (moment == "never")
    assert made
    assert making.gi_frame is None, "closed"


@pytest.mark.parametrize("operation", COUNTED)
def test_an_interrupt_in_any_call_leaves_a_whole_file(write, operation, tmp_path):
    new, target = expected_bytes(write, tmp_path), tmp_path / "adapter.bin"
    for nth in range(1, 100):
        target.write_bytes(b"old")
        faulty = FaultyOs(operation, nth, KeyboardInterrupt())
        with system(faulty):
            if _runs_clean(write, target):
                break
        assert target.read_bytes() == (new if faulty.failed in {TOO_LATE, *HARMLESS} else b"old")
        assert debris(tmp_path) == []
    else:
        pytest.fail("the write never ran clean")


def _runs_clean(write, target) -> bool:
    try:
        write(target, 2, overwrite=True)
    except KeyboardInterrupt:
        return False
    return True


@pytest.mark.parametrize("error", [CancelledError("stop"), KeyboardInterrupt(), ZeroDivisionError(), OSError("read")])
def test_what_the_source_of_the_tensors_raises_passes_through(write, error, tmp_path):
    target = tmp_path / "adapter.bin"
    target.write_bytes(b"old")

    def chunks():
        yield generation(2)[0]
        raise error

    for writer in WRITERS:
        with pytest.raises(type(error)) as caught:
            writer(target, PLAN, chunks(), METADATA, overwrite=True)
        assert caught.value is error
    assert target.read_bytes() == b"old"
    assert debris(tmp_path) == []


def test_calls_come_in_the_order_that_survives_a_power_cut(write, tmp_path):
    target = tmp_path / "adapter.bin"
    for overwrite, publishing in [(False, ["link file", "unlink file"]), (True, ["replace file"])]:
        with system(recorder := FaultyOs()):
            write(target, 2, overwrite=overwrite)
        last_write = max(i for i, call in enumerate(recorder.calls) if call == "write file")
        ending = [call for call in recorder.calls[last_write + 1 :] if call not in ("readv file", "lseek file")]
        assert ending == ["fsync file", "close file", *publishing, "fsync folder", "close folder"]


def test_short_writes_are_continued(write, tmp_path):
    class Reluctant(FaultyOs):
        def write(self, descriptor, data):
            return os.write(descriptor, data[:7])

    new, target = expected_bytes(write, tmp_path), tmp_path / "adapter.bin"
    with system(Reluctant()):
        write(target, 2)
    assert target.read_bytes() == new


REASONS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "no space left",
    errno.EFBIG: "no space",
    errno.EROFS: "read-only",
    errno.EIO: os.strerror(errno.EIO),
}


@pytest.mark.parametrize("number", REASONS)
def test_the_message_gives_the_reason(number, tmp_path):
    error = OSError(number, os.strerror(number))
    with system(FaultyOs("write", 2, error)), pytest.raises(OutputError, match=REASONS[number]) as caught:
        write_safetensors(tmp_path / "adapter.bin", PLAN, generation(1), {})
    assert caught.value.__cause__ is error


def test_an_unsynced_folder_is_reported_as_what_it_is(tmp_path):
    with system(FaultyOs("fsync", 2)), pytest.raises(OutputError, match="complete and in place"):
        write_safetensors(tmp_path / "adapter.bin", PLAN, generation(1), {})


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path):
    with system(FaultyOs("fsync", 2, OSError(errno.EINVAL, "Invalid argument"))):
        write_safetensors(tmp_path / "adapter.bin", PLAN, generation(1), {})


def test_a_disk_known_to_be_too_small_is_refused_before_the_first_byte(tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    expected = pytest.raises(OutputError, match="no space left on the device: needs 101 bytes, 100 free")
    with expected, atomic_file(tmp_path / "f", overwrite=False, size_hint=101):
        pytest.fail("the block ran")
    with atomic_file(tmp_path / "f", overwrite=False, size_hint=100):
        pass


# -- a disk that is really full ----------------------------------------------------------------------

FILL = """
import json, os, resource, sys
sys.path.insert(0, sys.argv[1])
from faults import PLAN, debris, generation
from lora_analysis.errors import OutputError
from lora_analysis.formats import atomic
from lora_analysis.formats.torch_writer import write_torch
from lora_analysis.formats.writer import TensorPlan, write_safetensors
folder, limits = sys.argv[2], json.loads(sys.argv[3])
if sys.argv[4] == "blind":  # as where free space is unknown, or someone else takes it meanwhile
    atomic._check_space = lambda path, size: None
plan = [TensorPlan(f"t{i}", "U8", (50_000,)) for i in range(20)]
results = []
for write in (write_safetensors, write_torch):
    for limit in limits:
        target = os.path.join(folder, "adapter.bin")
        with open(target, "wb") as file:
            file.write(b"old")
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(target, plan, (bytes(50_000) for _ in plan), {}, overwrite=True)
            outcome = "written"
        except OutputError as error:
            outcome = error.message
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        names = sorted(os.listdir(folder))
        with open(target, "rb") as file:
            results.append([limit, outcome, file.read(4) == b"old", names])
        os.unlink(target)
print(json.dumps(results))
"""
LIMITS = [1, 7, 8, 9, 500, 1024, 4096, 49_999, 50_000, 51_201, *range(100_000, 1_000_000, 100_000), 999_999]


def fill(folder: Path, limits: list[int], space: str, *before: str) -> list[list]:
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(tests.parent / "app")}
    command = [*before, sys.executable, "-c", FILL, str(tests), str(folder), json.dumps(limits), space]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    if before and done.returncode == NOT_ALLOWED:
        pytest.skip("this system does not let a test mount a file system of its own")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_file_size_limit_at_any_size_leaves_the_old_file(tmp_path):
    results = fill(tmp_path, LIMITS, "blind")
    assert len(results) == 2 * len(LIMITS) >= 40
    for limit, outcome, old_is_there, names in results:
        assert (old_is_there, names) == (True, ["adapter.bin"]), limit
        assert "no space" in outcome, limit


NOT_ALLOWED = 77
ON_SMALL_DISK = f'mount -t tmpfs -o size=600k,mode=700 tmpfs $0 2>/dev/null || exit {NOT_ALLOWED}; exec "$@"'


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small tmpfs")
@pytest.mark.parametrize("space", ["checked", "blind"])
def test_a_full_disk_leaves_the_old_file(space, tmp_path):
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this system does not let a test mount a file system of its own")
    results = fill(tmp_path, [0], space, "unshare", "-rm", "sh", "-c", ON_SMALL_DISK, str(tmp_path))
    assert len(results) == 2
    for _, outcome, old_is_there, names in results:
        assert (old_is_there, names) == (True, ["adapter.bin"])
        assert "no space left on the device" in outcome
        assert ("free" in outcome) == (space == "checked")
