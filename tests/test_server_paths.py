"""Nothing outside of the roots is read, written, removed or told of: promise S4, with canaries beside them."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from lora_analysis.errors import FileAccessError, OptionError
from lora_analysis.server.roots import is_within, resolve_within, roots_of
from serving import finished, id_of, running, scanned, settings_for

PATHS = int(os.environ.get("LORA_HOSTILE_PATHS", "5000"))
CANARY = b"CANARY-c0ffee"
LOKR = "sdxl-style-lokr.safetensors"


class Place:
    """A root among things that must not be reached."""

    def __init__(self, folder: Path, adapter: bytes) -> None:
        self.top = folder
        self.root = folder / "models"
        self.root.mkdir(parents=True)
        (self.root / "good.safetensors").write_bytes(adapter)
        (self.root / ".hidden.safetensors").write_bytes(adapter)
        (self.root / ".secret").mkdir()
        (self.root / ".secret" / "x.safetensors").write_bytes(adapter)
        sibling = folder / "models-private"  # begins with the root's name
        sibling.mkdir()
        (sibling / "private.safetensors").write_bytes(adapter)
        (folder / "outside.safetensors").write_bytes(adapter)
        (folder / "canary.txt").write_bytes(CANARY)
        (self.root / "link.safetensors").symlink_to(folder / "outside.safetensors")
        (self.root / "linked-folder").symlink_to(sibling)
        (self.root / "loop.safetensors").symlink_to("loop.safetensors")
        (self.root / "loop").symlink_to(".")
        (self.root / "dangling.safetensors").symlink_to("nowhere.safetensors")
        (self.root / "inner-link.safetensors").symlink_to("good.safetensors")
        os.mkfifo(self.root / "pipe.safetensors")
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(self.root)  # the name of a socket is at most 107 bytes
            try:
                listener.bind("socket.safetensors")
            finally:
                os.chdir(here)
        peft = self.root / "peft"
        peft.mkdir()
        (peft / "adapter_config.json").write_text("{}")
        (peft / "adapter_model.safetensors").symlink_to(folder / "outside.safetensors")
        self.before = self.fingerprint()

    def fingerprint(self) -> dict[str, str]:
        """What lies outside of the server's own folders, and in the root."""
        found = {}
        for parent, folders, names in os.walk(self.top):
            folders[:] = [name for name in folders if name != "state"]
            for name in names:
                path = Path(parent, name)
                kind = "link" if path.is_symlink() else "file" if path.is_file() else "other"
                text = os.readlink(path) if kind == "link" else path.read_bytes() if kind == "file" else kind
                data = text if isinstance(text, bytes) else text.encode()
                found[str(path)] = hashlib.sha256(data).hexdigest()
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, demo_library: Path) -> Place:
    return Place(tmp_path_factory.mktemp("place"), (demo_library / LOKR).read_bytes())


@pytest.fixture(scope="module")
def client(place: Place) -> Iterator[TestClient]:
    with running(settings_for(place.top / "state", place.root)) as client:
        scanned(client)
        yield client


def test_the_scan_finds_what_is_inside_and_lists_the_rest(client: TestClient) -> None:
    items = {item["name"]: item for item in client.get("/api/v1/adapters").json()["items"]}
    assert set(items) == {"good.safetensors", "inner-link.safetensors", "peft"}
    assert items["good.safetensors"]["error"] is None
    assert items["inner-link.safetensors"]["error"] is None, "a link within the root is followed, as caches have them"
    assert items["peft"]["error"]["code"] == "file-access", "a folder whose weights lie elsewhere"
    skipped = {one["path"]: one["reason"] for one in client.get("/api/v1/skipped").json()}
    assert skipped == {
        "dangling.safetensors": "a link that leads nowhere",
        "link.safetensors": "a link out of the root",
        "linked-folder": "a link to a folder, which is not followed",
        "loop": "a link to a folder, which is not followed",
        "loop.safetensors": "a link that leads nowhere",
        "pipe.safetensors": "a named pipe",
        "socket.safetensors": "a socket",
    }


