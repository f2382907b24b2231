"""Inspecting files: the blocks of the document, disagreements, exports, and inputs that are no adapters."""

from __future__ import annotations

import asyncio
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from layouts import SHARED, needs_shared
from lora_analysis.errors import CancelledError, FileAccessError, OptionError
from lora_analysis.inspection.modules import short_name
from lora_analysis.json_ready import json_ready
from lora_analysis.metadata import LoraMetadataExtractor, inspect
from sources import adapter_of

BLOCKS = {"file_info", "model_info", "training_info", "architecture_info", "validation_info", "adapter"}
Q, K = (
    "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_q",
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
)
HEADER = {
    "ss_network_module": "networks.lora",
    "ss_network_dim": "4",
    "ss_network_alpha": "2.0",
    "ss_steps": "10",
    "ss_epoch": "1",
    "ss_num_epochs": "2",
    "ss_learning_rate": "1e-4",
    "ss_optimizer": "torch.optim.AdamW(weight_decay=0.1)",
    "ss_tag_frequency": '{"img": {"1girl": 9, "a|b": 2}}',
    "ss_training_comment": "red \x1b[31malert\x1b[0m\nnext line",
    "ss_output_name": "sample",
}

Arrays = dict[str, Any]


def module(name: str, *, rank: int = 4, out: int = 16, alpha: float | None = 2.0) -> Arrays:
    random = np.random.default_rng(1)
    arrays: Arrays = {
        f"{name}.lora_up.weight": random.standard_normal((out, rank)).astype(np.float16),
        f"{name}.lora_down.weight": random.standard_normal((rank, 12)).astype(np.float16),
    }
    return arrays if alpha is None else {**arrays, f"{name}.alpha": np.array(alpha, np.float32)}


