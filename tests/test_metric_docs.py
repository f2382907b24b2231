"""Every number that is a measure of weights is explained: its formula, what chance shows, what it does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from lora_analysis.adapter import LowRank
from lora_analysis.linalg.against_base import against_base
from lora_analysis.pca import analyze_pca

DOCS = Path(__file__).resolve().parent.parent / "docs"

# Numbers that are no measures of weights: positions, shapes, counts of what was looked at, and what was asked for.
NO_METRIC = {
    "spectrum": {"expert", "has_magnitude", "layers", "shape", "is_error", "top", "is_exact"},
    "compare": {
        "adapter", "columns", "derived", "dimension", "first", "is_error", "layers", "layers_compared", "origin",
        "ranks", "rows", "second", "shape", "size_bytes", "stored_ranks",
    },
    "pca": {
        "capped", "constant_columns", "is_error", "n_components", "shape", "success", "total_layers", "total_matrices",
    },
}  # fmt: skip
SAYS = 15  # letters of a cell that says something


def numeric_fields(value: Any, field: str = "") -> Iterator[str]:
    """The names under which a JSON document holds numbers. ``differences`` holds what headers say."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name != "differences":
                yield from numeric_fields(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from numeric_fields(inner, field)
    elif isinstance(value, int | float):
        yield field


def tables_of(page: str) -> Iterator[dict[str, str]]:
    """Every row of every table of a documentation page, its cells by heading."""
    headings: list[str] | None = None
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            headings = None
            continue
        cells = [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]
        if headings is None:
            headings = cells
        elif not set(line) <= set("|-: "):
            yield dict(zip(headings, cells, strict=True))


def explained(page: str, column: str) -> set[str]:
    """Fields with a row whose ``column`` says something of them."""
    found: set[str] = set()
    for row in tables_of(page):
        text = next((cell for heading, cell in row.items() if heading.startswith(column)), "")
        first = next(iter(row.values()))
        if text and text != "the same" and (column.startswith(("chance", "definition")) or len(text) >= SAYS):
            found.update(re.findall(r"`(\w+)`", first))
    return found


def documents_of_metrics(library: Path) -> Iterator[tuple[str, Any]]:
    path = library / "sdxl-character-kohya.safetensors"
    yield "spectrum", la.spectrum(path).to_dict()
    yield "spectrum", la.recommend(path).to_dict()
    weight = np.random.default_rng(0).standard_normal((12, 10))
    factors = LowRank(weight[:, :2], weight[:2])
    yield "spectrum", against_base(factors, weight).to_dict()
    yield "compare", la.compare([path, library / "sdxl-style-loha.safetensors"]).to_dict(grids=True)
    found = analyze_pca(library / "llama-chat-peft", 2)
    matrices = list(found["pca_results"].values())
    yield "pca", {**found, "pca_results": [{**one, "components": [1.0], "transformed_data": [1.0]} for one in matrices]}


def test_every_metric_has_its_formula_its_chance_level_and_what_it_does_not_say(demo_library: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'lora-analysis[pca]'")
    seen: dict[str, set[str]] = {"spectrum": set(), "compare": set(), "pca": set()}
    for page, document in documents_of_metrics(demo_library):
        seen[page].update(numeric_fields(document))
    for page, fields in seen.items():
        metrics = fields - NO_METRIC[page]
        assert len(metrics) > 5
        for column in ("definition", "chance", "what it does not say"):
            assert metrics - explained(f"{page}.md", column) == set(), f"{page}.md, {column}"


def test_a_metric_without_a_row_would_be_found() -> None:
    assert "cosine" in explained("compare.md", "definition")
    assert "cosine_of_nothing" not in explained("compare.md", "definition")
    assert set(numeric_fields({"a": [1.0], "b": {"c": 2, "d": "x"}, "differences": [{"values": [1]}]})) == {"a", "c"}


REPORTED = {  # the headings of numbers in a report -> the field that each shows; None for counts of layers
    "layers": None,
    "rank": "rank",
    "‖Δ‖": "frobenius_norm",
    "share of energy": "energy_share",
    "effective rank (median)": "effective_rank_median",
    "k95 (largest)": "rank_95_largest",
    "σ₁": "largest",
    "effective rank": "effective_rank",
    "k95": "rank_95",
    "k99": "rank_99",
}


def test_every_number_of_a_report_is_a_metric_that_is_explained(demo_library: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'lora-analysis[plot]'")
    page = la.report(demo_library / "sdxl-character-kohya.safetensors")
    headings = set(re.findall(r'<th scope="col" class="number">([^<]+)</th>', page))
    assert headings == set(REPORTED)
    assert {field for field in REPORTED.values() if field} <= explained("spectrum.md", "what it does not say")
