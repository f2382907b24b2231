"""The catalog stays whole and in step with the disk: promises S11 and S12."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lora_analysis.errors import CancelledError, OutputError
from lora_analysis.server.catalog import scan
from lora_analysis.server.catalog.query import Library, Query
from lora_analysis.server.catalog.rows import Facts, facts_of_error, unpacked
from lora_analysis.server.catalog.scan import ScanReport, scan_root, walk_root
from lora_analysis.server.catalog.store import Catalog, Found, item_id
from lora_analysis.server.database import Database, is_local_disk
from lora_analysis.server.roots import Root

KILLS = int(os.environ.get("LORA_CATALOG_KILLS", "20"))  # 200 in `make soak`
FILES = int(os.environ.get("LORA_SCAN_FILES", "300"))  # 10,000 in `make soak`


def root_at(folder: Path) -> Root:
    return Root("r" * 12, "models", os.path.realpath(folder), "library")


def scan_all(catalog: Catalog, root: Root, cancel: Any = lambda: False) -> ScanReport:
    report = ScanReport()
    scan_root(catalog, root, root.path, report, progress=lambda done, total: None, cancel=cancel)
    return report


def names(catalog: Catalog) -> dict[str, sqlite3.Row]:
    return {row["name"]: row for row in Library(catalog).find(Query(limit=100_000)).rows}


@pytest.fixture
def models(tmp_path: Path, demo_library: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    for path in demo_library.iterdir():
        if path.is_file() and path.stat().st_size < 600_000:
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    (tmp_path / "state").mkdir()
    catalog = Catalog(tmp_path / "state")
    yield catalog
    catalog.database.close()


# -- in step with the disk -------------------------------------------------------------------------------


def test_only_what_changed_is_read_again(catalog: Catalog, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = root_at(models)
    first = scan_all(catalog, root)
    assert first.read == first.found == len(names(catalog)) > 2
    read: list[str] = []
    inspect = scan.inspect
    monkeypatch.setattr(scan, "inspect", lambda path: read.append(os.path.basename(path)) or inspect(path))
    again = scan_all(catalog, root)
    assert (again.found, again.read, read) == (first.found, 0, [])
    touched, replaced, gone, *_ = sorted(models.iterdir())
    os.utime(touched, ns=(1, 1))
    copy = models / "copy.tmp"  # same bytes, size and time, another file
    copy.write_bytes(replaced.read_bytes())
    stats = replaced.stat()
    os.utime(copy, ns=(stats.st_atime_ns, stats.st_mtime_ns))
    copy.rename(replaced)
    gone.unlink()
    (models / "sub").mkdir()
    (models / "sub" / "new.safetensors").write_bytes(touched.read_bytes())
    report = scan_all(catalog, root)
    assert sorted(read) == sorted([touched.name, replaced.name, "new.safetensors"])
    assert (report.read, report.forgotten) == (3, 1)
    assert gone.name not in names(catalog)
    assert names(catalog)["new.safetensors"]["folder"] == "sub"


def test_ids_stay_and_revisions_change(catalog: Catalog, models: Path) -> None:
    root = root_at(models)
    scan_all(catalog, root)
    before = names(catalog)
    changed = sorted(models.iterdir())[0]
    changed.write_bytes(changed.read_bytes() + b"x")
    scan_all(catalog, root)
    after = names(catalog)
    assert {name: row["id"] for name, row in before.items()} == {name: row["id"] for name, row in after.items()}
    differing = [name for name in after if after[name]["stamp"] != before[name]["stamp"]]
    assert differing == [changed.name]
    assert after[changed.name]["error_code"] == "header"


def test_the_words_follow_the_rows(catalog: Catalog, models: Path) -> None:
    root = root_at(models)
    path = models / "walrus.safetensors"
    path.write_bytes(sorted(models.iterdir())[0].read_bytes())
    scan_all(catalog, root)
    library = Library(catalog)
    assert library.find(Query(text="walrus")).total == 1
    path.rename(models / "dolphin.safetensors")
    scan_all(catalog, root)
    assert library.find(Query(text="walrus")).total == 0
    assert library.find(Query(text="dolphin")).total == 1
    with catalog.database.read() as connection:
        words = connection.execute("SELECT count(*) FROM words").fetchone()[0]
        items = connection.execute("SELECT count(*) FROM items").fetchone()[0]
    assert words == items


def test_search_works_without_trigrams(catalog: Catalog, models: Path) -> None:
    scan_all(catalog, root_at(models))
    with_index = {
        text: [row["id"] for row in Library(catalog).find(Query(text=text)).rows]
        for text in ("sdxl", "lokr", "K", "%", "a b")
    }
    catalog.has_words = False
    without = {text: [row["id"] for row in Library(catalog).find(Query(text=text)).rows] for text in with_index}
    assert without == with_index


def test_two_scans_at_once_lose_nothing(catalog: Catalog, models: Path) -> None:
    """The second forgets only what is gone, though the first has not ended."""
    root = root_at(models)
    first = catalog.begin_scan(root)
    scan_all(catalog, root)
    count = len(names(catalog))
    catalog.end_scan(root, first)
    assert len(names(catalog)) == count


def test_a_scan_that_began_first_and_saw_last_takes_nothing_from_the_second(catalog: Catalog, models: Path) -> None:
    root = root_at(models)
    scan_all(catalog, root)
    count = len(names(catalog))
    first = catalog.begin_scan(root)
    second = catalog.begin_scan(root)
    for number in (second, first):  # the first is the slower one
        catalog.see(root, number, list(names(catalog)))
        catalog.skip(root, number, [("pipe", "a named pipe")])
    catalog.end_scan(root, second)
    assert len(names(catalog)) == count
    assert [row["path"] for row in catalog.skipped(10)] == ["pipe"]


def test_a_file_added_while_a_scan_begins_stays(
    catalog: Catalog, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that adds it knows the scan before; its row must not look like one that this scan has not seen."""
    root, read = root_at(models), scan.read_facts
    name = min(path.name for path in models.iterdir())

    def scan_meanwhile(*arguments: Any) -> Facts:
        monkeypatch.setattr(scan, "read_facts", read)
        numbers.append(catalog.begin_scan(root))
        found = scan.look_at(root, name)
        assert found is not None
        catalog.put(root, numbers[0], [(found, read(*arguments))])
        return read(*arguments)

    numbers: list[int] = []
    monkeypatch.setattr(scan, "read_facts", scan_meanwhile)
    added = scan.add_item(catalog, root, root.path, name)
    catalog.end_scan(root, numbers[0])
    assert added is not None
    assert catalog.location(added) is not None


