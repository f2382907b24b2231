"""Put the built web UI into wheel and sdist.

1. ``dist/`` was made from these sources (its stamp is their hash): it is used as it is. So a wheel built from an sdist
   needs no Node.
2. Else, where npm is there and ``LORA_NO_NPM`` is not set: ``npm ci && npm run build``.
3. Else the package is built without the UI, with a warning; with ``LORA_REQUIRE_UI=1``, for releases, it fails.

Editable installs serve ``dist/`` of the checkout and build nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("src", "public", "index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
STAMP = ".stamp"
IN_WHEEL = "lora_analysis/_web"


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]  # hatchling has no types
    """Found by its name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files of the UI to what is built. Raises: RuntimeError where it is required and cannot be had."""
        if version == "editable":
            return
        root = Path(self.root)
        reason = ensure_built(root)
        if reason is not None:
            if os.environ.get("LORA_REQUIRE_UI") == "1":
                raise RuntimeError(f"the web UI is required and {reason}")
            self.app.display_warning(f"building without the web UI: {reason}")
            return
        target = "dist" if self.target_name == "sdist" else IN_WHEEL
        for path in built_files(root / "dist", with_stamp=self.target_name == "sdist"):
            build_data["force_include"][str(path)] = f"{target}/{path.relative_to(root / 'dist').as_posix()}"


def ensure_built(root: Path) -> str | None:
    """Make ``dist`` from the sources where it is not. Returns: why it cannot be had, or None."""
    if not (root / "package.json").is_file():
        return "its sources are not here"
    wanted = digest(root)
    stamp = root / "dist" / STAMP
    if (root / "dist" / "index.html").is_file() and stamp.is_file() and stamp.read_text().strip() == wanted:
        return None
    npm = shutil.which("npm")
    if npm is None or os.environ.get("LORA_NO_NPM"):
        return "npm is not installed" if npm is None else "LORA_NO_NPM is set"
    for arguments in (("ci", "--no-audit", "--no-fund"), ("run", "build")):
        done = subprocess.run([npm, *arguments], cwd=root, check=False, capture_output=True, text=True)
        if done.returncode:
            return f"npm {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}"
    if not (root / "dist" / "index.html").is_file():
        return "npm run build made no dist/index.html"
    stamp.write_text(wanted + "\n")
    return None


def digest(root: Path) -> str:
    """Of the sources of the UI, tests of it left out."""
    found = hashlib.sha256()
    for name in SOURCES:
        top = root / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and ".test." not in path.name:
                found.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def built_files(dist: Path, *, with_stamp: bool) -> list[Path]:
    """Files of the build that are shipped: no source maps."""
    found = (path for path in sorted(dist.rglob("*")) if path.is_file() and path.suffix != ".map")
    return [path for path in found if with_stamp or path.name != STAMP]
