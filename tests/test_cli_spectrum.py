"""``lora spectrum``: what it prints, in which order, and the exit codes."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import oracle
from command import lora, lora_process
from interrupting import interrupted
from lora_analysis.cli.complaints import MAX_COMPLAINTS
from lora_analysis.cli.spectrum import SCHEMA, TABLE_ROWS
from lora_analysis.cli.spectrum_view import CURVE_WIDTH, decay_curve

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def pair(name: str, size: float = 1.0, rank: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(name))
    return {
        f"{name}.lora_down.weight": (size * rng.standard_normal((rank, 20))).astype(np.float32),
        f"{name}.lora_up.weight": rng.standard_normal((24, rank)).astype(np.float32),
        f"{name}.alpha": np.float32(rank),
    }


def saved(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return saved(tmp_path / "two.safetensors", {**pair("lora_unet_mid_block_x"), **pair("lora_te_layers_0_y", 9.0)})


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    arrays = {**pair("lora_unet_sound"), **pair("lora_unet_bad")}
    arrays["lora_unet_bad.lora_up.weight"][0, 0] = np.nan
    return saved(tmp_path / "flawed.safetensors", arrays)


# -- exit codes -----------------------------------------------------------------------------------------


def test_exit_codes(two: Path, flawed: Path, demo_library: Path, tmp_path: Path) -> None:
    opaque = demo_library / "llama-ia3-peft"
    exists = tmp_path / "exists.npz"
    exists.write_bytes(b"kept")
    table = [
        (0, [two]),
        (0, [two, "--json"]),
        (0, [two, "--csv"]),
        (0, [two, "--npz", tmp_path / "new.npz"]),
        (0, [two, "--layer", "lora_te_*", "--layer", "*mid*", "--sort", "stable", "--top", 1, "--threads", 1]),
        (0, [demo_library / "trouble/orphan-factor.safetensors"]),
        (0, [flawed, "--layer", "*sound"]),
        (1, [flawed]),
        (1, [flawed, "--json"]),
        (1, [flawed, "--csv"]),
        (1, [opaque]),
        (1, [tmp_path / "absent.safetensors"]),
        (1, [demo_library / "trouble/damaged-download.safetensors"]),
        (1, [demo_library]),
        (1, [two, "--npz", exists]),
        (2, []),
        (2, [two, two]),
        (2, [two, "--json", "--csv"]),
        (2, [two, "--json", "--npz", tmp_path / "other.npz"]),
        (2, [two, "--layer", "nothing*"]),
        (2, [two, "--sort", "size"]),
        (2, [two, "--top", "-1"]),
        (2, [two, "--threads", "0"]),
        (2, [two, "--npz", tmp_path / "two.csv"]),
    ]
    found = [(lora("spectrum", *arguments).code, arguments) for _, arguments in table]
    assert found == table
    assert exists.read_bytes() == b"kept"
    assert not (tmp_path / "other.npz").exists()


def test_a_layer_of_nan_is_named_and_the_others_are_shown(flawed: Path) -> None:
    ran = lora("spectrum", flawed)
    assert ran.err == "error: lora_unet_bad: up holds 1 NaN or infinite of 72 values\n"
    assert "lora_unet_sound" in ran.out
    assert "lora_unet_bad" not in ran.out
    document = lora("spectrum", flawed, "--json").json
    assert [layer["name"] for layer in document["layers"]] == ["lora_unet_sound"]
    assert [(layer["name"], layer["code"]) for layer in document["skipped"]] == [("lora_unet_bad", "non-finite")]


def test_many_bad_layers_do_not_flood_the_terminal(tmp_path: Path) -> None:
    arrays = {key: array for i in range(30) for key, array in pair(f"lora_unet_{i}").items()}
    arrays = {key: np.full_like(array, np.inf) if "down" in key else array for key, array in arrays.items()}
    ran = lora("spectrum", saved(tmp_path / "bad.safetensors", arrays))
    lines = ran.err.splitlines()
    assert len(lines) == MAX_COMPLAINTS + 2
    assert lines[-2] == "error: 20 more layers without a spectrum, see --json"
    assert "no layer has a spectrum; 30 of 30: down holds 60 NaN" in lines[-1]
    assert ran.code == 1


def test_an_adapter_without_a_delta_says_why(demo_library: Path) -> None:
    ran = lora("spectrum", demo_library / "llama-ia3-peft")
    assert "no layer has a spectrum; 66 of 66: IA3 multiplies the base weight" in ran.err
    assert "66 layers: IA3 multiplies the base weight" in ran.out


# -- for people -----------------------------------------------------------------------------------------


def names(text: str) -> list[str]:
    return re.findall(r"^ *(lora_\w+) ", text, re.MULTILINE)


def test_the_table_is_sorted_by_norm_and_sums_up_by_component(two: Path) -> None:
    ran = lora("spectrum", two)
    assert names(ran.out) == ["lora_te_layers_0_y", "lora_unet_mid_block_x"]
    assert ran.out.startswith("two.safetensors  2 spectra, ‖Δ‖ ")
    assert re.search(r"text_encoder +1 .*%", ran.out)
    assert re.search(r"unet +1 .*%", ran.out)
    assert "█" in ran.out
    assert ran.err == ""
    assert names(lora("spectrum", two, "--sort", "file").out) == ["lora_te_layers_0_y", "lora_unet_mid_block_x"]
    assert names(lora("spectrum", two, "--sort", "name", "--layer", "*unet*").out) == ["lora_unet_mid_block_x"]


def test_the_summary_can_be_by_block(two: Path) -> None:
    out = lora("spectrum", two, "--by", "block").out
    assert "text_encoder layers.0" in out
    assert "unet mid_block" in out


def test_a_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    arrays = {key: array for i in range(50) for key, array in pair(f"lora_unet_{i}", 1 + i).items()}
    path = saved(tmp_path / "long.safetensors", arrays)
    ran = lora("spectrum", path)
    assert len(names(ran.out)) == TABLE_ROWS
    assert "… 10 more layers, in order of norm; --top 0 shows all" in ran.out
    assert re.search(r"unet +50 ", ran.out)
    assert len(names(lora("spectrum", path, "--top", 0).out)) == 50
    assert len(names(lora("spectrum", path, "--top", 7).out)) == 7
    assert len(lora("spectrum", path, "--json").json["layers"]) == 50
    assert len(lora("spectrum", path, "--csv").out.splitlines()) == 51
    assert len(lora("spectrum", path, "--csv", "--top", 7).out.splitlines()) == 8


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([1.0], "█"),
        ([1.0, 0.5, 0.1, 0.011, 0.01, 1e-9, 0.0], "█▇▄▁▁▁ "),
        ([4.0] * 100, "█" * CURVE_WIDTH),
        ([0.0, 0.0], ""),
        ([], ""),
        (np.logspace(0.0, -2.0, 1001), "██▇▆▆▅▄▃▃▂▁▁"),
    ],
)
def test_a_curve_shows_the_decay(values: list[float], curve: str) -> None:
    assert decay_curve(np.array(values)) == curve


def test_dora_and_vectors_are_pointed_out(demo_library: Path) -> None:
    assert (
        "DoRA: these are spectra of the delta" in lora("spectrum", demo_library / "sdxl-portrait-dora.safetensors").out
    )
    out = lora("spectrum", demo_library / "sd15-clothing-locon.safetensors").out
    assert "no spectrum: 2 layers: a norm difference is no matrix" in out


# -- for programs ---------------------------------------------------------------------------------------


def test_json_holds_the_singular_values_in_the_order_of_the_file(two: Path) -> None:
    document = lora("spectrum", two, "--json").json
    assert document["schema"] == SCHEMA == "lora-analysis/spectrum/1"
    assert document["path"] == str(two)
    assert [layer["name"] for layer in document["layers"]] == ["lora_te_layers_0_y", "lora_unet_mid_block_x"]
    arrays = pair("lora_te_layers_0_y", 9.0)
    delta = oracle.low_rank(arrays["lora_te_layers_0_y.lora_up.weight"], arrays["lora_te_layers_0_y.lora_down.weight"])
    expected = oracle.singular_values(delta)[:3]
    np.testing.assert_allclose(document["layers"][0]["singular_values"], expected, rtol=1e-5)


def test_csv_and_npz_agree_with_json(two: Path, tmp_path: Path) -> None:
    layers = lora("spectrum", two, "--json", "--sort", "norm").json["layers"]
    rows = list(csv.DictReader(io.StringIO(lora("spectrum", two, "--csv", "--sort", "norm").out)))
    target = tmp_path / "out.npz"
    ran = lora("spectrum", two, "--npz", target, "--sort", "norm")
    assert (ran.out, ran.err) == ("", f"done: {target}: 2 spectra written\n")
    assert [row["layer"] for row in rows] == [layer["name"] for layer in layers]
    assert [float(row["stable_rank"]) for row in rows] == [layer["stable_rank"] for layer in layers]
    with np.load(target, allow_pickle=False) as found:
        np.testing.assert_array_equal(
            found["singular_values"], np.concatenate([layer["singular_values"] for layer in layers])
        )
    assert lora("spectrum", two, "--npz", target, "--force").code == 0


def test_an_input_is_never_the_output(two: Path) -> None:
    link = two.with_suffix(".npz")
    link.symlink_to(two)
    before = two.read_bytes()
    ran = lora("spectrum", link, "--npz", link, "--force")
    assert ran.code == 2
    assert "the output is the input" in ran.err
    assert two.read_bytes() == before


def test_one_thread_and_two_give_the_same_bytes(demo_library: Path) -> None:
    path = demo_library / "sdxl-style-lokr.safetensors"
    assert lora("spectrum", path, "--json", "--threads", 1).out == lora("spectrum", path, "--json", "--threads", 2).out


# -- hostile and impatient ------------------------------------------------------------------------------


HOSTILE = ["[bold red]x[/]", "a\x1b[2J\x1b]0;title\x07", "b\u202egnp.exe", "=cmd|' /C calc'!A0", "c\nd\te", ":warning:"]


def test_names_from_the_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    arrays = {key: array for name in HOSTILE for key, array in pair(name).items()}
    broken = {"\x1b[31mbroken.lora_down.weight": np.ones((2, 6), np.float32)}
    nan = {**pair("nan\x1b[5m"), "nan\x1b[5m.lora_up.weight": np.full((24, 3), np.nan, np.float32)}
    path = saved(tmp_path / "hostile.safetensors", {**arrays, **broken, **nan})
    for form in ([], ["--by", "block"], ["--csv"], ["--json"]):
        ran = lora("spectrum", path, *form)
        assert ran.code == 1
        assert not CONTROL.search(ran.out + ran.err), form
    table = lora("spectrum", path).out
    assert "[bold red]x[/]" in table
    assert ":warning:" in table
    assert "a\\x1b[2J" in table
    document = lora("spectrum", path, "--json").json
    assert sorted(layer["name"] for layer in document["layers"]) == sorted(HOSTILE)
    rows = list(csv.reader(io.StringIO(lora("spectrum", path, "--csv").out)))
    assert all(not row[0].startswith(("=", "+", "-", "@")) for row in rows)
    assert len({len(row) for row in rows}) == 1


def test_a_pipe_gets_no_progress_and_no_colour(two: Path) -> None:
    ran = lora_process("spectrum", two)
    assert ran.code == 0
    assert ran.err == ""
    assert "\x1b" not in ran.out


INTERRUPTED = """
import sys, time
from lora_analysis.cli import main
from lora_analysis.spectra import layer
read = layer.read_spectra
def slowly(errors, group):
    print("begun", flush=True)
    time.sleep(0.3)
    return read(errors, group)
layer.read_spectra = slowly
sys.argv = ["lora", "spectrum", sys.argv[1], "--threads", "1"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a child process are different there")
def test_ctrl_c_ends_with_130_and_without_a_traceback(demo_library: Path) -> None:
    path = demo_library / "sdxl-character-kohya.safetensors"  # 80 layers: 24 seconds if nothing stopped it
    ended = interrupted(INTERRUPTED, str(path))
    assert ended.code == 130
    assert "Traceback" not in ended.err
