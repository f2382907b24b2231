"""The built pages as the server gives them out: deep links, caching, and no file but those of the build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from lora_analysis.server.ui import find_ui
from serving import BEARER, settings_for, standing

HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("dist")
    (folder / "assets").mkdir()
    (folder / "index.html").write_text("<!doctype html><title>the page</title>")
    (folder / "favicon.svg").write_text("<svg/>")
    (folder / "assets" / "index-D8yRFFxq.js").write_text("let x")
    (folder / "assets" / "index-D8yRFFxq.js.map").write_text("map")
    (folder / ".stamp").write_text("secret")
    (folder / "link.js").symlink_to("/etc/passwd")
    with standing(settings_for(tmp_path_factory.mktemp("state"), ui=folder), bearer=False) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/index.html", "/inspect/0123?tab=tags", "/assets/deep/link", "/jobs"])
def test_every_address_of_a_page_is_the_page(client: TestClient, path: str) -> None:
    found = client.get(path, headers=HTML)
    assert found.status_code == 200
    assert "the page" in found.text
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["content-type"] == "text/html; charset=utf-8"


def test_files_of_the_build_are_kept_for_ever_and_others_asked_for_again(client: TestClient) -> None:
    script = client.get("/assets/index-D8yRFFxq.js")
    assert (script.text, script.headers["content-type"]) == ("let x", "text/javascript; charset=utf-8")
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    icon = client.get("/favicon.svg")
    assert (icon.headers["content-type"], icon.headers["cache-control"]) == ("image/svg+xml", "no-cache")


@pytest.mark.parametrize(
    "path",
    ["/assets/old.js", "/.stamp", "/link.js", "/assets/index-D8yRFFxq.js.map", "/assets/../.stamp",
     "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/assets%00.js", "/assets"],
)  # fmt: skip
def test_nothing_else_is_a_file(client: TestClient, path: str) -> None:
    found = client.get("http://127.0.0.1:8777" + path)
    assert found.status_code == 404, found.text
    assert "root:" not in found.text


def test_pages_take_no_other_method(client: TestClient) -> None:
    assert client.head("/", headers=HTML).status_code == 200
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code in (401, 405)
        assert client.request(method, "/", headers=BEARER).status_code == 405


def test_without_a_build_a_page_says_how_to_get_one(tmp_path: Path) -> None:
    with standing(settings_for(tmp_path), bearer=False) as client:
        found = client.get("/inspect", headers=HTML)
        assert "npm run build" in found.text
        assert "<script" not in found.text


def test_the_build_is_looked_for_in_the_package_and_the_checkout() -> None:
    found = find_ui()
    assert found is None or (found / "index.html").is_file()
