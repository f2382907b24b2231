"""Write the OpenAPI document that the web UI's typed client is generated from.

Run it as ``python -m lora_analysis.server.openapi``.
``--check`` compares the file with the routes instead and exits with 1 where they differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .app import documented_app
from .documentation import openapi_of

TARGET = Path(__file__).resolve().parents[3] / "src" / "api" / "openapi.json"


def document_text() -> str:
    """The document as it is committed: indented, keys in the order of the routes, one line break at the end."""
    return json.dumps(openapi_of(documented_app()), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    text = document_text()
    if "--check" in arguments:
        fresh = TARGET.exists() and TARGET.read_text(encoding="utf-8") == text
        if not fresh:
            sys.stderr.write("src/api/openapi.json is old; run: python -m lora_analysis.server.openapi\n")
        return 0 if fresh else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