def test_a_file_that_becomes_a_link_later_is_not_followed(client: TestClient, place: Place) -> None:
    turncoat = place.root / "turncoat.safetensors"
    turncoat.write_bytes((place.root / "good.safetensors").read_bytes())
    scanned(client)
    adapter = id_of(client, "turncoat")
    turncoat.unlink()
    turncoat.symlink_to(place.top / "outside.safetensors")
    try:
        for route in ("file", "files", "layers", "spectra?wait=20"):
            found = client.get(f"/api/v1/adapters/{adapter}/{route}")
            assert found.status_code == 404, route
        job = client.post("/api/v1/jobs", json={"kind": "verify", "adapter": adapter}).json()
        assert finished(client, job["id"])["error"]["code"] == "file-access"
    finally:
        turncoat.unlink()
        scanned(client)


# -- hostile names in every field ------------------------------------------------------------------------

PIECES = (
    "..", ".", "...", "/", "//", "\\", "%2e%2e", "%2f", "%5c", "%00", "\0", "\n", "~", "$HOME", "C:", "file://", "good",
    ".safetensors", "models-private", "private.safetensors", "canary.txt", "outside.safetensors", "link.safetensors",
    "linked-folder", ".hidden.safetensors", "state", "etc/passwd", "proc/self/environ", "*", "?", "|", ";", "`id`",
    "'", '"', "<b>", "\u202e", "\u2215", "\uff0e\uff0e", "é", "a" * 300, " ", ".tmp", "catalog.sqlite3", "lock",
    "names", "uploads",
)  # fmt: skip


def hostile_names(place: Place, count: int) -> Iterator[str]:
    chance = random.Random(20_261_124)
    whole = [str(place.top), str(place.top / "canary.txt"), str(place.root / "good.safetensors"), "/etc/passwd"]
    yield from whole
    for _ in range(count - len(whole)):
        name = chance.choice(("", "/", "")).join(chance.choices(PIECES, k=chance.randint(1, 7)))
        yield chance.choice(("", "../" * chance.randint(1, 9), str(place.top) + "/", "")) + name


def requests_with(name: str, adapter: str) -> list[tuple[str, str, dict[str, Any]]]:
    """One request per field that could hold a name."""
    encoded = quote(name, safe="")
    resize = {"kind": "resize", "adapter": adapter, "options": {"rank": 1}, "output": name + ".safetensors"}
    return [
        ("GET", f"/api/v1/adapters/{encoded}", {}),
        ("GET", f"/api/v1/adapters/{encoded}/file", {}),
        ("GET", f"/api/v1/adapters/{encoded}/metadata", {}),
        ("DELETE", f"/api/v1/adapters/{encoded}", {}),
        ("GET", f"/api/v1/adapters/{adapter}/file", {"params": {"name": name}}),
        ("GET", f"/api/v1/jobs/{encoded}/result", {}),
        ("DELETE", f"/api/v1/jobs/{encoded}", {}),
        ("POST", "/api/v1/jobs", {"json": {**resize, "adapter": name}}),
        ("POST", "/api/v1/jobs", {"json": resize}),
        ("POST", "/api/v1/scans", {"json": {"roots": [name]}}),
        ("POST", "/api/v1/comparisons", {"json": {"adapters": [adapter, name]}}),
        ("GET", "/api/v1/adapters", {"params": {"q": name, "root": name, "tag": name}}),
        ("GET", f"/{encoded}", {}),
        ("GET", f"/assets/{encoded}", {"headers": {"accept": "text/html"}}),
    ]


