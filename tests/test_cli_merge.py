"""``lora merge`` from the outside."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

import adapters
from adapters import MODULE, save
from command import lora, lora_process
from lora_analysis import materialise
from lora_analysis import open as open_adapter
from lora_analysis.cli.merge import Weighted, parse_weighted
from lora_analysis.cli.quantities import bytes_of
from lora_analysis.errors import OptionError


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (
        save(tmp_path / "a.safetensors", adapters.lora(1)),
        save(tmp_path / "b.safetensors", adapters.lora(2) | adapters.conv_lora(3)),
    )


def delta_of(path: Path, name: str = MODULE) -> np.ndarray:
    with open_adapter(path) as adapter:
        return materialise(adapter.layers[name])


def test_weights_stand_behind_the_paths(pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    ran = lora("merge", f"{a}:3", b, "-o", tmp_path / "sum.safetensors", "--json")
    assert ran.code == 0, ran.err
    document = ran.json
    assert document["schema"] == "lora-analysis/merge/1"
    assert [item["weight"] for item in document["inputs"]] == [0.75, 0.25]
    assert document["output"]["size"] == document["size_after"] == (tmp_path / "sum.safetensors").stat().st_size
    expected = 0.75 * delta_of(a) + 0.25 * delta_of(b)
    np.testing.assert_allclose(delta_of(tmp_path / "sum.safetensors"), expected, atol=1e-5)


def test_without_normalising_weights_act_as_they_stand(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ran = lora("merge", f"{pair[0]}:-2", "-o", tmp_path / "sum.safetensors", "--no-normalize")
    assert ran.code == 0, ran.err
    np.testing.assert_allclose(delta_of(tmp_path / "sum.safetensors"), -2 * delta_of(pair[0]), rtol=1e-6)


def test_the_page_says_what_went_in_and_what_came_out(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ran = lora("merge", *pair, "-o", tmp_path / "sum.safetensors", "--rank", 2)
    assert ran.code == 0, ran.err
    for part in ("a.safetensors", "0.5", "by truncation", "layers that lose most", MODULE, "written"):
        assert part in ran.out


@pytest.mark.parametrize(
    ("weights", "options", "divided"),
    [(("0.7", "-0.3"), (), "by their sum, 0.4;"), (("0.7", "0.3"), (), None), (("2", "1"), ("--no-normalize",), None)],
)
def test_the_page_says_that_weights_were_divided(
    weights: tuple[str, str], options: tuple[str, ...], divided: str | None, pair: tuple[Path, Path]
) -> None:
    weighted = [f"{path}:{weight}" for path, weight in zip(pair, weights, strict=True)]
    ran = lora("merge", *weighted, "--dry-run", *options)
    assert ran.code == 0, ran.err
    assert ("divided" in ran.out) == (divided is not None)
    assert divided is None or divided in ran.out


def test_the_file_is_the_same_whether_or_not_its_hashes_are_shown(pair: tuple[Path, Path], tmp_path: Path) -> None:
    shown = tmp_path / "shown.safetensors"
    document = lora("merge", *pair, "-o", shown, "--rank", 2, "--json").json
    assert lora("merge", *pair, "-o", tmp_path / "page.safetensors", "--rank", 2).code == 0
    assert document["output"]["sha256"] == hashlib.sha256(shown.read_bytes()).hexdigest()
    assert (tmp_path / "page.safetensors").read_bytes() == shown.read_bytes()


def test_a_dry_run_writes_nothing_and_needs_no_output(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ran = lora("merge", *pair, "--dry-run", "--rank", 2, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["dry_run"] is True
    assert ran.json["relative_error"] > 0
    assert "output" not in ran.json
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]
    planned = ran.json["size_after"]
    lora("merge", *pair, "-o", tmp_path / "sum.safetensors", "--rank", 2)
    assert (tmp_path / "sum.safetensors").stat().st_size == planned


@pytest.mark.parametrize(
    "arguments", [["--rank", 1], ["--energy", 0.5], ["--error", 0.5], ["--size", "2.5kB"], ["--dtype", "fp16"]]
)
def test_every_way_to_shrink_the_sum_shrinks_it(
    arguments: list[object], pair: tuple[Path, Path], tmp_path: Path
) -> None:
    exact = lora("merge", *pair, "--dry-run", "--json").json["size_after"]
    ran = lora("merge", *pair, "-o", tmp_path / "sum.safetensors", *arguments, "--threads", 1)
    assert ran.code == 0, ran.err
    assert (tmp_path / "sum.safetensors").stat().st_size < exact


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{a}"], 2, "-o OUT"),
        (["{a}", "-o", "{out}", "--rank", "2", "--error", "0.1"], 2, "rank and error"),
        (["{a}", "-o", "{out}", "--rank", "0"], 2, "rank"),
        (["{a}", "-o", "{out}", "--energy", "1.5"], 2, "energy"),
        (["{a}", "-o", "{out}", "--error", "7"], 2, "fraction"),
        (["{a}", "-o", "{out}", "--size", "big"], 2, "no size"),
        (["{a}", "-o", "{out}", "--size", "10"], 2, "10 bytes"),
        (["{a}:nan", "-o", "{out}"], 2, "weight 1 is nan"),
        (["{a}:1", "{b}:-1", "-o", "{out}"], 2, "sum to 0"),
        (["{a}:0,7", "-o", "{out}"], 2, "no weight"),
        (["{a}", "{b}", "-o", "{a}", "--force"], 2, "the output is the input"),
        (["{a}", "{b}", "-o", "{folder}/sum.txt"], 2, "safetensors"),
        (["{a}", "{b}", "-o", "{folder}/none/sum.safetensors"], 1, "folder does not exist"),
        (["{a}", "{folder}/missing.safetensors", "-o", "{out}"], 1, "missing.safetensors"),
        (["{a}", "{b}", "-o", "{b2}"], 1, "--force"),
    ],
)
def test_bad_requests_end_with_their_code_and_write_nothing(
    arguments: list[str], code: int, message: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    existing = save(tmp_path / "b2.safetensors", adapters.lora(9))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    places = {"a": pair[0], "b": pair[1], "b2": existing, "folder": tmp_path, "out": tmp_path / "sum.safetensors"}
    ran = lora("merge", *(argument.format(**places) for argument in arguments))
    assert ran.code == code, ran.err
    assert message in ran.err.replace("\n", " ").replace("│", "")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_force_replaces_the_output(pair: tuple[Path, Path], tmp_path: Path) -> None:
    target = save(tmp_path / "old.safetensors", adapters.lora(9))
    assert lora("merge", *pair, "-o", target, "--force").code == 0
    with open_adapter(target) as adapter:
        assert list(adapter.layers) == [MODULE, adapters.CONV]


def test_the_command_works_as_a_process(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ran = lora_process("merge", *pair, "-o", tmp_path / "sum.safetensors", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json["layers_total"] == 2


# -- arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("a.safetensors", Weighted("a.safetensors", 1.0)),
        ("a.safetensors:0.7", Weighted("a.safetensors", 0.7)),
        ("a.safetensors:-1e-1", Weighted("a.safetensors", -0.1)),
        (r"C:\loras\a.safetensors", Weighted(r"C:\loras\a.safetensors", 1.0)),
        (r"C:\loras\a.safetensors:2", Weighted(r"C:\loras\a.safetensors", 2.0)),
        ("run:5/a.safetensors", Weighted("run:5/a.safetensors", 1.0)),
        ("run:5/a.safetensors:.5", Weighted("run:5/a.safetensors", 0.5)),
        (":0.5", Weighted(":0.5", 1.0)),
    ],
)
def test_a_path_may_hold_colons(argument: str, expected: Weighted) -> None:
    assert parse_weighted(argument) == expected


def test_a_file_that_is_there_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("step:500"), adapters.lora(1))
    assert os.path.exists("step:500")
    assert parse_weighted("step:500") == Weighted("step:500", 1.0)
    assert parse_weighted("step:500:0.5") == Weighted("step:500", 0.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("50MB", 50_000_000), ("1.5 GiB", 3 << 29), ("512k", 512_000), ("10", 10), (" .5mb ", 500_000), ("3B", 3)],
)
def test_sizes_are_read_as_people_write_them(text: str, expected: int) -> None:
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "MB", "5 TB", "-1MB", "1e3", "nan", "5MBs", "٥MB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no size"):
        bytes_of(text)


# -- methods -----------------------------------------------------------------------------------------


def test_methods_are_listed_for_people_and_for_programs() -> None:
    from lora_analysis.merging.methods import METHODS

    ran = lora("merge", "--list-methods")
    assert ran.code == 0
    assert all(name in ran.out for name in METHODS)
    document = lora("merge", "--list-methods", "--json").json
    assert [method["name"] for method in document["methods"]] == list(METHODS)


def test_a_method_and_its_parameters(pair: tuple[Path, Path], tmp_path: Path) -> None:
    ran = lora(
        "merge", *pair, "-o", tmp_path / "out.safetensors", "--method", "dare_ties",
        "--density", 0.4, "--seed", 7, "--lambda", 0.5, "--rank", 12, "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["method"] == "dare_ties"
    assert ran.json["options"]["parameters"]["seed"] == 7
    assert ran.json["options"]["parameters"]["lambda"] == 0.5
    again = lora(
        "merge", *pair, "-o", tmp_path / "other.safetensors", "--method", "dare_ties", "--density", 0.4, "--seed", 8
    )
    assert again.code == 0
    assert (tmp_path / "other.safetensors").read_bytes() != (tmp_path / "out.safetensors").read_bytes()


def test_block_and_pattern_weights(pair: tuple[Path, Path], tmp_path: Path) -> None:
    blocks = [1.0] * 26
    blocks[2] = 0.5  # IN01, where down_blocks.0.attentions.0 stands
    ran = lora(
        "merge", *pair, "-o", tmp_path / "out.safetensors", "--no-normalize",
        "--layer-weights", "1:" + ",".join(map(str, blocks)), "--layer-weights", "2:*conv*=0,*=-1",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    expected = 0.5 * delta_of(pair[0]) - delta_of(pair[1])
    np.testing.assert_allclose(delta_of(tmp_path / "out.safetensors"), expected, atol=1e-5)
    with open_adapter(tmp_path / "out.safetensors") as made:
        assert list(made.layers) == [MODULE]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "magic"], "no merge method is named"),
        (["--method", "slerp", "--density", "0.5"], "density has no meaning for slerp"),
        (["--method", "ties", "--density", "0"], "density is 0.0"),
        (["--method", "ties", "--threshold", "row"], "layer or global"),
        (["--method", "della", "--density", "0.1"], "probabilities"),
        (["--method", "concat", "--rank", "3"], "never truncated"),
        (["--svc-floor", "0.3"], "svc"),
        (["--layer-weights", "3:1,1"], "which of the 2 adapters"),
        (["--layer-weights", "1:1,1"], "12, 17, 20 or 26"),
        (["--layer-weights", "1:*nothing*=2"], "matches none"),
        (["--layer-weights", "1:*=much"], "no finite number"),
    ],
)
def test_bad_methods_and_parameters_end_before_any_work(
    arguments: list[str], message: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    ran = lora("merge", *pair, "-o", tmp_path / "out.safetensors", *arguments)
    assert ran.code == 2
    assert message in ran.err.replace("\n", " ")
    assert not (tmp_path / "out.safetensors").exists()