@pytest.mark.parametrize("moment", ["before it is read", "before it is written down", "after that"])
def test_a_file_removed_while_it_is_scanned_does_not_come_back(
    catalog: Catalog, models: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    root, read, put = root_at(models), scan.read_facts, catalog.put
    scan_all(catalog, root)
    victim = min(models.iterdir())
    os.utime(victim, ns=(1, 1))  # so that it is read again
    removed = []

    def remove() -> None:  # as the route does it: the file first, then the row
        if not removed:
            victim.unlink()
            catalog.forget(item_id(root, victim.name))
            removed.append(victim)

    def read_facts(*arguments: Any) -> Facts:
        if moment == "before it is read":
            remove()
        found = read(*arguments)
        if moment == "before it is written down":
            remove()
        return found

    def put_and_remove(*arguments: Any, **options: Any) -> None:
        put(*arguments, **options)
        remove()

    monkeypatch.setattr(scan, "read_facts", read_facts)
    monkeypatch.setattr(catalog, "put", put_and_remove)
    report = scan_all(catalog, root)
    assert removed
    assert victim.name not in names(catalog)
    assert (report.found, report.read, report.failed) == (len(list(models.iterdir())), 0, 0)
    assert scan.add_item(catalog, root, root.path, victim.name) is None


def test_counts_of_a_stopped_scan_are_those_of_its_rows(catalog: Catalog, models: Path) -> None:
    root, library = root_at(models), Library(catalog)
    assert library.find(Query()).total == 0
    catalog.begin_scan(root)

    def cancel() -> bool:
        library.find(Query())  # a page that is open asks all the time, so that there are counts to keep
        return len(names(catalog)) >= 2

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_BATCH", 1)
        with pytest.raises(CancelledError):
            scan_all(catalog, root, cancel=cancel)
    assert library.find(Query()).total == len(names(catalog)) >= 2


def test_a_stopped_scan_keeps_what_it_read(catalog: Catalog, models: Path) -> None:
    root, asked = root_at(models), iter([False, False, False, True])
    with pytest.raises(CancelledError):
        scan_all(catalog, root, cancel=lambda: next(asked, True))
    kept = len(names(catalog))
    assert 0 < kept < len(list(models.iterdir()))
    assert scan_all(catalog, root).read == len(list(models.iterdir())) - kept


def test_a_document_is_kept_whole(catalog: Catalog, models: Path) -> None:
    import json

    import lora_analysis as la

    scan_all(catalog, root_at(models))
    for name, row in names(catalog).items():
        packed = catalog.document(row["id"])
        if packed is not None:
            found = json.loads(unpacked(packed))
            expected = la.inspect(models / name).to_dict()
            found["extraction_time"] = expected["extraction_time"]
            found["file_info"]["filename"] = expected["file_info"]["filename"]
            assert found == json.loads(json.dumps(expected)), name


# -- hostile files ---------------------------------------------------------------------------------------


def test_names_that_are_no_unicode_are_rows(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in (b"\xff\xfe.safetensors", b"line\nbreak.safetensors", "\u202egpj.safetensors".encode(), b"'; DROP.pt"):
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"x")
    root = root_at(folder)
    assert scan_all(catalog, root).failed == 4
    assert scan_all(catalog, root).read == 0
    for row in names(catalog).values():
        assert catalog.location(row["id"]) is not None
        row["name"].encode()


def test_every_hostile_file_is_one_row(catalog: Catalog, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    count = 0
    for case in hostile_files():
        (folder / f"case-{count:03}.safetensors").write_bytes(case)
        count += 1
    assert count > 5
    report = scan_all(catalog, root_at(folder))
    assert report.found == report.read == count == len(names(catalog))
    assert report.failed > 0


def hostile_files() -> Iterator[bytes]:
    def header(text: bytes, length: int | None = None) -> bytes:
        return (len(text) if length is None else length).to_bytes(8, "little") + text

    yield from (b"", b"x", b"\0" * 8, header(b"{}"), header(b"{", 1 << 62), header(b"[" * 100_000))
    yield header(b'{"a":{"dtype":"F32","shape":[9999999999],"data_offsets":[0,4]}}') + b"abcd"
    yield header(b'{"__metadata__":{"ss_tag_frequency":"{\\"x\\": {\\"<img src=x onerror=alert(1)>\\": 1e400}}"}}')
    yield header(b'{"__metadata__":{"ss_output_name":"\\ud800"}}')
    yield b"PK\x03\x04" + b"\0" * 100
    yield b"GGUF" + b"\xff" * 100


def test_pipes_sockets_and_loops_do_not_hold_a_scan(catalog: Catalog, models: Path) -> None:
    os.mkfifo(models / "pipe.safetensors")
    (models / "loop").symlink_to(models)
    (models / "self.safetensors").symlink_to("self.safetensors")
    (models / "deep").mkdir()
    (models / "deep" / "up").symlink_to("..")
    began = time.monotonic()
    report = scan_all(catalog, root_at(models))
    assert time.monotonic() - began < 30
    assert report.skipped == 4
    assert len(catalog.skipped(10)) == 4


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "models" / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("this user may list every folder")
        walk = walk_root(root_at(tmp_path / "models"), lambda: False)
        assert walk.skipped == [("closed", "cannot be listed: Permission denied")]
    finally:
        closed.chmod(0o700)


# -- whole after any death -------------------------------------------------------------------------------

SCANNER = """
import sys
from lora_analysis.server.catalog.scan import ScanReport, scan_root
from lora_analysis.server.catalog.store import Catalog
from lora_analysis.server.roots import Root
catalog, root = Catalog(sys.argv[1]), Root("r" * 12, "models", sys.argv[2], "library")
print("ready", flush=True)
report = ScanReport()
scan_root(catalog, root, root.path, report, progress=lambda done, total: None, cancel=lambda: False)
print(report.to_dict(), flush=True)
"""


@pytest.mark.timeout(1_800)
def test_a_killed_scan_leaves_a_whole_catalog_and_goes_on(tmp_path: Path, demo_library: Path) -> None:
    folder, state, chance = tmp_path / "models", tmp_path / "state", random.Random(11)
    folder.mkdir()
    state.mkdir()
    good = (demo_library / "sdxl-style-lokr.safetensors").read_bytes()[:40_000]  # cut off: a row with an error, quickly
    hostile = list(hostile_files())
    for number in range(FILES):  # one of a hundred is hostile
        data = hostile[number // 100 % len(hostile)] if number % 100 == 50 else good
        (folder / f"{number:05}.safetensors").write_bytes(data)
    most = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", SCANNER, str(state), os.path.realpath(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        connection = sqlite3.connect(state / "catalog.sqlite3")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count = connection.execute("SELECT count(*) FROM items").fetchone()[0]
        connection.close()
        assert count >= most, "rows that were made stay"
        most = count
    catalog = Catalog(state)
    report = scan_all(catalog, root_at(folder))
    assert (report.found, report.read) == (FILES, FILES - most), "what was read is not read again"
    assert len(names(catalog)) == FILES
    catalog.database.close()


# -- the journal -----------------------------------------------------------------------------------------

MOUNTS = """sysfs /sys sysfs rw 0 0
/dev/vda / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
/dev/vdb /home/me/local\\040disk xfs rw 0 0
lustre /scratch lustre rw 0 0
x /mnt/s3 fuse.s3fs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "local"),
    [
        ("/var/lib/x", True),
        ("/home/me/state", False),
        ("/home/me/local disk/state", True),
        ("/homes/me", True),
        ("/scratch/x", False),
        ("/mnt/s3/x", False),
    ],
)
def test_write_ahead_logging_is_for_local_disks(tmp_path: Path, folder: str, local: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert is_local_disk(folder, str(mounts)) is local
    assert is_local_disk(folder, str(tmp_path / "missing")) is True


@pytest.mark.parametrize(("local", "journal"), [(True, "wal"), (False, "delete")])
def test_the_journal_is_the_disk_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local: bool, journal: str) -> None:
    monkeypatch.setattr("lora_analysis.server.database.is_local_disk", lambda folder: local)
    database = Database(tmp_path / "x.sqlite3", ("CREATE TABLE t (a)",))
    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    with database.read() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == journal
    assert (tmp_path / "x.sqlite3-wal").exists() is local
    database.close()


def test_a_transaction_is_whole_or_not_at_all(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.sqlite3", ("CREATE TABLE t (a)",))
    with pytest.raises(sqlite3.OperationalError), database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)") and connection.execute("no statement")
    with database.read() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone()[0] == 0
    database.close()


def test_a_transaction_that_cannot_be_kept_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader holds the file when it is to be written: this transaction fails, and not every later one with it."""
    monkeypatch.setattr("lora_analysis.server.database.is_local_disk", lambda folder: False)
    monkeypatch.setattr("lora_analysis.server.database.BUSY_SECONDS", 0.05)
    database = Database(tmp_path / "x.sqlite3", ("CREATE TABLE t (a)",))
    reader = sqlite3.connect(database.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="locked"), database.write() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    reader.close()
    with database.write() as connection:
        connection.execute("INSERT INTO t VALUES (2)")
    with database.read() as connection:
        assert [row[0] for row in connection.execute("SELECT a FROM t")] == [2]
    database.close()


def test_a_newer_database_is_not_touched(tmp_path: Path) -> None:
    Database(tmp_path / "x.sqlite3", ("CREATE TABLE t (a)", "CREATE TABLE u (a)")).close()
    with pytest.raises(OutputError, match="newer version"):
        Database(tmp_path / "x.sqlite3", ("CREATE TABLE t (a)",))
    upgraded = Database(tmp_path / "x.sqlite3", ("CREATE TABLE t (a)", "CREATE TABLE u (a)", "CREATE TABLE v (a)"))
    with upgraded.read() as connection:
        connection.execute("SELECT * FROM v")
    upgraded.close()


def test_who_asks_the_same_at_once_is_counted_for_once(
    catalog: Catalog, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan_all(catalog, root_at(models))
    library, counted = Library(catalog), []
    groups = Library._groups

    def slow(self: Library, query: Query) -> Any:
        counted.append(query)
        time.sleep(0.2)
        return groups(self, query)

    monkeypatch.setattr(Library, "_groups", slow)
    with ThreadPoolExecutor(8) as threads:
        pages = list(threads.map(lambda at: library.find(Query(limit=1, offset=at)), range(8)))
    assert len(counted) == 1
    assert {page.total for page in pages} == {len(list(models.iterdir()))}


def test_a_catalog_of_the_version_before_is_brought_up_to_date(catalog: Catalog, models: Path) -> None:
    scan_all(catalog, root_at(models))
    before = names(catalog)
    with catalog.database.write() as connection:
        connection.execute("DROP INDEX items_by_facts")
        connection.execute("DROP INDEX items_by_checkpoint")
        connection.execute("ALTER TABLE items DROP COLUMN checkpoint")
        connection.execute("PRAGMA user_version = 1")
    again = Catalog(Path(catalog.database.path).parent)
    try:
        found = {name: dict(row) for name, row in names(again).items()}
        assert {row.pop("stamp") for row in found.values()} == {""}, "the next scan reads all of them again"
        expected = {name: {**dict(row), "checkpoint": 0} for name, row in before.items()}
        assert found == {name: {key: row[key] for key in row if key != "stamp"} for name, row in expected.items()}
        with again.database.read() as connection:
            plan = connection.execute("EXPLAIN QUERY PLAN SELECT algorithm, count(*) FROM items GROUP BY 1").fetchall()
        assert "items_by_facts" in str([tuple(row) for row in plan])
    finally:
        again.database.close()


def test_numbers_that_sqlite_cannot_keep(catalog: Catalog) -> None:
    from lora_analysis.server.catalog.rows import _storable

    assert _storable(1 << 63) is None
    assert _storable((1 << 63) - 1) == (1 << 63) - 1
    root = Root("r" * 12, "x", "/x", "library")
    found = Found("a.safetensors", "file", 1, 1, "s")
    catalog.put(root, 1, [(found, facts_of_error({"code": "header", "message": "m"}))])
    catalog.put(root, 1, [(found, Facts(title="t" * 10, top_tags='[["a", 1], ["a", 2]]'))])
    [row] = names(catalog).values()
    assert (row["title"], row["error_code"]) == ("t" * 10, None)
