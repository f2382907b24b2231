"""A merge can be made again from its header, and says what it took over from its inputs' headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import adapters
import lora_analysis as la
from adapters import save
from command import lora
from lora_analysis.errors import FormatError, OptionError
from lora_analysis.merging.recipe import RECIPE_KEY, read_recipe

TAGS = [
    {"ss_tag_frequency": json.dumps({"10_cat": {"cat": 3, "sun": 1}}), "ss_output_name": "a", "ss_network_dim": "3"},
    {"ss_tag_frequency": json.dumps({"10_cat": {"cat": 2}, "5_dog": {"dog": 4, "odd": "many"}}), "ss_output_name": "b"},
]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / f"{n}.safetensors", adapters.lora(i), TAGS[i]) for i, n in enumerate("ab")]


def metadata_of(path: Path) -> dict[str, Any]:
    with la.open(path) as adapter:
        return dict(adapter.metadata)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"rank": 2, "normalize": False},
        {"method": "dare_ties", "density": 0.3, "seed": 9, "rank": 4, "lambda_": 0.7},
        {"method": "iso_c", "beta": 0.5, "pico": True, "svc": True, "svc_floor": 0.2, "energy": 0.9, "dtype": "fp16"},
        {"method": "knots_ties", "threshold": "layer", "layer_weights": [None, {"*proj*": 0.5}], "metadata": "union"},
        {"size": 4500, "rank_for": None, "layer_weights": [[1.0] * 25 + [0.5], None], "metadata": "full"},
    ],
)
def test_the_recipe_makes_the_same_bytes(asked: dict[str, Any], pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, [0.7, 0.6], tmp_path / "out.safetensors", **asked)
    la.repeat_merge(tmp_path / "out.safetensors", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "out.safetensors").read_bytes()


def test_the_command_repeats_a_merge_with_inputs_elsewhere(pair: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    assert lora("merge", f"{pair[0]}:2", pair[1], "-o", out, "--method", "tsv", "--alpha", 1).code == 0
    moved = [path.rename(tmp_path / "elsewhere" / path.name) for path in pair if _folder(tmp_path / "elsewhere")]
    again = tmp_path / "again.safetensors"
    missing = lora("merge", "--from", out, "-o", again)
    assert missing.code == 2
    assert "a.safetensors is missing" in missing.err.replace("\n", " ")
    assert not again.exists()
    ran = lora("merge", "--from", out, *reversed(moved), "-o", again)
    assert ran.code == 0, ran.err
    assert again.read_bytes() == out.read_bytes()


def _folder(path: Path) -> bool:
    path.mkdir(exist_ok=True)
    return True


def test_an_input_that_has_changed_is_named(pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, None, tmp_path / "out.safetensors")
    pair[1].unlink()
    save(pair[1], adapters.lora(77))
    with pytest.raises(OptionError, match=r"b\.safetensors is there, but its data has changed"):
        la.repeat_merge(tmp_path / "out.safetensors", tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_other_options_beside_a_recipe_are_refused(pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, None, tmp_path / "out.safetensors")
    for extra in (["--rank", "2"], ["--method", "tsv"], ["--layer-weights", "1:*=1"], ["--no-normalize"]):
        ran = lora(
            "merge", "--from", tmp_path / "out.safetensors", *map(str, pair), "-o", tmp_path / "x.safetensors", *extra
        )
        assert (ran.code, "repeats a merge as it was" in ran.err.replace("\n", " ")) == (2, True), extra


def test_a_file_without_a_recipe_says_so(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no recipe"):
        la.repeat_merge(pair[0], tmp_path / "again.safetensors")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"format": 1}',
        '{"format": 1, "version": "1", "options": {}, "inputs": [{"name": "a", "sha256": "no", "weight": 1}]}',
        '{"format": 1, "version": "1", "options": [], "inputs": []}',
    ],
)
def test_damaged_recipes_are_typed_errors(text: str, tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", adapters.lora(1), {RECIPE_KEY: text})
    with la.open(path) as adapter, pytest.raises(FormatError):
        read_recipe(adapter)


def test_names_in_a_recipe_do_not_reach_outside_the_folder(pair: list[Path], tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    digest = "0" * 64
    recipe = {
        "format": 1,
        "version": "1",
        "options": {},
        "inputs": [{"name": "../a.safetensors", "sha256": digest, "weight": 1}],
    }
    made = save(inside / "x.safetensors", adapters.lora(1), {RECIPE_KEY: json.dumps(recipe)})
    with pytest.raises(OptionError, match="is missing"):
        la.repeat_merge(made, tmp_path / "again.safetensors")


# -- policies ----------------------------------------------------------------------------------------


def test_the_union_adds_tag_counts(pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, None, tmp_path / "out.safetensors", metadata="union")
    made = metadata_of(tmp_path / "out.safetensors")
    assert json.loads(made["ss_tag_frequency"]) == {"10_cat": {"cat": 5, "sun": 1}, "5_dog": {"dog": 4}}
    assert "ss_output_name" not in made


def test_the_first_header_is_kept_but_for_what_became_false(pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, None, tmp_path / "out.safetensors", metadata="first")
    made = metadata_of(tmp_path / "out.safetensors")
    assert made["ss_output_name"] == "a"
    assert made["ss_network_dim"] == "6"


def test_all_headers_are_kept(pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, None, tmp_path / "out.safetensors", metadata="full")
    made = metadata_of(tmp_path / "out.safetensors")
    sources = [json.loads(made[f"lora_analysis.source.{i}"]) for i in range(2)]
    assert [source["name"] for source in sources] == ["a.safetensors", "b.safetensors"]
    assert [source["metadata"]["ss_output_name"] for source in sources] == ["a", "b"]


def test_a_fresh_header_takes_over_nothing_private(pair: list[Path], tmp_path: Path) -> None:
    la.merge(pair, None, tmp_path / "out.safetensors")
    made = metadata_of(tmp_path / "out.safetensors")
    assert not {"ss_tag_frequency", "ss_output_name"} & made.keys()
    assert str(tmp_path) not in json.dumps(made)


def test_an_unknown_policy_is_refused(pair: list[Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no metadata policy"):
        la.merge(pair, None, tmp_path / "out.safetensors", metadata="everything")
