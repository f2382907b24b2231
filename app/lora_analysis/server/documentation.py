"""The OpenAPI document, and a page that shows it: plain HTML made here, without any script or file from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response

OPENAPI_PATH = "/api/v1/openapi.json"
DOCS_PATH = "/api/docs"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f;background:#fff}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{overflow:auto;background:#f4f4f6;padding:.75rem;border-radius:6px}
details{border:1px solid #d8d8de;border-radius:6px;margin:.4rem 0;padding:.5rem .75rem}summary{cursor:pointer}
.m{display:inline-block;min-width:4.5rem;font-weight:600}table{border-collapse:collapse}td,th{text-align:left;
padding:.2rem .8rem .2rem 0;vertical-align:top}h2{margin-top:2rem}a{color:#1558d6}
@media(prefers-color-scheme:dark){body{color:#e6e6ea;background:#16161a}pre{background:#222228}
details{border-color:#3a3a42}a{color:#8ab4f8}}
"""


def openapi_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the two ways to prove who asks."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "lora-session-8777"},
    }
    document["security"] = [{"bearer": []}, {"cookie": []}]
    for path, method in (("/api/v1/health", "get"), ("/api/v1/session", "post")):
        document["paths"][path][method]["security"] = []
    return document


def add_documentation(app: FastAPI) -> None:
    """Serve the document and the page."""

    @cache
    def document() -> dict[str, Any]:
        return openapi_of(app)

    @app.get(OPENAPI_PATH, include_in_schema=False)
    def openapi() -> Response:
        return JSONResponse(document())

    @app.get(DOCS_PATH, include_in_schema=False)
    def docs() -> Response:
        return HTMLResponse("".join(_page(document())), headers={"content-security-policy": _POLICY})


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    title = html.escape(f"{document['info']['title']} {document['info']['version']}: API")
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f"<style>{_STYLE}</style></head>"
    yield f"<body><h1>{title}</h1><p>{html.escape(document['info']['description'])}</p>"
    yield f'<p>The same as a document: <a href="{OPENAPI_PATH}">openapi.json</a></p>'
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(path, method, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{html.escape(tag)}</h2>{''.join(operations)}"
    yield "<h2>Types</h2>"
    for name, schema in document["components"]["schemas"].items():
        text = html.escape(json.dumps(schema, indent=2))
        label = html.escape(name)
        yield f'<details id="{label}"><summary><code>{label}</code></summary><pre>{text}</pre></details>'
    yield "</body></html>"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{html.escape(one['name'])}</code></td><td>{one['in']}</td>"
        f"<td>{html.escape(_type(one.get('schema', {})))}</td><td>{html.escape(one.get('description', ''))}</td></tr>"
        for one in operation.get("parameters", ())
    ]
    replies = [
        f"<li><code>{html.escape(status)}</code> {html.escape(reply.get('description', ''))} {_content(reply)}</li>"
        for status, reply in operation["responses"].items()
    ]
    body = f"<p>Body: {_content(operation['requestBody'])}</p>" if "requestBody" in operation else ""
    return (
        f'<details><summary><span class="m">{method.upper()}</span> <code>{html.escape(path)}</code></summary>'
        f"<p>{html.escape(operation.get('description', ''))}</p>"
        f"{'<table>' + ''.join(rows) + '</table>' if rows else ''}{body}<ul>{''.join(replies)}</ul></details>"
    )


def _content(holder: Mapping[str, Any]) -> str:
    shown = []
    for media, what in holder.get("content", {}).items():
        kind = _type(what.get("schema", {}))
        link = (
            f'<a href="#{html.escape(kind)}">{html.escape(kind)}</a>'
            if what.get("schema", {}).get("$ref")
            else html.escape(kind)
        )
        shown.append(f"{html.escape(media)} {link}")
    return ", ".join(shown)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))
