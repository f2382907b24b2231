"""``lora compare``: what it prints, the document, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import adapters
from adapters import MODULE, save
from command import lora, lora_process
from lora_analysis.cli.compare import SCHEMA

NAMED = "unet.down_blocks.0.attentions.0.proj_in"  # what the module table calls it


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    contents = [adapters.lora(i) | adapters.conv_lora(i) for i in range(3)]
    return [save(tmp_path / f"{name}.safetensors", made) for name, made in zip("abc", contents, strict=True)]


def test_the_page_of_two_shows_figures_beside_their_chance(three: list[Path]) -> None:
    ran = lora("compare", *three[:2])
    assert ran.code == 0, ran.err
    for part in ("a.safetensors", "b.safetensors", "cosine", "chance", "φ(i, j)", "interference", NAMED, "unet"):
        assert part in ran.out


def test_the_page_of_three_shows_every_pair_and_a_matrix(three: list[Path]) -> None:
    ran = lora("compare", *three)
    assert ran.code == 0, ran.err
    for part in ("A B", "A C", "B C"):
        assert part in ran.out


def test_json_is_one_document(three: list[Path]) -> None:
    document = lora("compare", *three, "--json", "--grids").json
    assert document["schema"] == SCHEMA
    assert len(document["pairs"]) == 3
    assert document["layers"][0]["pairs"][0]["left"]["angles"]
    only = lora("compare", *three[:2], "--json", "--layer", "*conv1").json
    assert [layer["name"] for layer in only["layers"]] == ["unet.down_blocks.0.resnets.0.conv1"]


def test_a_resized_copy_is_recognised(tmp_path: Path, demo_library: Path) -> None:
    original, small = demo_library / "sd15-style-kohya.safetensors", tmp_path / "small.safetensors"
    assert lora("resize", original, "--rank", 1, "-o", small).code == 0
    ran = lora("compare", original, small, "--top", 1)
    assert "resized from rank" in ran.out
    assert "more layers that agree better" in ran.out


def test_exit_codes(three: list[Path], tmp_path: Path) -> None:
    broken = adapters.lora(9)
    broken[f"{MODULE}.lora_up.weight"][0, 0] = np.nan
    flawed = save(tmp_path / "flawed.safetensors", broken | adapters.conv_lora(9))
    ran = lora("compare", three[0], flawed)
    assert (ran.code, MODULE in ran.err) == (1, True)
    assert lora("compare", three[0]).code == 2
    assert lora("compare", *three, "--layer", "nothing").code == 2
    assert lora("compare", three[0], tmp_path / "missing.safetensors").code == 1


def test_names_from_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    name = "lora_unet_\x1b[31mred\u202e"
    paths = [save(tmp_path / f"{i}.safetensors", adapters.lora(i, name), {"ss_\x1b[2J": str(i)}) for i in (1, 2)]
    ran = lora("compare", *paths)
    assert ran.code == 0, ran.err
    assert not {"\x1b", "\u202e"} & set(ran.out + ran.err)


def test_it_runs_as_a_process_of_its_own(three: list[Path]) -> None:
    assert lora_process("compare", *three[:2], "--json").json["cosines"]
