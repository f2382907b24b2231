"""``lora pca``: the table, the documents and files, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import adapters
from adapters import CONV, MODULE, save
from command import lora
from lora_analysis.cli.pca import SCHEMA


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "a.safetensors", adapters.lora(1, rank=4) | adapters.conv_lora(2, rank=2))


def test_the_table_shows_shares_and_what_was_capped(path: Path) -> None:
    ran = lora("pca", path, "-n", 3)
    assert ran.code == 0, ran.err
    for part in ("4 matrices", f"{MODULE}.lora_A", "4 × 10", "PC1", "together", "2 matrices with fewer components"):
        assert part in ran.out
    assert "… 3 more matrices" in lora("pca", path, "--top", 1).out


def test_json_holds_arrays_where_asked_for(path: Path) -> None:
    bare = lora("pca", path, "-n", 2, "--json").json
    assert bare["schema"] == SCHEMA
    assert len(bare["pca_results"]) == 4
    assert {entry["components"] for entry in bare["pca_results"].values()} == {None}
    whole = lora("pca", path, "-n", 2, "--json", "--arrays", "--layer", CONV).json
    assert set(whole["pca_results"]) == {f"{CONV}.lora_A", f"{CONV}.lora_B"}
    assert np.shape(whole["pca_results"][f"{CONV}.lora_A"]["components"]) == (2, 90)
    assert np.shape(whole["pca_results"][f"{CONV}.lora_B"]["transformed_data"]) == (12, 2)


def test_the_target_may_be_the_delta(path: Path) -> None:
    document = lora("pca", path, "--target", "delta", "--json").json
    assert set(document["pca_results"]) == {f"{MODULE}.delta", f"{CONV}.delta"}


@pytest.mark.parametrize("suffix", ["json", "csv", "npz"])
def test_results_are_written_once_and_replaced_when_forced(path: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    ran = lora("pca", path, "-n", 2, "-o", out)
    assert (ran.code, ran.out) == (0, "")
    assert "4 matrices written" in ran.err
    first = out.read_bytes()
    assert lora("pca", path, "-n", 2, "-o", out).code == 1
    assert lora("pca", path, "-n", 2, "-o", out, "--force").code == 0
    assert out.read_bytes() == first
    if suffix == "npz":
        with np.load(out) as arrays:
            assert f"{MODULE}.lora_A/components" in arrays.files


def test_exit_codes(path: Path, tmp_path: Path, demo_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = adapters.lora(3) | adapters.conv_lora(4)
    broken[f"{CONV}.lora_down.weight"][0, 0] = np.nan
    ran = lora("pca", save(tmp_path / "broken.safetensors", broken))
    assert (ran.code, f"{MODULE}.lora_A" in ran.out, CONV in ran.err) == (1, True, True)
    assert lora("pca", demo_library / "llama-ia3-peft").code == 1
    assert lora("pca", path, "--layer", "nothing").code == 2
    assert lora("pca", path, "-n", 0).code == 2
    assert lora("pca", path, "-o", tmp_path / "out.xlsx").code == 2
    assert lora("pca", path, "-o", path).code == 2
    assert lora("pca", tmp_path / "missing.safetensors").code == 1
    monkeypatch.setattr("lora_analysis.pca.find_spec", lambda name: None)
    ran = lora("pca", path)
    assert (ran.code, "scikit-learn" in ran.err) == (5, True)


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    ran = lora("pca", save(tmp_path / "a.safetensors", adapters.lora(1, "lora_unet_\x1b[31mred\u202e")))
    assert ran.code == 0, ran.err
    assert not {"\x1b", "\u202e"} & set(ran.out + ran.err)