def test_hostile_names_reach_nothing(client: TestClient, place: Place) -> None:
    adapter = id_of(client, "good")
    secrets = (CANARY, b"root:x:0:0", str(place.top).encode())
    application: Any = client.app
    outputs = place.top / "state" / "outputs"
    for at, name in enumerate(hostile_names(place, PATHS)):
        choices = requests_with(name, adapter)
        method, path, options = choices[at % len(choices)]  # each name in one field, each field hundreds of times
        if "\0" in path or "\n" in path:
            continue
        found = client.request(method, path, **options)
        assert found.status_code < 500, (method, path, found.text)
        for secret in secrets:
            echoed = secret in str(options).encode() or secret in path.encode()
            assert echoed or secret not in found.content, (method, path)
        if "private" in path and found.status_code == 200 and path.startswith("/api"):
            raise AssertionError((method, path))
    for job in application.state.server.jobs.page(states=("queued", "running"), limit=200)[0]:
        client.post(f"/api/v1/jobs/{job.id}/cancel")
        finished(client, job.id)
    assert place.fingerprint() == place.before
    for written in outputs.rglob("*"):
        assert is_within(os.path.realpath(written), os.path.realpath(outputs))
        assert written.parent == outputs, "outputs have no folders of their own making"
    assert {entry.name for entry in (place.top / "state").iterdir()} <= {
        "catalog.sqlite3", "catalog.sqlite3-wal", "catalog.sqlite3-shm", "jobs.sqlite3", "jobs.sqlite3-wal",
        "jobs.sqlite3-shm", "lock", "names", "uploads", "outputs", "results", "trash",
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["../x.safetensors", "a/b.safetensors", "a\\b.safetensors", ".x.safetensors", "x\0.safetensors", "x\n.safetensors",
     "", "x" * 201 + ".safetensors", "é" * 199 + ".pt", "x.txt", "x"],
)  # fmt: skip
def test_uploads_have_plain_names(client: TestClient, place: Place, name: str) -> None:
    found = client.post("/api/v1/uploads", params={"name": name}, content=b"x")
    assert found.status_code in (400, 422), found.text
    assert place.fingerprint() == place.before
    assert not [path for path in (place.top / "state" / "uploads").iterdir() if path.name.startswith(".upload-")]


def test_a_removed_output_that_was_made_a_link_leaves_its_target(client: TestClient, place: Place) -> None:
    asked = {"kind": "resize", "adapter": id_of(client, "good"), "options": {"rank": 1}, "output": "swap.safetensors"}
    job = finished(client, client.post("/api/v1/jobs", json=asked).json()["id"])
    assert job["state"] == "succeeded", job["error"]
    written = place.top / "state" / "outputs" / "swap.safetensors"
    written.unlink()
    written.symlink_to(place.top / "outside.safetensors")
    assert client.delete(f"/api/v1/adapters/{job['outputs'][0]}").status_code == 404
    assert place.fingerprint() == place.before
    written.unlink()


# -- the rule itself -----------------------------------------------------------------------------------


def test_within_is_by_parts_not_by_letters() -> None:
    assert is_within("/a/b", "/a")
    assert is_within("/a", "/a")
    assert is_within("/a", "/")
    assert not is_within("/ab", "/a")
    assert not is_within("/", "/a")
    assert not is_within("a", "/a")


@pytest.mark.parametrize("given", ["models", "models/", "models/.", "via-link", "../{name}/models"])
def test_a_root_may_be_given_in_any_way(tmp_path: Path, given: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "x.safetensors").write_bytes(b"x")
    (tmp_path / "via-link").symlink_to("models")
    [root, *_] = roots_of(settings_for(tmp_path / "state", tmp_path / given.format(name=tmp_path.name)))
    assert root.label == "models"
    assert resolve_within(root, "x.safetensors") == os.path.realpath(tmp_path / "models" / "x.safetensors")
    for path in (
        "../models/x.safetensors",
        "/x.safetensors",
        "",
        ".",
        "..",
        "./x.safetensors",
        "x.safetensors/..",
        "a//b",
    ):
        with pytest.raises(FileAccessError):
            resolve_within(root, path)


def test_roots_do_not_lie_in_one_another(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(OptionError, match="lies in"):
        roots_of(settings_for(tmp_path / "state", tmp_path / "a", tmp_path / "a" / "b"))
    with pytest.raises(OptionError, match="lies in"):
        roots_of(settings_for(tmp_path / "a" / "state", tmp_path / "a"))
    with pytest.raises(FileAccessError, match="no folder"):
        roots_of(settings_for(tmp_path / "state", tmp_path / "missing"))


def test_roots_of_one_name_have_labels_of_their_own(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "lora").mkdir(parents=True)
    roots = roots_of(settings_for(tmp_path / "state", tmp_path / "one" / "lora", tmp_path / "two" / "lora"))
    assert [root.label for root in roots] == ["lora", "lora-2", "uploads", "outputs"]
    shutil.rmtree(tmp_path / "one")
