"""Names, permissions, links and leftovers: what an atomic write does to the folder it writes in."""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from pathlib import Path

import pytest

from faults import FaultyOs, debris, system
from lora_analysis.errors import FileAccessError, OptionError, OutputError
from lora_analysis.formats.adapter_output import place_for, write_adapter
from lora_analysis.formats.atomic import atomic_file, check_target
from lora_analysis.formats.layout import TensorPlan

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links as on POSIX systems")


def write(target: object, data: bytes = b"new", *, overwrite: bool = False) -> None:
    with atomic_file(target, overwrite=overwrite) as file:
        file.write(data)


def test_the_target_appears_when_the_block_ends_and_not_before(tmp_path):
    target = tmp_path / "a.bin"
    with atomic_file(target, overwrite=False) as file:
        file.write(b"one ")
        file.write(memoryview(b"two"))
        assert not target.exists()
    assert target.read_bytes() == b"one two"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_file_can_be_read_and_patched_before_it_appears(tmp_path):
    with atomic_file(tmp_path / "a.bin", overwrite=False) as file:
        file.write(b"????rest")
        file.seek(0)
        file.write(b"head")
        assert file.tell() == 4
        file.seek(0)
        assert file.read() == b"headrest"
    assert (tmp_path / "a.bin").read_bytes() == b"headrest"


def test_a_relative_name_is_written_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("a.bin")
    write("a.bin", b"newer", overwrite=True)
    assert (tmp_path / "a.bin").read_bytes() == b"newer"


def test_the_file_is_closed_after_the_block(tmp_path):
    with atomic_file(tmp_path / "a.bin", overwrite=False) as file:
        pass
    assert file.closed
    with pytest.raises(OutputError):
        file.write(b"late")


# -- names -------------------------------------------------------------------------------------------


@POSIX
def test_a_name_of_255_bytes_is_written(tmp_path):
    for name in ("n" * 243 + ".safetensors", "é" * 121 + "n.safetensors"):
        assert len(name.encode()) == 255
        check_target(tmp_path / name, [], overwrite=False)
        write(tmp_path / name)
        write(tmp_path / name, b"newer", overwrite=True)
        assert (tmp_path / name).read_bytes() == b"newer"


@POSIX
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("n" * 244 + ".safetensors", "too long"),
        ("missing/a.safetensors", "the folder does not exist"),
        ("file/a.safetensors", "is a file, not a folder"),
        ("folder.safetensors", "is a folder"),
        ("folder.safetensors/", "is a folder"),
        ("circle/a.safetensors", "circle of symbolic links"),
        ("pipe.safetensors", "not a regular file"),
        ("nul\0.safetensors", "not a possible file name"),
        ("there.safetensors", "exists"),
        ("dangling.safetensors", "exists"),
    ],
)
def test_an_impossible_target_is_refused_with_the_reason_before_any_work(name, reason, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "there.safetensors").write_bytes(b"old")
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling.safetensors").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.safetensors")
    before = sorted(os.listdir(tmp_path))
    target = f"{tmp_path}/{name}"
    overwrite = reason != "exists"
    with pytest.raises(
        (OutputError, OptionError), match=reason if not name.endswith("/") else "must end in|is a folder"
    ):
        check_target(target, [], overwrite=overwrite)
    with pytest.raises(OutputError, match=reason), atomic_file(target, overwrite=overwrite):
        pytest.fail("the block ran")
    assert sorted(os.listdir(tmp_path)) == before


@POSIX
def test_a_device_is_never_replaced(tmp_path):
    with pytest.raises(OutputError, match="not a regular file"):
        write("/dev/null", overwrite=True)
    (tmp_path / "out").symlink_to("/dev/null")
    with pytest.raises(OutputError, match="not a regular file"):
        write(tmp_path / "out", overwrite=True)


def test_a_long_path_leaves_room_for_the_reason(tmp_path):
    with pytest.raises(OutputError, match="the folder does not exist"):
        write(tmp_path / "/".join(["deep" * 20] * 10) / "a.bin")


# -- never replacing what was not meant --------------------------------------------------------------


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    target = tmp_path / "a.bin"
    refused = pytest.raises(OutputError, match="a file of that name exists")
    with refused, atomic_file(target, overwrite=False) as file:
        file.write(b"mine")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["a.bin"]


@POSIX
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_hard_links_a_new_file_is_renamed_and_an_existing_one_kept(number, tmp_path):
    target = tmp_path / "a.bin"
    faulty = FaultyOs("link", 1, OSError(number, os.strerror(number)))
    with system(faulty):
        write(target)
    assert (target.read_bytes(), os.listdir(tmp_path)) == (b"new", ["a.bin"])
    assert "replace file" in faulty.calls
    target.unlink()
    faulty = FaultyOs("link", 1, OSError(number, os.strerror(number)))
    refused = pytest.raises(OutputError, match="exists")
    with system(faulty), refused, atomic_file(target, overwrite=False):
        target.write_bytes(b"theirs")
    assert (target.read_bytes(), os.listdir(tmp_path)) == (b"theirs", ["a.bin"])


