"""Rules about the code itself: layers, lazy imports, the public list, banned calls."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import lora_analysis

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "app" / "lora_analysis"
MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}

# Lower layers know nothing of higher ones; linalg and formats do not know each other.
BASE = {"errors", "text", "json_ready", "timestamps", "adapter"}
USE_CASES = {
    "comparing",
    "delta",
    "demo",
    "doctor",
    "inspection",
    "metadata",
    "metadata_export",
    "figures",
    "reporting",
    "resizer",
    "resizing",
    "converting",
    "baking",
    "extracting",
    "runtimes",
    "merging",
    "pca",
    "pca_export",
    "pca_matrices",
    "spectra",
}
MAY_IMPORT = {
    "text": set(),
    "timestamps": set(),
    "background": set(),
    "failures": {"errors", "text"},
    "errors": {"text"},
    "json_ready": set(),
    "tables": {"errors", "text"},
    "adapter": {"errors"},
    "linalg": BASE,
    "formats": BASE,
    "delta": BASE | {"linalg"},
    "inspection": BASE | {"formats"},
    "metadata": BASE | {"background", "formats", "inspection", "metadata_export"},
    "metadata_export": BASE | {"formats", "inspection"},
    "demo": BASE | {"formats"},
    "doctor": BASE | {"__init__"},
    "resizing": BASE | {"formats", "linalg", "delta", "__init__"},
    "resizer": BASE | {"background", "failures", "formats", "resizing", "merging"},
    "baking": BASE | {"formats", "linalg", "resizing", "__init__"},
    "extracting": BASE | {"baking", "converting", "formats", "linalg", "resizing", "__init__"},
    "runtimes": BASE | {"formats"},
    "converting": BASE | {"formats", "linalg", "resizing"},
    "merging": BASE | {"failures", "formats", "linalg", "resizing", "__init__"},
    "spectra": BASE | {"formats", "linalg", "resizing", "tables"},
    "plots": BASE | {"formats", "linalg", "spectra", "comparing"},
    "figures": BASE | {"formats", "plots", "spectra", "comparing"},
    "visualizer": BASE | {"background", "failures", "figures"},
    "reporting": BASE | {"__init__", "formats", "inspection", "metadata", "plots", "spectra"},
    "comparing": BASE | {"formats", "linalg", "spectra", "tables"},
    "pca": BASE | {"background", "failures", "formats", "linalg", "pca_export", "pca_matrices", "plots", "spectra"},
    "pca_export": BASE | {"formats"},
    "pca_matrices": BASE,
    "server": BASE | {"formats", "plots", "__init__"} | USE_CASES,
    "cli": BASE | {"formats", "plots", "server", "__init__"} | USE_CASES,
}
HEAVY = {"numpy", "ml_dtypes", "torch", "matplotlib", "seaborn", "sklearn", "scipy", "fastapi", "pydantic", "rich"}


def trees() -> Iterator[tuple[str, ast.Module]]:
    for name, path in MODULES.items():
        yield name, ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_parts(name: str, tree: ast.Module) -> Iterator[tuple[str, int]]:
    """(top-level part of the package, line) of every relative import, wherever it stands in the module."""
    depth = name.count("/")
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        up = node.level - 1 - depth  # 0: the target is named from the package's root
        if up < 0:
            continue  # inside the same part
        for part in [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]:
            yield (part if (PACKAGE / part).exists() or (PACKAGE / f"{part}.py").exists() else "__init__"), node.lineno


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_follow_the_layers(part: str) -> None:
    wrong = [
        f"{name}.py:{line} imports {target}"
        for name, tree in trees()
        if name.split("/")[0] == part
        for target, line in imported_parts(name, tree)
        if target != part and target not in MAY_IMPORT[part]
    ]
    assert not wrong


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {name.split("/")[0] for name in MODULES} - {"__init__", "__main__"}
    assert parts <= set(MAY_IMPORT), "give the new part a line in MAY_IMPORT"


def test_the_package_imports_itself_by_relative_names_only() -> None:
    wrong = []
    for name, tree in trees():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [f"{name}.py:{node.lineno}" for found in names if found.split(".")[0] in ("lora_analysis", "app")]
    assert not wrong


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


BANNED_CALLS = {"eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.load", "os.system"}
TORCH_LOAD_HOME = "formats/torch_legacy"  # the one module that may call torch.load, restricted and in a child process


def test_nothing_calls_what_runs_strangers_code() -> None:
    wrong = []
    for name, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            called = dotted(node.func)
            shell = any(k.arg == "shell" and getattr(k.value, "value", True) for k in node.keywords)
            is_torch_load = called.endswith("torch.load") and name != TORCH_LOAD_HOME
            if called in BANNED_CALLS or called.endswith((".extractall", ".extract")) or shell or is_torch_load:
                wrong.append(f"{name}.py:{node.lineno} {called}")
    assert not wrong


def test_the_bans_see_what_they_ban() -> None:
    tree = ast.parse("import pickle, torch\npickle.loads(b'')\narchive.extractall('x')\ntorch.load(f)")
    called = [dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert called == ["pickle.loads", "archive.extractall", "torch.load"]


def test_all_lists_what_is_importable() -> None:
    assert list(lora_analysis.__all__) == sorted(lora_analysis.__all__)
    for name in lora_analysis.__all__:
        assert getattr(lora_analysis, name) is not None
    assert set(lora_analysis.__all__) <= set(dir(lora_analysis))
    with pytest.raises(AttributeError, match="no attribute 'resizze'"):
        lora_analysis.resizze  # noqa: B018


def modules_loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nimport json; print(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


HELP = """
import contextlib, io
from lora_analysis.cli import main
sys.argv = ['lora', '--help']
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
"""


@pytest.mark.parametrize("code", ["import lora_analysis", "from lora_analysis import open, inspect", HELP])
def test_starting_loads_nothing_heavy(code: str) -> None:
    assert not modules_loaded_by(code) & HEAVY


def test_inspecting_a_file_loads_no_numpy(demo_library: Path) -> None:
    path = demo_library / "sdxl-character-kohya.safetensors"
    loaded = modules_loaded_by(f"import lora_analysis\nlora_analysis.inspect({str(path)!r}).to_dict()")
    assert not loaded & HEAVY


def test_a_command_loads_no_validation_framework(demo_library: Path) -> None:
    path = str(demo_library / "sdxl-character-kohya.safetensors")
    run = HELP.replace("'--help'", f"'spectrum', {path!r}")
    assert not modules_loaded_by(run) & {"pydantic", "fastapi", "starlette"}


def test_the_other_import_name_works_from_the_root_of_a_checkout(demo_library: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from app.lora_analysis.metadata import LoraMetadataExtractor\n"
        "found = asyncio.run(LoraMetadataExtractor().extract_metadata(sys.argv[1]))\n"
        "print(found['architecture_info']['algorithm'])\n"
        "assert 'lora_analysis' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(demo_library / "sdxl-style-lokr.safetensors")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "lokr"


def test_app_holds_the_package_and_nothing_else() -> None:
    found = {path.name for path in (ROOT / "app").iterdir() if not path.name.startswith(("__pycache__", "."))}
    assert found == {"lora_analysis"}


def test_the_package_and_the_web_pages_have_one_version() -> None:
    """The pages compare the version they were built for, that of package.json, with the server's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    pages = json.loads((ROOT / "package.json").read_text())["version"]
    assert project == pages == lora_analysis.__version__
