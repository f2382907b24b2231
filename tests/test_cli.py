"""The ``lora`` command: exit codes, shapes of its answers, what goes where."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from command import Ran, lora, lora_process
from lora_analysis import __version__
from lora_analysis.cli import build_app
from lora_analysis.cli.exits import ERROR_CODES, Exit, code_for_many, exit_code
from lora_analysis.cli.inputs import resolve
from lora_analysis.cli.inspect import SCHEMA
from lora_analysis.cli.looking import PARALLEL_FROM, Options, _in_order, look_at_all
from lora_analysis.cli.many import line_of
from lora_analysis.errors import (
    CancelledError,
    FileAccessError,
    HeaderError,
    LoraAnalysisError,
    MissingExtraError,
    OptionError,
)

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = {"file_info", "model_info", "training_info", "architecture_info", "validation_info", "adapter"}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def sdxl(demo_library: Path) -> Path:
    return demo_library / "sdxl-character-kohya.safetensors"


@pytest.fixture
def damaged(demo_library: Path) -> Path:
    return demo_library / "trouble/damaged-download.safetensors"


@pytest.fixture
def numeric_metadata(tmp_path: Path) -> Path:
    """Readable, but against the specification: a metadata value is a number."""
    header = {
        "__metadata__": {"ss_network_dim": 1, "ss_output_name": "shown all the same"},
        "lora_unet_a.lora_down.weight": {"dtype": "F16", "shape": [1, 2], "data_offsets": [0, 4]},
        "lora_unet_a.lora_up.weight": {"dtype": "F16", "shape": [2, 1], "data_offsets": [4, 8]},
    }
    raw = json.dumps(header).encode()
    path = tmp_path / "numeric.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 8)
    return path


# -- exit codes --------------------------------------------------------------------------------------


def test_every_exit_code_of_the_table_is_returned(
    sdxl: Path, damaged: Path, numeric_metadata: Path, demo_library: Path, tmp_path: Path
) -> None:
    orphan = demo_library / "trouble/orphan-factor.safetensors"
    empty = tmp_path / "empty"
    empty.mkdir()
    table = [
        (0, ["inspect", sdxl]),
        (0, ["inspect", orphan]),  # warnings do not make a file invalid
        (0, ["inspect", sdxl, orphan]),
        (0, ["check", sdxl]),
        (0, ["version"]),
        (0, ["--version"]),
        (0, ["--help"]),
        (1, ["inspect", damaged]),
        (1, ["inspect", tmp_path / "absent.safetensors"]),
        (1, ["inspect", numeric_metadata]),
        (1, ["inspect", damaged, tmp_path / "absent.safetensors"]),  # all of many
        (1, ["inspect", tmp_path / "*.gguf"]),  # matches nothing
        (1, ["demo", numeric_metadata]),  # a file where the folder should be
        (2, ["inspect"]),
        (2, ["inspect", sdxl, "--no-such-option"]),
        (2, ["inspect", sdxl, "--json", "--jsonl"]),
        (2, ["inspect", sdxl, "--format", "html"]),
        (2, ["inspekt"]),
        (3, ["check", orphan]),
        (3, ["check", damaged]),
        (3, ["check", sdxl, numeric_metadata]),
        (4, ["inspect", sdxl, damaged]),
        (4, ["inspect", sdxl, tmp_path / "*.gguf", empty]),  # nothing there is no reason to leave the others out
        (4, ["inspect", sdxl, numeric_metadata, "--jsonl"]),
        (4, ["inspect", demo_library, "--json"]),
    ]
    found = [(lora(*arguments).code, arguments) for _, arguments in table]
    assert found == table


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HeaderError("x"), Exit.FAILURE),
        (FileAccessError("x"), Exit.FAILURE),
        (OptionError("x"), Exit.USAGE),
        (MissingExtraError("x", extra="plot"), Exit.MISSING_EXTRA),
        (CancelledError("x"), Exit.INTERRUPTED),
    ],
)
def test_errors_map_to_exit_codes(error: LoraAnalysisError, code: Exit) -> None:
    assert exit_code(error) == code


def test_the_table_ends_with_the_root_so_that_every_error_has_a_code() -> None:
    assert ERROR_CODES[-1] == (LoraAnalysisError, Exit.FAILURE)


@pytest.mark.parametrize(("codes", "expected"), [("00", 0), ("01", 4), ("11", 1), ("51", 1), ("", 0)])
def test_the_code_for_many(codes: str, expected: int) -> None:
    assert code_for_many([Exit(int(code)) for code in codes]) == expected


def test_an_error_goes_to_stderr_in_one_line_that_names_the_file(damaged: Path) -> None:
    ran = lora("inspect", damaged)
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert damaged.name in ran.err
    assert "cut off" in ran.err
    assert ran.err.count("\n") == 1


def test_an_invalid_file_is_shown_and_complained_about(numeric_metadata: Path) -> None:
    ran = lora("inspect", numeric_metadata)
    assert ran.code == 1
    assert "shown all the same" in ran.out
    assert numeric_metadata.name in ran.err


# -- JSON --------------------------------------------------------------------------------------------


def test_one_adapter_as_json_is_its_blocks_with_the_schema(sdxl: Path) -> None:
    document = lora("inspect", sdxl, "--json").json
    assert document["schema"] == SCHEMA
    assert document["path"] == str(sdxl)
    assert document.keys() >= BLOCKS
    assert document["architecture_info"]["algorithm"] == "lora"


def test_many_as_json_are_a_list_also_where_only_one_came_of_it(sdxl: Path, demo_library: Path, tmp_path: Path) -> None:
    shutil.copy(sdxl, tmp_path)
    document = lora("inspect", tmp_path, "--json").json
    assert document["schema"] == SCHEMA
    assert [entry["path"] for entry in document["adapters"]] == [str(tmp_path / sdxl.name)]
    assert len(lora("inspect", demo_library, "--json").json["adapters"]) == 16


def test_a_bad_file_among_many_is_one_entry_with_its_error(sdxl: Path, damaged: Path) -> None:
    ran = lora("inspect", damaged, sdxl, "--json")
    bad, good = ran.json["adapters"]
    assert bad.keys() == {"path", "error"}
    assert bad["error"].keys() >= {"type", "code", "message"}
    assert good["validation_info"]["is_valid"]
    assert damaged.name in ran.err


def test_one_bad_file_as_json_is_a_document_with_the_error(damaged: Path) -> None:
    ran = lora("inspect", damaged, "--json")
    assert ran.json["schema"] == SCHEMA
    assert ran.json["error"]["code"] == "header"
    assert damaged.name in ran.err


def test_jsonl_is_one_document_per_line_in_the_order_asked_for(demo_library: Path, sdxl: Path, damaged: Path) -> None:
    paths = [sdxl, damaged, demo_library / "llama-chat-peft"]
    lines = lora("inspect", *paths, "--jsonl").out.splitlines()
    documents = [json.loads(line) for line in lines]
    assert [document["path"] for document in documents] == [str(path) for path in paths]
    assert {document["schema"] for document in documents} == {SCHEMA}


def test_layers_are_listed_when_asked_for(sdxl: Path) -> None:
    document = lora("inspect", sdxl, "--json", "--layers").json
    assert len(document["layers"]) == document["architecture_info"]["layers"] == 80
    assert {layer["scale"] for layer in document["layers"]} == {0.5}
    assert "layers" not in lora("inspect", sdxl, "--json").json
    assert "lora_unet_middle_block_1_transformer_blocks_1_attn2_to_v" in lora("inspect", sdxl, "--layers").out


def test_hash_and_scan_read_the_whole_file(sdxl: Path) -> None:
    file = lora("inspect", sdxl, "--json", "--hash", "--scan").json["file_info"]
    assert file["autov2"].lower() == file["sha256"][:10].lower()
    assert "sha256" not in lora("inspect", sdxl, "--json").json["file_info"]


def test_a_file_name_that_is_no_utf8_still_gives_strict_json(sdxl: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.safetensors"
    try:
        shutil.copy(sdxl, name)
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    ran = lora("inspect", os.fsdecode(name), "--json")
    assert ran.code == 0
    assert ran.json["path"].endswith("caf\\udce9.safetensors")
    assert lora("inspect", os.fsdecode(name)).code == 0


def test_check_as_json_lists_findings(demo_library: Path) -> None:
    document = lora("check", demo_library / "trouble", "--json").json
    assert document["schema"] == "lora-analysis/check/1"
    codes = [[finding["code"] for finding in entry["findings"]] for entry in document["adapters"]]
    assert codes == [["header"], ["orphan-factor"], ["base-disagrees"]]
    assert document["problems"] == 3


def test_check_counts_from_the_severity_asked_for(demo_library: Path) -> None:
    orphan = demo_library / "trouble/orphan-factor.safetensors"
    assert lora("check", orphan, "--severity", "error").code == 0
    assert lora("check", orphan, "--severity", "info").code == 3


def test_doctor_as_json_names_what_is_installed_and_how_to_add_the_rest() -> None:
    document = lora("doctor", "--json").json
    assert document["packages"]["numpy"]
    for name, extra in document["extras"].items():
        assert extra["installed"] == (extra["install"] is None)
        assert extra["installed"] or extra["install"] == f"pip install 'lora-analysis[{name}]'"


# -- for reading -------------------------------------------------------------------------------------


def test_the_page_of_one_adapter_says_what_matters(sdxl: Path) -> None:
    out = lora("inspect", sdxl).out
    for words in (
        "sdxl-character-kohya.safetensors  1.73 MB",
        "kohya · lora · Stable Diffusion XL",
        "Pepper the witch",
        "1–8, mostly 4",
        "scale 0.5",
        "unet 60, text_encoder 12, text_encoder_2 8",
        "step 1,640 of 2,050, epoch 8 of 10",
        "AdamW8bit, lr 0.0001",
        "102 images, 1,020 with repeats, 1024×1024",
        "1girl 96 · solo 63",
        "nothing odd found",
    ):
        assert words in out
    assert all(line == line.rstrip() for line in out.splitlines())


def test_all_tags_are_shown_when_asked_for(sdxl: Path) -> None:
    assert "v-shaped eyebrows" not in lora("inspect", sdxl).out
    assert "v-shaped eyebrows 1" in lora("inspect", sdxl, "--tags").out


def test_a_conflict_about_the_base_is_shown(demo_library: Path) -> None:
    out = lora("inspect", demo_library / "trouble/wrong-base.safetensors").out
    assert "tensors say Stable Diffusion 1.x, the header says Stable Diffusion XL" in out


def test_the_table_has_a_row_for_every_adapter(demo_library: Path) -> None:
    out = lora("inspect", demo_library).out
    for path in resolve([str(demo_library)]).paths:
        assert os.path.relpath(path, demo_library) in out
    assert "16 adapters, 1 not readable" in out


def test_markdown_for_one_and_for_many(sdxl: Path, demo_library: Path) -> None:
    assert lora("inspect", sdxl, "--format", "md").out.startswith("# sdxl")
    lines = lora("inspect", demo_library, "--format", "md").out.splitlines()
    assert len(lines) == 2 + 16
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {10}


def test_strings_from_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = "[bold red]\x1b[31m\x07\u202e[/] :smile: \x9b"
    header = {"__metadata__": {"ss_output_name": hostile, "ss_tag_frequency": json.dumps({"a": {hostile: 1}})}}
    header |= {
        f"lora_unet_{hostile}.lora_{half}.weight": {"dtype": "F16", "shape": shape, "data_offsets": offsets}
        for half, shape, offsets in (("down", [1, 2], [0, 4]), ("up", [2, 1], [4, 8]))
    }
    raw = json.dumps(header).encode()
    path = tmp_path / "[red]x.safetensors"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 8)
    for options in ([], ["--layers", "--tags"], ["--format", "table"], ["--format", "md"], ["--json"], ["--jsonl"]):
        ran = lora("inspect", path, *options)
        assert not CONTROL.search(ran.out + ran.err), options
    assert "[bold red]\\x1b[31m" in lora("inspect", path).out
    assert ":smile:" in lora("inspect", path).out
    assert "[red]x.safetensors" in lora("inspect", path).out


def test_a_pipe_gets_no_colour_and_no_progress(sdxl: Path) -> None:
    ran = lora_process("inspect", sdxl, "--hash")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert ran.err == ""


def test_no_color_is_respected_where_colour_is_forced(sdxl: Path) -> None:
    assert "\x1b[1m" in lora_process("inspect", sdxl, FORCE_COLOR="1").out
    plain = lora_process("inspect", sdxl, FORCE_COLOR="1", NO_COLOR="1").out
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain)


# -- inputs ------------------------------------------------------------------------------------------


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_folders_are_searched_for_adapters_and_nothing_else(tmp_path: Path) -> None:
    wanted = ["a.safetensors", "b.PT", "sub/c.gguf", "sub/deeper/d.ckpt", "e.pth", "f.bin"]
    unwanted = ["readme.md", ".hidden.safetensors", ".cache/x.safetensors", "picture.png"]
    touch(*(tmp_path / name for name in wanted + unwanted))
    touch(
        tmp_path / "peft/adapter_config.json",
        tmp_path / "peft/adapter_model.safetensors",
        tmp_path / "peft/optimizer.pt",
    )
    touch(tmp_path / "peft/checkpoint-5/adapter_config.json", tmp_path / "peft/checkpoint-5/optimizer.pt")
    found = [os.path.relpath(path, tmp_path) for path in resolve([str(tmp_path)]).paths]
    assert sorted(found) == sorted([*wanted, "peft", "peft/checkpoint-5"])


def test_a_peft_folder_is_one_adapter(demo_library: Path) -> None:
    folder = str(demo_library / "llama-chat-peft")
    inputs = resolve([folder])
    assert (inputs.paths, inputs.many) == ((folder,), False)


def test_patterns_are_expanded_and_each_file_comes_once(tmp_path: Path) -> None:
    touch(tmp_path / "a.safetensors", tmp_path / "sub/b.safetensors")
    pattern = str(tmp_path / "**" / "*.safetensors")
    inputs = resolve([pattern, str(tmp_path / "a.safetensors"), str(tmp_path)])
    assert [os.path.basename(path) for path in inputs.paths] == ["a.safetensors", "b.safetensors"]
    assert inputs.many


def test_a_file_whose_name_looks_like_a_pattern_is_taken_as_it_is(tmp_path: Path) -> None:
    touch(tmp_path / "x[1].safetensors")
    assert not resolve([str(tmp_path / "x[1].safetensors")]).many


def test_a_search_skips_what_is_no_regular_file_and_says_so(tmp_path: Path) -> None:
    touch(tmp_path / "a.safetensors")
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    (tmp_path / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(tmp_path / "pipe.safetensors")
    inputs = resolve([str(tmp_path)])
    assert [os.path.basename(path) for path in inputs.paths] == ["a.safetensors"]
    assert [os.path.basename(path) for path in inputs.skipped] == ["loop.safetensors", "pipe.safetensors"]
    assert lora("inspect", tmp_path).err.count("note: ") == 2


def test_an_empty_folder_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    ran = lora("inspect", tmp_path)
    assert ran.code == 1
    assert ".safetensors" in ran.err


def test_many_files_are_inspected_in_worker_processes_in_order(sdxl: Path, damaged: Path) -> None:
    paths = [str(damaged if index == 7 else sdxl) for index in range(PARALLEL_FROM + 15)]
    results = list(look_at_all(paths, Options(), condense=line_of, workers=2))
    assert [json.loads(result.text)["path"] for result in results] == paths
    assert [index for index, result in enumerate(results) if result.code != Exit.OK] == [7]


def test_while_no_worker_has_begun_this_process_does_the_work() -> None:
    waiting: list[Future[int]] = [Future() for _ in range(4)]
    assert waiting[2].set_running_or_notify_cancel()
    waiting[2].set_result(-2)
    done: list[int] = []
    assert list(_in_order(waiting, lambda index: done.append(index) or index)) == [0, 1, -2, 3]  # type: ignore[func-returns-value]
    assert done == [0, 1, 3]


def test_where_the_workers_are_gone_this_process_does_the_rest() -> None:
    broken: list[Future[int]] = [Future() for _ in range(3)]
    for future in broken:
        assert future.set_running_or_notify_cancel()
        future.set_exception(BrokenProcessPool())
    assert list(_in_order(broken, lambda index: index)) == [0, 1, 2]


def test_what_a_worker_raises_is_raised_here() -> None:
    failed: Future[int] = Future()
    assert failed.set_running_or_notify_cancel()
    failed.set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        list(_in_order([failed], lambda index: index))


# -- help, demo, version -----------------------------------------------------------------------------

COMMANDS = [command.callback.__name__ for command in build_app().registered_commands if command.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_an_entry_in_the_documentation(command: str) -> None:
    ran = lora(command, "--help")
    assert ran.code == 0
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    _, _, section = page.partition(f"\n## lora {command}\n")
    section = section.partition("\n## ")[0]
    assert section, f"docs/cli.md has no section 'lora {command}'"
    options = set(re.findall(r"(?<![\w-])--[a-z-]+", ran.out)) - {"--help", "--no-force"}
    assert {option for option in options if option not in section} == set()


def test_the_command_alone_shows_help() -> None:
    ran: Ran = lora()
    assert "lora inspect adapter.safetensors" in ran.out + ran.err


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments: list[str]) -> None:
    assert lora(*arguments).out == f"lora-analysis {__version__}\n"


def test_demo_writes_a_library_and_replaces_it_only_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    ran = lora("demo", folder)
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 16
    assert all(Path(line).exists() for line in ran.out.splitlines())
    assert lora("demo", folder).code == 1
    assert lora("demo", folder, "--force").code == 0


def test_the_module_and_the_command_are_the_same() -> None:
    assert lora_process("--version").out == f"lora-analysis {__version__}\n"