@POSIX
def test_a_symbolic_link_is_replaced_and_what_it_points_to_is_not_touched(tmp_path):
    cache = tmp_path / "cache"
    cache.write_bytes(b"shared")
    cache.chmod(0o640)
    link = tmp_path / "a.bin"
    link.symlink_to(cache)
    write(link, overwrite=True)
    assert not link.is_symlink()
    assert (link.read_bytes(), cache.read_bytes()) == (b"new", b"shared")
    assert stat.S_IMODE(link.stat().st_mode) == 0o640


@POSIX
def test_other_names_of_a_replaced_file_keep_the_old_bytes(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"old")
    os.link(tmp_path / "a.bin", tmp_path / "other.bin")
    with (tmp_path / "a.bin").open("rb") as opened:
        write(tmp_path / "a.bin", overwrite=True)
        assert opened.read() == b"old"
    assert (tmp_path / "other.bin").read_bytes() == b"old"


# -- permissions -------------------------------------------------------------------------------------


@pytest.fixture
def umask():
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@POSIX
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664), (0o000, 0o666)])
def test_a_new_file_follows_the_umask(mask, mode, umask, tmp_path):
    umask(mask)
    write(tmp_path / "a.bin")
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o666, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_permissions(mode, umask, tmp_path):
    umask(0o027)
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "a.bin").chmod(mode)
    with atomic_file(tmp_path / "a.bin", overwrite=True) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) & ~mode == 0, "readable by more people meanwhile"
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == mode


@POSIX
def test_a_private_file_is_private_while_it_is_rewritten(umask, tmp_path):
    umask(0o000)
    (tmp_path / "a.bin").write_bytes(b"old")
    (tmp_path / "a.bin").chmod(0o600)
    modes = []

    class Watching(FaultyOs):
        def fchmod(self, descriptor: int, mode: int) -> None:
            modes.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
            os.fchmod(descriptor, mode)

    with system(Watching()):
        write(tmp_path / "a.bin", overwrite=True)
    assert modes == [0o600]


# -- leftovers of killed processes -------------------------------------------------------------------

OLD = ".lora-analysis-0123456789abcdef.tmp"
NAMES = {  # name -> whether a write removes it once it is old
    OLD: True,
    ".lora-analysis-0123456789ABCDEF.tmp": False,
    ".lora-analysis-0123456789abcdef.tmp.bak": False,
    ".lora-analysis-0123456789abcde.tmp": False,
    "lora-analysis-0123456789abcdef.tmp": False,
    ".other-0123456789abcdef.tmp": False,
}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


@pytest.mark.parametrize(("seconds", "old"), [(0, False), (3500, False), (3700, True), (1e6, True)])
def test_only_old_files_of_our_own_name_are_removed(seconds, old, tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"left")
        age(tmp_path / name, seconds)
    write(tmp_path / "a.bin")
    kept = {name for name, ours in NAMES.items() if not (ours and old)}
    assert set(os.listdir(tmp_path)) == kept | {"a.bin"}


@POSIX
def test_folders_and_links_of_our_own_name_are_kept(tmp_path):
    (tmp_path / OLD).mkdir()
    (tmp_path / "precious").write_bytes(b"")
    link = tmp_path / OLD.replace("0", "f")
    link.symlink_to("precious")
    for path in tmp_path.iterdir():
        age(path, 1e6)
    write(tmp_path / "a.bin")
    assert len(os.listdir(tmp_path)) == 4


OLD_FOLDER = ".lora-analysis-0123456789abcdef.folder.tmp"


def half_made_folder(tmp_path: Path, seconds: float) -> Path:
    folder = tmp_path / OLD_FOLDER
    folder.mkdir()
    (folder / OLD).write_bytes(b"weights so far")
    (folder / "adapter_config.json").write_bytes(b"{}")
    for path in (*folder.iterdir(), folder):
        age(path, seconds)
    return folder


@pytest.mark.parametrize(("seconds", "old"), [(0, False), (3500, False), (3700, True)])
def test_a_half_made_folder_is_removed_when_it_is_old(seconds, old, tmp_path):
    folder = half_made_folder(tmp_path, seconds)
    write(tmp_path / "a.bin")
    assert folder.exists() is not old
    assert old or len(os.listdir(folder)) == 2


