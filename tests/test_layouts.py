"""Every reference layout: classified right, every key accounted for, the deltas those it was made with."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from layouts import generator, index, load, needs_shared
from lora_analysis.adapter import LowRank
from lora_analysis.formats.opening import adapt
from sources import ShapeSource

pytestmark = needs_shared
ENTRIES = index()
NAMES = [entry["file"] for entry in ENTRIES]
# Files written for the delta test. Everything is tried with LORA_ALL_LAYOUTS=1 (4 GB of disk, 15 minutes).
LIMIT_MB = 1e9 if os.environ.get("LORA_ALL_LAYOUTS") else 40


def shapes_of(layout: dict[str, Any]) -> ShapeSource:
    tensors = {key: (info["dtype"], tuple(info["shape"])) for key, info in layout["tensors"].items()}
    return ShapeSource(tensors, layout.get("metadata"))


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_layout_is_classified(entry: dict[str, Any]) -> None:
    layout = load(entry["file"])
    adapter = adapt(shapes_of(layout), layout.get("adapter_config"))
    found = (adapter.algorithm, adapter.dialect, adapter.base_model.family)
    assert found == (entry["adapter_type"], entry["naming"], entry["base_model_family"]), adapter.base_model.evidence


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_key_is_accounted_for_once(entry: dict[str, Any]) -> None:
    layout = load(entry["file"])
    adapter = adapt(shapes_of(layout), layout.get("adapter_config"))
    used = [key for layer in adapter.layers.values() for key in layer.keys.values()]
    carried = [extra.key for extra in adapter.extras]
    assert sorted([*used, *carried, *adapter.unrecognised_keys]) == sorted(layout["tensors"])
    assert adapter.unrecognised_keys == ()


def test_defects_are_named() -> None:
    layout = load("llama3-8b-broken-partners.json")
    adapter = adapt(shapes_of(layout), layout["adapter_config"])
    orphans = sorted(finding.layer for finding in adapter.findings if finding.code == "orphan-factor")
    assert orphans == [
        "base_model.model.model.layers.0.mlp.up_proj",
        "base_model.model.model.layers.0.self_attn.q_proj",
    ]


def written(entry: dict[str, Any], folder: Path) -> tuple[Path, dict[str, Any]]:
    """The layout as a file with orthonormal factors, and what it was made from."""
    suffix = ".json.gz" if entry["file"].endswith(".gz") else ".json"
    is_mlx = entry["naming"] == "mlx"
    target = folder / ("adapters.safetensors" if is_mlx else "adapter_model.safetensors")
    truth = folder / f"truth{suffix.removesuffix('.gz')}"
    make = generator()
    make.main(
        [
            str(Path(make.__file__).parent / "layouts" / entry["file"]),
            str(target),
            "--exact",
            "--dtype",
            "F32",
            "--truth",
            str(truth),
            "--config",
        ]
    )
    return target, json.loads(truth.read_text())


@pytest.mark.parametrize(
    "entry", [pytest.param(e, id=e["file"]) for e in ENTRIES if e["parameters"] * 4 / 1e6 <= LIMIT_MB]
)
def test_deltas_are_those_the_file_was_made_with(entry: dict[str, Any], tmp_path: Path) -> None:
    target, truth = written(entry, tmp_path)
    with la.open(target) as adapter:
        assert (adapter.algorithm, adapter.dialect) == (entry["adapter_type"], entry["naming"])
        assert set(truth) <= set(adapter.layers)
        for name, facts in truth.items():
            layer = adapter.layers[name]
            assert layer.rank == facts["rank"]
            assert_spectrum(layer.update(), facts, is_header_scale=layer.scale_origin == "header")


def assert_spectrum(update: Any, facts: dict[str, Any], *, is_header_scale: bool) -> None:
    """Singular values by plain numpy, from QR of both factors. The generator does not read a header's alpha."""
    assert isinstance(update, LowRank)
    scale = facts["scale"] if is_header_scale else update.scale
    cores = [np.linalg.qr(np.asarray(factor, np.float64))[1] for factor in (update.up, update.down.T)]
    found = np.linalg.svd(cores[0] @ cores[1].T, compute_uv=False) * scale
    expected = np.asarray(facts["sigma"])
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=2e-5, atol=1e-6 * expected[0])
