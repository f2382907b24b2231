"""What is installed and how this machine is set up: the facts a bug report needs."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from typing import Any

# Import names, because that is what decides whether a feature works; the distribution may be called otherwise.
BASE_PACKAGES = ("numpy", "ml_dtypes", "threadpoolctl", "typer", "rich")
EXTRAS = {
    "plot": ("matplotlib", "seaborn"),
    "pca": ("sklearn",),
    "torch": ("torch",),
    "hub": ("huggingface_hub",),
    "cloud": ("obstore",),
    "dask": ("distributed",),
    "auth": ("pwdlib", "argon2"),
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional part: its packages with their versions, None for one that is not installed."""

    packages: dict[str, str | None]
    install: str | None  # the command that would complete it

    @property
    def installed(self) -> bool:
        return self.install is None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The state of an installation."""

    version: str
    python: str
    platform: str
    location: str
    packages: dict[str, str | None]
    extras: dict[str, Extra]
    cores: int  # that this process may use, which in a container is fewer than the machine has
    blas: list[dict[str, Any]]  # one entry per loaded library: name, version, threads
    temporary_folder: str
    temporary_free_bytes: int | None
    problems: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, extras with an ``installed`` flag."""
        document = asdict(self)
        for name, extra in self.extras.items():
            document["extras"][name]["installed"] = extra.installed
        return document


def diagnose() -> Diagnosis:
    """Look at this installation. Loads numpy (for its BLAS), no optional part. Never raises."""
    from . import __version__

    packages = {name: installed_version(name) for name in BASE_PACKAGES}
    problems = [
        f"{name} is missing; reinstall with: pip install lora-analysis" for name, v in packages.items() if not v
    ]
    folder, free = _temporary_folder(problems)
    return Diagnosis(
        version=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        location=os.path.dirname(os.path.abspath(__file__)),
        packages=packages,
        extras={name: _extra(name, parts) for name, parts in EXTRAS.items()},
        cores=usable_cores(),
        blas=_blas(problems),
        temporary_folder=folder,
        temporary_free_bytes=free,
        problems=problems,
    )


def installed_version(module: str) -> str | None:
    """The installed version of ``module``, found without importing it; None where there is none."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return importlib.metadata.version(_DISTRIBUTIONS.get(module, module))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def usable_cores() -> int:
    """Cores this process may run on: a container or ``taskset`` grants fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _extra(name: str, parts: tuple[str, ...]) -> Extra:
    found = {part: installed_version(part) for part in parts}
    return Extra(found, None if all(found.values()) else f"pip install 'lora-analysis[{name}]'")


def _temporary_folder(problems: list[str]) -> tuple[str, int | None]:
    try:
        folder = tempfile.gettempdir()
        return folder, shutil.disk_usage(folder).free
    except OSError as error:
        problems.append(f"no temporary folder can be written: {error}; set TMPDIR")
        return "", None


def _blas(problems: list[str]) -> list[dict[str, Any]]:
    """The linear algebra libraries that numpy brings, with their number of threads."""
    try:
        importlib.import_module("numpy.linalg")
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError as error:  # a broken numpy is what this command is for
        problems.append(f"numpy does not load: {error}")
        return []
    wanted = ("internal_api", "version", "num_threads", "architecture")
    return [{key: entry.get(key) for key in wanted} for entry in threadpoolctl.threadpool_info()]