def save(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> Path:
    safetensors.numpy.save_file(arrays, path, dict(metadata or {}))
    return path


def save_raw(path: Path, arrays: Arrays, metadata: Mapping[str, Any]) -> Path:
    """As other tools write it: metadata that is not text, which safetensors itself refuses."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    data = b""
    for name, array in arrays.items():
        dtype = {"float16": "F16", "float32": "F32"}[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    document = json.dumps(header).encode()
    document += b" " * (-len(document) % 8)
    path.write_bytes(struct.pack("<Q", len(document)) + document + data)
    return path


def extract(path: Any, **options: Any) -> dict[str, Any]:
    return asyncio.run(LoraMetadataExtractor().extract_metadata(path, **options))


def codes(document: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in document["validation_info"]["findings"]]


def assert_strict_json(document: dict[str, Any]) -> None:
    text = json.dumps(document, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode("utf-8")) == document


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(tmp_path / "sample.safetensors", {**module(Q), **module(K)}, HEADER)


# -- the document --------------------------------------------------------------------------------------


def test_a_document_has_every_block_and_the_facts_in_them(file: Path) -> None:
    found = extract(file)
    assert found.keys() >= BLOCKS
    assert found["extraction_time"].endswith("Z")
    assert found["file_info"]["filename"] == "sample.safetensors"
    assert found["file_info"]["file_size_mb"] == pytest.approx(file.stat().st_size / 1e6, abs=1e-6)
    assert found["file_info"]["file_extension"] == ".safetensors"
    assert found["model_info"]["model_name"] == "sample"
    assert (found["model_info"]["network_rank"], found["model_info"]["network_alpha"]) == (4, 2.0)
    assert found["model_info"]["all_metadata"] == HEADER
    training = found["training_info"]
    assert (training["trainer"], training["training_method"]) == ("kohya sd-scripts", "lora")
    assert (training["steps"], training["epochs"], training["learning_rate"]) == (10, 2, 1e-4)
    assert (training["optimizer"], training["optimizer_args"]) == ("AdamW", {"weight_decay": 0.1})
    assert training["tag_frequencies"] == {"1girl": 9, "a|b": 2}
    assert found["validation_info"] == {"is_valid": True, "errors": [], "warnings": [], "findings": []}
    assert_strict_json(found)


def test_the_tensors_are_described_layer_by_layer(tmp_path: Path) -> None:
    arrays = {**module(Q, rank=8, alpha=8.0), **module(K, rank=4, alpha=8.0), **module(Q + "_2", rank=8, alpha=4.0)}
    found = extract(save(tmp_path / "a.safetensors", arrays))
    architecture = found["architecture_info"]
    assert (architecture["rank"], architecture["rank_range"]) == (8, {"min": 4, "max": 8, "mode": 8})
    assert architecture["rank_distribution"] == {"4": 1, "8": 2}
    assert (architecture["alpha"], architecture["alpha_distribution"]) == (8.0, {"4": 1, "8": 2})
    assert architecture["components"] == {"unet": 2, "text_encoder": 1}
    assert architecture["text_encoders"] == ["text_encoder"]
    assert (architecture["dtypes"], architecture["layer_kinds"]) == ({"F16": 3}, {"lora": 3})
    assert architecture["target_modules"] == ["mlp_fc1", "to_q", "to_q_2"]
    short = found["adapter"]
    assert (short["algorithm"], short["dialect"], short["layers"]) == ("lora", "kohya", 3)
    assert (short["rank"], short["alpha"], short["dora"], short["opaque"]) == (
        architecture["rank_range"],
        8.0,
        False,
        0,
    )
    assert short["parameters"] == sum(array.size for array in arrays.values())


def test_digests_are_computed_when_asked_for_only(file: Path) -> None:
    assert "sha256" not in extract(file)["file_info"]
    info = extract(file, hash=True)["file_info"]
    assert (info["autov2"], len(info["autov3"])) == (info["sha256"][:10], 12)
    assert info["sshs_model_hash"].startswith(info["autov3"])


def test_a_folder_is_inspected_as_one_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    arrays = {
        f"{name}.lora_A.weight": np.ones((4, 16), np.float32),
        f"{name}.lora_B.weight": np.ones((16, 4), np.float32),
    }
    save(folder / "adapter_model.safetensors", arrays, {"format": "pt"})
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    found = extract(f"{folder}/", hash=True)
    assert (found["file_info"]["filename"], found["file_info"]["files"]) == ("adapter", ["adapter_model.safetensors"])
    assert (found["training_info"]["trainer"], found["model_info"]["stated"]["scale"]) == ("PEFT", 2.0)
    assert found["model_info"]["adapter_config"] == config
    assert found["architecture_info"]["scale_origins"] == {"config": 1}
    assert found["file_info"]["size_bytes" if "size_bytes" in found["file_info"] else "file_size_bytes"] > 0
    assert len(found["file_info"]["sha256"]) == 64
    assert found["validation_info"]["is_valid"]


def test_reading_headers_loads_no_numpy(file: Path) -> None:
    program = (
        "import sys, lora_analysis; lora_analysis.inspect(sys.argv[1], hash=True).to_dict(); "
        "sys.exit('numpy' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "app")}
    assert subprocess.run([sys.executable, "-c", program, str(file)], env=environment, check=False).returncode == 0


# -- disagreements and gaps ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "changes", "code"),
    [
        (module(Q, rank=8), {}, "rank-disagrees"),
        (module(Q), {"ss_network_dim": "Dynamic"}, None),
        (module(Q, rank=8), {"ss_network_args": '{"block_dims": "8,8"}'}, None),
        ({**module(Q), **module(Q + "_2"), **module(K, rank=8)}, {}, None),
        (module(Q, alpha=1.0), {}, "alpha-disagrees"),
        (module(Q, alpha=4.0), {}, None),  # 2 * sqrt(4): rank-stabilised
        (module(Q, alpha=1.0), {"ss_network_alpha": "0"}, None),
        (module(Q, alpha=1.0), {"ss_network_alpha": "None"}, None),
        (module(Q, alpha=None), {}, "missing-alpha"),
    ],
)
def test_the_tensors_win_and_a_warning_says_so(
    tmp_path: Path, arrays: Arrays, changes: dict[str, str], code: str | None
) -> None:
    found = extract(save(tmp_path / "a.safetensors", arrays, {**HEADER, **changes}))
    assert codes(found) == ([] if code is None else [code])
    assert len(found["validation_info"]["warnings"]) == (code is not None)
    assert found["validation_info"]["is_valid"]
    rank = arrays[f"{Q}.lora_down.weight"].shape[0]
    assert found["model_info"]["network_rank"] == rank
    assert found["model_info"]["stated"]["network_dim"] == ("Dynamic" if "ss_network_dim" in changes else 4)


def test_a_header_that_names_another_base_is_contradicted(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    arrays = {
        f"{name}.lora_up.weight": np.ones((9216, 2), np.float16),
        f"{name}.lora_down.weight": np.ones((2, 3072), np.float16),
        f"{name}.alpha": np.array(2.0, np.float32),
    }
    header = {"ss_base_model_version": "sdxl_base_v1-0", "ss_network_module": "networks.lora"}
    found = extract(save(tmp_path / "a.safetensors", arrays, header))
    assert "base-disagrees" in codes(found)
    assert found["adapter"]["base_model"] != "sdxl"
    assert found["architecture_info"]["base_model"]["from_header"] == "sdxl"
    assert found["architecture_info"]["base_model"]["family"] == found["adapter"]["base_model"]


def test_a_stale_digest_is_found_when_hashing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", module(Q), {**HEADER, "sshs_model_hash": "d" * 64})
    assert codes(extract(path)) == []
    assert codes(extract(path, hash=True)) == ["hash-stale"]


def test_broken_modules_are_errors_and_the_rest_is_described(tmp_path: Path) -> None:
    arrays = {**module(Q), f"{K}.lora_up.weight": np.ones((8, 3), np.float16), f"{K}.lora_down.weight": np.ones((2, 8))}
    found = extract(save(tmp_path / "a.safetensors", arrays))
    assert "shape-mismatch" in codes(found)
    assert not found["validation_info"]["is_valid"]
    assert found["adapter"]["layers"] == 1
    assert "error" not in found


def test_a_file_without_layers_has_no_target_modules(tmp_path: Path) -> None:
    found = extract(save(tmp_path / "a.safetensors", {"something.weight": np.ones((2, 2), np.float32)}))
    assert "missing-target-modules" in codes(found)
    assert (found["adapter"]["layers"], found["adapter"]["rank"]) == (0, None)
    assert found["adapter"]["unrecognised_keys"] == ["something.weight"]


def test_metadata_that_is_no_text_is_read_and_is_an_error(tmp_path: Path) -> None:
    header = {"ss_network_alpha": 2, "ss_learning_rate": 1e-4, "ss_seed": None, "nested": {"a": [1, 2.5]}}
    found = extract(save_raw(tmp_path / "a.safetensors", module(Q), header))
    assert "metadata-not-strings" in codes(found)
    assert not found["validation_info"]["is_valid"]
    assert found["training_info"]["learning_rate"] == 1e-4
    assert found["model_info"]["all_metadata"]["nested"] == {"a": [1, 2.5]}


# -- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16])
def test_nan_and_infinity_are_counted_per_tensor(dtype: Any) -> None:
    from lora_analysis.inspection.values_scan import scan_values

    arrays = {name: np.asarray(array, dtype) for name, array in {**module(Q), **module(K)}.items()}
    arrays[f"{K}.lora_up.weight"] = arrays[f"{K}.lora_up.weight"].copy()
    arrays[f"{K}.lora_up.weight"][0, :2] = (np.nan, -np.inf)
    calls: list[tuple[int, int]] = []
    found = scan_values(adapter_of(arrays), progress=lambda done, total: calls.append((done, total)))
    assert [(finding.code, finding.layer) for finding in found] == [("non-finite", K)]
    assert "2 of 64 values" in found[0].message
    assert calls[-1] == (sum(array.nbytes for array in arrays.values()),) * 2


def test_values_are_read_when_asked_for_only(tmp_path: Path) -> None:
    arrays = module(Q)
    arrays[f"{Q}.lora_up.weight"][3, 1] = np.inf
    path = save(tmp_path / "a.safetensors", arrays)
    assert extract(path)["validation_info"]["is_valid"]
    found = extract(path, scan_values=True)
    assert codes(found) == ["non-finite"]
    assert not found["validation_info"]["is_valid"]


def test_an_alpha_that_is_infinite_leaves_the_document_strict(tmp_path: Path) -> None:
    found = extract(save(tmp_path / "a.safetensors", module(Q, alpha=float("inf"))))
    assert_strict_json(found)
    assert found["architecture_info"]["alpha_distribution"] == {"inf": 1}


def test_progress_counts_over_both_passes_and_cancelling_stops(file: Path) -> None:
    calls: list[tuple[int, int]] = []
    inspect(file, hash=True, scan_values=True, progress=lambda done, total: calls.append((done, total)))
    fractions = [done / total for done, total in calls]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert any(0.4 < fraction <= 0.5 for fraction in fractions)
    with pytest.raises(CancelledError):
        inspect(file, hash=True, cancel=lambda: True)


def test_a_cancelled_task_stops_its_thread(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {f"t{i}": np.zeros(10, np.float32) for i in range(2_000)})
    reached = []

    async def run() -> None:
        def slow(done: int, total: int) -> None:
            reached.append(done)
            time.sleep(0.01)

        task = asyncio.create_task(LoraMetadataExtractor().extract_metadata(path, scan_values=True, progress=slow))
        while not reached:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())  # waits for the thread: 20 s if it were not stopped
    assert len(reached) < 1_000


# -- inputs that are no adapters ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "a\0b", None, 17, "absent.safetensors", b"absent.safetensors", "/dev/null"])
def test_no_path_raises_and_the_shape_is_kept(path: Any) -> None:
    found = extract(path, hash=True, scan_values=True)
    assert found.keys() >= BLOCKS
    assert not found["validation_info"]["is_valid"]
    assert found["validation_info"]["errors"] == [found["error"]["message"]]
    assert found["error"]["code"] in ("option", "file-access", "header")
    assert_strict_json(found)


def test_what_the_file_system_knows_is_told_of_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not an adapter at all")
    found = extract(path)
    assert found["file_info"]["file_size_bytes"] == 21
    assert found["file_info"]["modified_time"].endswith("Z")
    assert found["error"]["type"] == "HeaderError"
    assert found.keys() - {"error"} == extract(save(tmp_path / "ok.safetensors", module(Q))).keys()


def test_the_synchronous_function_raises_typed_errors() -> None:
    with pytest.raises(FileAccessError):
        inspect("absent.safetensors")
    with pytest.raises(OptionError):
        inspect(17)  # type: ignore[arg-type]


def test_a_file_name_that_is_no_unicode_is_spelled_out(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/na\xffme.safetensors"
    save(Path(os.fsdecode(name)), module(Q))
    found = extract(name)
    assert found["file_info"]["filename"] == r"na\udcffme.safetensors"
    assert found["validation_info"]["is_valid"]
    assert_strict_json(found)
    missing = extract(os.fsencode(tmp_path) + b"/\xfe.safetensors")
    assert missing["file_info"]["filename"] == r"\udcfe.safetensors"


@needs_shared
def test_hostile_files_end_in_a_document(tmp_path: Path) -> None:
    maker = [sys.executable, str(SHARED / "make_hostile.py"), str(tmp_path)]
    subprocess.run(maker, check=True, capture_output=True)
    extractor = LoraMetadataExtractor()
    for case in json.loads((tmp_path / "manifest.json").read_text()):
        found = asyncio.run(extractor.extract_metadata(tmp_path / case["file"], hash=True, scan_values=True))
        assert_strict_json(found)
        validation = found["validation_info"]
        outcome = "error" if not validation["is_valid"] else "warning" if validation["warnings"] else "ok"
        expected = {case["expect"], *case.get("also_ok", ())}
        if case["expect"] == "ok":  # a remark about an ordinary file is a matter of taste, refusing it is not
            expected.add("warning")
        assert outcome in expected, case["file"]
        text = asyncio.run(extractor.format_metadata_for_printing(found))
        assert all(character.isprintable() or character == "\n" for character in text), case["file"]
    assert not list(tmp_path.glob("PWNED*"))


# -- printing and exports ----------------------------------------------------------------------------------


def printed(document: Any) -> str:
    return asyncio.run(LoraMetadataExtractor().format_metadata_for_printing(document))


def export(document: Any, path: Any, format: str | None = None) -> dict[str, Any]:  # noqa: A002
    return asyncio.run(LoraMetadataExtractor().export_metadata(document, path, format))


def test_printed_text_escapes_control_characters_and_cuts_long_values(tmp_path: Path) -> None:
    header = {**HEADER, "note": "x" * 5_000, **{f"\x1b]0;{i}\x07": "y" for i in range(2)}}
    text = printed(extract(save(tmp_path / "a.safetensors", module(Q), header)))
    assert "\x1b" not in text
    assert r"red \x1b[31malert\x1b[0m\x0anext line" in text
    assert "(5,000 characters)" in text
    assert max(map(len, text.splitlines())) < 400


def test_twenty_tags_are_printed_of_many(tmp_path: Path) -> None:
    tags = json.dumps({"img": {f"tag{i:03}": 1_000 - i for i in range(300)}})
    text = printed(extract(save(tmp_path / "a.safetensors", module(Q), {**HEADER, "ss_tag_frequency": tags})))
    section = text.partition("Tags (the first 20 of 300)\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert len(section) == 20
    assert section[0].split() == ["tag000", "1,000"]


@pytest.mark.parametrize(
    "document", [{}, {"file_info": 3, "validation_info": {"errors": "x"}}, None, [1], {"model_info": {1: 2}}]
)
def test_documents_of_any_shape_are_printed(document: Any) -> None:
    assert isinstance(printed(document), str)


def test_json_exports_are_the_document(file: Path, tmp_path: Path) -> None:
    document = extract(file)
    result = export(document, tmp_path / "out.json")
    assert result == {"ok": True, "path": str(tmp_path / "out.json"), "format": "json"}
    assert json.loads((tmp_path / "out.json").read_bytes()) == document


def test_json_exports_are_strict_whatever_the_document_holds(tmp_path: Path) -> None:
    deep: Any = 0
    for _ in range(5_000):
        deep = [deep]
    odd = {"nan": float("nan"), "half": "\ud800", "huge": 10**5_000, "deep": deep, 3: {1, 2}}
    assert export(odd, tmp_path / "out.json")["ok"]
    read = json.loads((tmp_path / "out.json").read_bytes())
    assert (read["nan"], read["huge"], read["half"]) == (None, None, r"\ud800")


def test_text_and_markdown_exports_follow_the_suffix(file: Path, tmp_path: Path) -> None:
    document = extract(file)
    assert export(document, tmp_path / "out.txt")["format"] == "text"
    assert (tmp_path / "out.txt").read_text() == printed(document).rstrip("\n") + "\n"
    assert export(document, tmp_path / "out.md")["format"] == "markdown"
    assert export(document, tmp_path / "unsuffixed", "markdown")["ok"]


def test_markdown_cells_cannot_break_out_of_their_table(tmp_path: Path) -> None:
    header = {**HEADER, "evil": "a | b\n\n# title <script> [x](http://y) `z` ![i](j)"}
    export(extract(save(tmp_path / "a.safetensors", module(Q), header)), tmp_path / "out.md")
    (row,) = [line for line in (tmp_path / "out.md").read_text().splitlines() if line.startswith("| evil")]
    bare = row.replace(r"\|", "").replace(r"\<", "").replace(r"\[", "").replace(r"\`", "").replace(r"\!", "")
    assert bare.count("|") == 3
    assert not {"<", "[", "`", "!"} & set(bare)
    assert "://" not in bare


@pytest.mark.parametrize("name", ["out.yaml", "out", "out.safetensors", "adapter_config.json", "model.index.json"])
def test_no_export_takes_the_place_of_an_adapter_or_of_an_unknown_format(tmp_path: Path, name: str) -> None:
    result = export({"file_info": {}}, tmp_path / name)
    assert (result["ok"], result["error"]["code"]) == (False, "option")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["renamed.json", "renamed.md"])
def test_an_adapter_under_any_name_is_not_overwritten(file: Path, tmp_path: Path, name: str) -> None:
    disguised = file.rename(tmp_path / name)
    before = disguised.read_bytes()
    result = export(extract(disguised), disguised)
    assert not result["ok"]
    assert disguised.read_bytes() == before


def test_an_older_export_is_replaced_and_its_folder_left_clean(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")
    assert export(extract(file), target)["ok"]
    assert json.loads(target.read_text())["file_info"]["filename"] == "sample.safetensors"
    assert {path.name for path in tmp_path.iterdir()} == {"out.json", "sample.safetensors"}


def test_a_new_export_follows_the_umask(file: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export(extract(file), tmp_path / "out.json")
    finally:
        os.umask(before)
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o640


def test_an_export_that_cannot_be_written_is_an_error_not_an_exception(file: Path, tmp_path: Path) -> None:
    document = extract(file)
    for target in (tmp_path / "absent" / "out.json", tmp_path, "", None):
        assert export(document, target, "json")["error"]["code"] in ("output", "option")
    assert export("no document", tmp_path / "out.json")["error"]["code"] == "option"
    assert export(document, tmp_path / "out.json", "yaml")["error"]["code"] == "option"


def test_the_named_exports_are_the_general_one(file: Path, tmp_path: Path) -> None:
    extractor, document = LoraMetadataExtractor(), extract(file)
    for helper, name in (
        (extractor.export_to_json, "json"),
        (extractor.export_to_text, "text"),
        (extractor.export_to_markdown, "markdown"),
    ):
        assert asyncio.run(helper(document, tmp_path / f"out-{name}"))["format"] == name


# -- small parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k", "to_k"),
        ("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_out_0", "to_out_0"),
        ("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_ff_net_0_proj", "ff_net_0_proj"),
        ("lora_unet_down_blocks_0_downsamplers_0_conv", "conv"),
        ("lora_te1_text_model_encoder_layers_11_self_attn_out_proj", "out_proj"),
        ("lora_te2_encoder_block_0_layer_0_SelfAttention_k", "SelfAttention_k"),
        ("lora_unet_double_blocks_0_img_attn_qkv", "img_attn_qkv"),
        ("lora_unet_single_blocks_37_linear1", "linear1"),
        ("lora_unet_final_layer_linear", "final_layer_linear"),
        ("lora_unet__layers_0_attention_to_k", "to_k"),
        ("transformer.single_transformer_blocks.3.attn.to_q", "to_q"),
        ("transformer.transformer_blocks.0.attn.to_out.0", "to_out.0"),
        ("base_model.model.model.layers.0.self_attn.q_proj", "q_proj"),
        ("unet:12", "unet"),
        ("", ""),
    ],
)
def test_a_layer_has_a_short_name(layer: str, expected: str) -> None:
    assert short_name(layer) == expected


def test_json_ready_keeps_plain_values() -> None:
    plain = {"a": [1, 2.5, None, True, "é"], "b": {"c": []}}
    assert json_ready(plain) == plain


def test_two_hundred_adapters_are_inspected_in_a_second_per_core_times_two(file: Path) -> None:
    inspect(file)
    best = min(_seconds(file) for _ in range(10))
    assert best < 0.01  # 0.7 ms on a free core: two layers; what remains of 10 ms is for large headers


def _seconds(path: Path) -> float:
    start = time.perf_counter()
    inspect(path).to_dict()
    return time.perf_counter() - start
