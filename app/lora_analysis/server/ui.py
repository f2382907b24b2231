"""The built web UI: its files, its page for every other address, and one small page where it is not there."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from .auth.gate import problem

_HASHED = "/assets/"  # names of a build's files there change with their content
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml", ".png": "image/png", ".ico": "image/x-icon", ".woff2": "font/woff2",
    ".json": "application/json", ".txt": "text/plain; charset=utf-8", ".webmanifest": "application/manifest+json",
}  # fmt: skip
_NO_UI = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>LoRA Analysis</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 4rem auto; padding: 0 1rem">
<h1>LoRA Analysis</h1>
<p>The server runs: the <a href="/api/docs">API</a> and the <code>lora</code> command work. The web pages were not
built into this installation. To get them, install the released wheel, or in a checkout with Node 20 or newer:</p>
<pre>npm ci
npm run build</pre>
<p>and start <code>lora serve</code> again.</p></body></html>
"""


def find_ui() -> Path | None:
    """The folder of the built pages: in an installed wheel, or ``dist`` of the checkout. None where there is none."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_web", package.parent.parent / "dist"):
        if (folder / "index.html").is_file():
            return folder
    return None


def list_files(folder: Path) -> dict[str, Path]:
    """By address, every file of the build. Only what is in this list is served; no address is made a path."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.suffix in _TYPES and not path.is_symlink():
                found["/" + path.relative_to(folder).as_posix()] = path
    return found


def add_ui(app: FastAPI, folder: Path | None) -> None:
    """Every address outside of the API. Register it last."""
    files = list_files(folder) if folder is not None else {}

    @app.api_route("/api", methods=_METHODS, include_in_schema=False)
    @app.api_route("/api/{rest:path}", methods=_METHODS, include_in_schema=False)
    def unknown(rest: str = "") -> Response:
        return problem(404, "not-found", "the API has no such route")

    @app.get("/{rest:path}", include_in_schema=False)
    @app.head("/{rest:path}", include_in_schema=False)
    def page(rest: str, request: Request) -> Response:
        path = "/" + rest
        found = files.get(path)
        if found is not None and path != "/index.html":
            cache = "public, max-age=31536000, immutable" if path.startswith(_HASHED) else "no-cache"
            return FileResponse(found, media_type=_TYPES[found.suffix], headers={"cache-control": cache})
        if path not in ("/", "/index.html") and "text/html" not in request.headers.get("accept", ""):
            return problem(404, "not-found", "there is no such file")
        index = files.get("/index.html")
        if index is None:
            return HTMLResponse(_NO_UI, headers={"cache-control": "no-cache"})
        return FileResponse(index, media_type=_TYPES[".html"], headers={"cache-control": "no-cache"})


_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