@POSIX
@pytest.mark.parametrize("inside", ["a file still written to", "a folder", "a link"])
def test_a_folder_with_anything_else_in_it_is_kept_whole(inside, tmp_path):
    folder = half_made_folder(tmp_path, 1e6)
    (tmp_path / "precious").write_bytes(b"precious")
    match inside:
        case "a file still written to":
            (folder / "fresh").write_bytes(b"")
        case "a folder":
            (folder / "sub").mkdir()
        case "a link":
            (folder / "link").symlink_to(tmp_path / "precious")
    for path in folder.iterdir():
        if path.name != "fresh":
            age(path, 1e6)
    age(folder, 1e6)
    write(tmp_path / "a.bin")
    assert len(os.listdir(folder)) == 3
    assert (tmp_path / "precious").read_bytes() == b"precious"


@POSIX
def test_a_file_with_a_folders_name_is_kept(tmp_path):
    (tmp_path / OLD_FOLDER).write_bytes(b"")
    age(tmp_path / OLD_FOLDER, 1e6)
    write(tmp_path / "a.bin")
    assert debris(tmp_path) == [OLD_FOLDER]


def test_a_new_adapter_folder_removes_half_made_ones_beside_it(tmp_path):
    half_made_folder(tmp_path, 1e6)
    place = place_for(tmp_path / "out", dialect="peft", has_config=True)
    write_adapter(place, [TensorPlan("a", "F32", (2,))], [bytes(8)], {}, {"r": 1})
    assert os.listdir(tmp_path) == ["out"]


@POSIX
def test_leftovers_of_other_users_are_kept(tmp_path, monkeypatch):
    (tmp_path / OLD).write_bytes(b"left")
    age(tmp_path / OLD, 1e6)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 54321)
        write(tmp_path / "a.bin")
    assert debris(tmp_path) == [OLD]


@POSIX
def test_a_leftover_that_cannot_be_removed_does_not_stop_the_write(tmp_path):
    (tmp_path / OLD).write_bytes(b"left")
    age(tmp_path / OLD, 1e6)
    with system(FaultyOs("unlink", 1, PermissionError(errno.EACCES, "denied"))):
        write(tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"new"


# -- the question before the work --------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in" / "adapter.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"input")
    return path


def names_of(source: Path, folder: Path) -> list[Path]:
    symbolic, hard, dotted = (
        folder / "s.safetensors",
        folder / "h.safetensors",
        source.parent / "." / ".." / "in" / source.name,
    )
    symbolic.symlink_to(source)
    os.link(source, hard)
    (folder / "alias").symlink_to(source.parent)
    return [source, dotted, symbolic, hard, folder / "alias" / source.name]


@POSIX
@pytest.mark.parametrize("overwrite", [True, False])
def test_an_output_that_is_an_input_is_refused_under_every_name(overwrite, source, tmp_path):
    for target in names_of(source, tmp_path):
        for inputs in ([source], [source.parent], [tmp_path / "in" / ".." / "in", source]):
            with pytest.raises(OptionError, match="the output is the input"):
                check_target(target, inputs, overwrite=overwrite)
            check_target(target, inputs, overwrite=overwrite, in_place=True)
    assert source.read_bytes() == b"input"


def test_a_file_beside_the_input_is_a_fine_target(source):
    check_target(source.with_name("other.safetensors"), [source, source.parent], overwrite=False)
    assert os.listdir(source.parent) == [source.name]


def test_in_place_does_not_allow_replacing_another_file(source):
    other = source.with_name("other.safetensors")
    other.write_bytes(b"other")
    with pytest.raises(OutputError, match="exists"):
        check_target(other, [source], overwrite=False, in_place=True)
    check_target(other, [source], overwrite=True)


@pytest.mark.parametrize("name", ["a", "a.txt", "a.safetensors.bak", ".safetensors"])
def test_an_unexpected_suffix_is_refused_before_the_work(name, tmp_path):
    with pytest.raises(OptionError, match=r"must end in \.safetensors"):
        check_target(tmp_path / name, [], overwrite=False)
    check_target(tmp_path / name, [], overwrite=False, suffixes=())


def test_suffixes_are_compared_without_case(tmp_path):
    check_target(tmp_path / "A.SafeTensors", [], overwrite=False)
    check_target(tmp_path / "a.PT", [], overwrite=False, suffixes=(".bin", ".pt"))


def test_a_missing_input_is_named(source, tmp_path):
    with pytest.raises(FileAccessError, match="absent"):
        check_target(source, [tmp_path / "absent"], overwrite=True)


@POSIX
def test_a_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    if os.geteuid() == 0:  # root may write anywhere
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK | os.X_OK)
    else:
        tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission to write in"):
        check_target(tmp_path / "a.safetensors", [], overwrite=False)
    tmp_path.chmod(0o700)
