"""``lora resize``: what it takes, prints, writes and returns."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from command import lora, lora_process
from interrupting import interrupted
from resizable import Case, Work, peft, values
from resizable import lora as pair


@pytest.fixture
def path(work: Work) -> Path:
    arrays = pair("lora_unet_a", 20, 24, 8) | pair("lora_unet_b", 20, 6, 8, kernel=(3, 3))
    return work.save(Case(arrays | {"lora_unet_n.w_norm": values(7)}))


def ranks(path: Path) -> list[int | None]:
    with la.open(path) as adapter:
        return [layer.rank for layer in adapter.layers.values() if layer.rank]


def test_a_dry_run_shows_the_plan_and_writes_nothing(path: Path, work: Work) -> None:
    ran = lora("resize", path, "--rank", "4", "--dry-run")
    assert ran.code == 0
    for words in ("2 of 3 change", "8 → 4", "of ‖Δ‖", "layers that lose most", "lora_unet_b", "norm difference"):
        assert words in ran.out
    assert work.names == [path.name]


def test_the_dry_run_predicts_the_file(path: Path, work: Work) -> None:
    target = work.folder / "out.safetensors"
    plan = lora("resize", path, "-o", target, "--energy", "0.9", "--dry-run", "--json").json
    assert not target.exists()
    done = lora("resize", path, "-o", target, "--energy", "0.9", "--json").json
    assert plan["schema"] == done["schema"] == "lora-analysis/resize/1"
    assert (plan["dry_run"], done["dry_run"]) == (True, False)
    assert plan["size_after"] == done["output"]["size"] == target.stat().st_size
    assert plan["rank_distribution"] == done["rank_distribution"]
    assert plan["relative_error"] == pytest.approx(done["relative_error_before_rounding"])
    assert done["path"] == str(path)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--rank", "4"], [4, 4]),
        (["--rank", "4", "--conv-rank", "2"], [4, 2]),
        (["--rank", "4", "--rank-for", "*_b=3", "--rank-for", "*_a=5"], [5, 3]),
        (["--rank", "12"], [12, 12]),
        (["--energy", "0.5", "--min-rank", "6"], [6, 6]),
        (["--energy", "1", "--max-rank", "2"], [2, 2]),
        (["--ratio", "1.0001"], [1, 1]),
        (["--sv-ratio", "1.0001"], [2, 2]),
        (["--rank", "4", "--method", "pad_truncate", "--dtype", "bf16", "--alpha", "baked"], [4, 4]),
    ],
)
def test_options_reach_the_file(options: list[str], expected: list[int], path: Path, work: Work) -> None:
    target = work.folder / "out.safetensors"
    ran = lora("resize", path, "-o", target, *options)
    assert (ran.code, ran.err) == (0, "")
    assert str(target) in ran.out
    assert ranks(target) == expected


@pytest.mark.parametrize(
    "options",
    [["--norm", ".9"], ["--sum", ".8"], ["--absolute", "1"], ["--layer-error", ".3"], ["--knee"], ["--size", "3kB"],
     ["--params", "600"], ["--error", ".2"], ["--recipe", "fro_lora=1,thr=-0.6"], ["--sv-fro", ".9"],
     ["--sv-cumulative", ".8"]],
    ids=lambda options: options[0],
)  # fmt: skip
def test_every_way_to_choose_ranks(options: list[str], path: Path, work: Work) -> None:
    ran = lora("resize", path, "-o", work.folder / "out.safetensors", *options, "--threads", "1")
    assert ran.code == 0, ran.err
    assert all(rank and rank < 8 for rank in ranks(work.folder / "out.safetensors"))


@pytest.mark.parametrize(
    "options",
    [
        [], ["--rank", "0"], ["--rank", "-2"], ["--rank", "nan"], ["--rank", "2.5"], ["--rank", "x"], ["--rank", "99"],
        ["--rank", "4", "--energy", ".9"], ["--energy", "7"], ["--size", "big"], ["--size", "10"], ["--error", "2"],
        ["--rank", "4", "--rank-for", "x"], ["--rank", "4", "--rank-for", "x=0"], ["--recipe", "x"],
        ["--rank", "4", "--dtype", "int8"], ["--rank", "8"], ["--rank", "4", "--threads", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_requests_that_make_no_sense_end_with_2(options: list[str], path: Path, work: Work) -> None:
    ran = lora("resize", path, "-o", work.folder / "out.safetensors", *options)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err
    assert work.names == [path.name]


def test_a_refused_rank_is_shown_as_it_was_typed(path: Path, work: Work) -> None:
    ran = lora("resize", path, "-o", work.folder / "out.safetensors", "--rank", "0")
    assert ran.err == "error: rank is 0; it must be a whole number of at least 1\n"


def test_an_output_has_to_be_named(path: Path) -> None:
    assert lora("resize", path, "--rank", "4").code == 2


def test_nothing_is_replaced_without_force_and_never_the_input(path: Path, work: Work) -> None:
    target = work.folder / "out.safetensors"
    assert lora("resize", path, "-o", target, "--rank", "4").code == 0
    ran = lora("resize", path, "-o", target, "--rank", "3")
    assert (ran.code, "--force" in ran.err) == (1, True)
    assert ranks(target) == [4, 4]
    assert lora("resize", path, "-o", target, "--rank", "3", "--force").code == 0
    assert ranks(target) == [3, 3]
    assert lora("resize", path, "-o", path, "--rank", "3", "--force").code == 2


def test_files_that_cannot_be_resized_end_with_1(work: Work) -> None:
    (work.folder / "empty.safetensors").write_bytes(b"")
    model = work.save(Case({"model.weight": values(4, 4)}))
    for source in (work.folder / "empty.safetensors", model, work.folder / "absent.safetensors"):
        ran = lora("resize", source, "-o", work.folder / "out.safetensors", "--rank", "2")
        assert (ran.code, ran.out) == (1, "")
        assert source.name in ran.err


def test_a_folder_as_output_keeps_the_name(path: Path, work: Work) -> None:
    (work.folder / "out").mkdir()
    assert lora("resize", path, "-o", work.folder / "out", "--rank", "4").code == 0
    assert os.listdir(work.folder / "out") == [path.name]
    assert lora("resize", path, "-o", f"{work.folder}/new/", "--rank", "4").code == 0
    assert os.listdir(work.folder / "new") == [path.name]


def many(work: Work) -> Path:
    """A file, an adapter folder, and a file that is none."""
    folder = work.folder / "many"
    folder.mkdir()
    inner = Work(folder, work._stack)
    inner.save(Case(peft("base_model.model.q", 20, 24, 8), None, {"peft_type": "LORA", "r": 8, "lora_alpha": 8}))
    inner.save(Case(pair("lora_unet_a", 20, 24, 8)))
    (folder / "broken.safetensors").write_bytes(b"x")
    return folder


def test_many_adapters_go_into_a_folder_and_one_failure_does_not_stop_the_rest(work: Work) -> None:
    folder, target = many(work), work.folder / "out"
    ran = lora("resize", folder, "-o", target, "--rank", "4")
    assert ran.code == 4
    assert "broken.safetensors" in ran.err
    assert sorted(os.listdir(target)) == ["adapter.safetensors", "input"]
    assert sorted(os.listdir(target / "input")) == ["adapter_config.json", "adapter_model.safetensors"]
    again = lora("resize", folder, "-o", target, "--rank", "3", "--force", "--json")
    adapters = again.json["adapters"]
    assert [("error" in adapter, adapter.get("layers_changed")) for adapter in adapters] == [
        (False, 1), (True, None), (False, 1),
    ]  # fmt: skip
    assert ranks(target / "input") == [3]


def test_two_inputs_of_one_name_are_refused_before_anything_is_written(path: Path, work: Work) -> None:
    (work.folder / "sub").mkdir()
    twin = work.folder / "sub" / path.name
    twin.write_bytes(path.read_bytes())
    ran = lora("resize", path, twin, "-o", work.folder / "out", "--rank", "4")
    assert (ran.code, "would both become" in ran.err) == (2, True)
    assert not (work.folder / "out").exists()


def test_names_from_a_file_cannot_steer_the_terminal(work: Work) -> None:
    path = work.save(Case(pair("lora_unet_\x1b[31m\u202e[bold]", 20, 24, 8)))
    for options in (["--dry-run"], ["--dry-run", "--json"], ["-o", work.folder / "out.safetensors"]):
        ran = lora("resize", path, "--rank", "3", *options)
        assert ran.code == 0
        assert not {"\x1b", "\u202e"} & set(ran.out + ran.err)
    assert "[bold]" in lora("resize", path, "--rank", "2", "--dry-run").out


def test_a_process_of_its_own_writes_json_and_nothing_else(path: Path, work: Work) -> None:
    ran = lora_process("resize", path, "-o", work.folder / "out.safetensors", "--rank", "4", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out)["layers_changed"] == 2


# -- Ctrl-C ------------------------------------------------------------------------------------------

INTERRUPTED = """
import sys, time
from lora_analysis.cli import main
from lora_analysis.resizing import writing
rewrite, calls = writing.rewrite, []
def slowly(*arguments):
    calls.append(1)
    if len(calls) == 4:  # the file is begun, two layers are in it
        print("begun", flush=True)
    time.sleep(0.2)
    return rewrite(*arguments)
writing.rewrite = slowly
sys.argv = ["lora", "resize", *sys.argv[1:], "--rank", "2", "--threads", "1", "--force"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process are different there")
@pytest.mark.parametrize("exists", [True, False])
def test_ctrl_c_ends_with_130_soon_and_leaves_what_was_there(exists: bool, work: Work) -> None:
    arrays: dict[str, np.ndarray] = {}
    for number in range(60):  # 12 seconds if nothing stopped it
        arrays |= pair(f"lora_unet_{number}", 20, 24, 8)
    source, target = work.save(Case(arrays)), work.folder / "out.safetensors"
    if exists:
        target.write_bytes(b"old")
    before = work.names
    ended = interrupted(INTERRUPTED, str(source), "-o", str(target))
    assert ended.seconds < 5.0  # 0.2 to 0.4 seconds on a machine that does nothing else
    assert (ended.code, ended.err) == (130, "interrupted: no unfinished file is left\n")
    assert work.names == before
    assert not exists or target.read_bytes() == b"old"
