"""The file a resize leaves: its bytes, header and configuration, where it goes, and that nothing else changed."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import lora_analysis as la
from faults import debris
from lora_analysis.errors import CancelledError, OptionError, OutputError
from lora_analysis.formats.adapter_config import configured_alpha, configured_rank
from lora_analysis.formats.adapter_output import place_for, write_adapter
from lora_analysis.formats.dtypes import BITS
from lora_analysis.formats.layout import TensorPlan
from lora_analysis.resizing.configuration import ranks_and_alphas
from lora_analysis.resizing.plan import LayerPlan
from resizable import CASES, KOHYA, PEFT, Case, Work, alpha, lora, peft, values

HISTORY = "lora_analysis.history"


def history(adapter: la.Adapter) -> list[dict[str, Any]]:
    return json.loads(adapter.metadata[HISTORY])


def state(path: Path) -> list[tuple[str, bytes, int, int]]:
    """Names, bytes, times and modes of a file or of everything in a folder."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [(str(file), file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_mode) for file in files]


def mixed() -> Case:
    """Layers that change, layers that do not, and tensors that belong to none, in an order of their own."""
    arrays = lora("lora_unet_b", 20, 24, 8, dtype=np.float16) | alpha("lora_unet_b", 4, np.float16)
    arrays |= {"bundle_emb.x.string_to_param.*": values(3, 5, dtype=np.float64), "lora_unet_n.w_norm": values(7)}
    arrays |= lora("lora_unet_a", 20, 24, 2, dtype=ml_dtypes.bfloat16) | alpha("lora_unet_a", 1, ml_dtypes.bfloat16)
    arrays |= {
        "lora_unet_o.oft_blocks": values(4, 5, 5, dtype=ml_dtypes.float8_e5m2),
        "odd": np.arange(5, dtype=np.uint8),
    }
    metadata = {"ss_network_dim": "8", "ss_training_comment": "mine", "modelspec.title": "t"}
    return Case(arrays, metadata)


# -- bytes -------------------------------------------------------------------------------------------


def test_what_is_not_resized_keeps_its_bytes_and_its_order(work: Work) -> None:
    old, new, report = work.resized(mixed(), energy=0.9, max_rank=4)
    changed = {"lora_unet_b.lora_down.weight", "lora_unet_b.lora_up.weight", "lora_unet_b.alpha"}
    assert {name for layer in report.plan.changed for name in (tensor.name for tensor in layer.tensors)} == changed
    for name in old.source.tensors.keys() - changed:
        assert new.source.raw(name) == old.source.raw(name)
        assert new.source.tensors[name][:2] == old.source.tensors[name][:2]
    # alpha is float32 now, so it comes before the 16-bit tensors; the rest of each width is in the input's order
    bits = [BITS[info.dtype] for info in new.source.tensors.values()]
    assert bits == sorted(bits, reverse=True)
    assert all(info.offset % (BITS[info.dtype] // 8) == 0 for info in new.source.tensors.values())
    for dtype in ("F16", "BF16"):
        names = [name for name in old.source.tensors if new.source.tensors[name].dtype == dtype]
        assert names == [name for name, info in new.source.tensors.items() if info.dtype == dtype]


@pytest.mark.parametrize("name", ["linear fp16", "linear bf16", "linear fp8", "tucker", "lokr whole", "bias beside"])
def test_the_safetensors_library_reads_what_is_written(name: str, work: Work) -> None:
    safetensors = pytest.importorskip("safetensors")
    _, new, report = work.resized(name, rank=3)
    with safetensors.safe_open(report.written.path, "np") as file:
        assert set(file.keys()) == set(new.source.tensors)
        assert file.metadata() == dict(new.metadata)


def test_torch_loads_mixed_widths(work: Work) -> None:
    torch = pytest.importorskip("torch")
    load = pytest.importorskip("safetensors.torch").load_file
    old, _, report = work.resized(mixed(), energy=0.9)
    tensors = load(report.written.path)
    found = tensors["lora_unet_a.lora_up.weight"].to(torch.float32).numpy()
    np.testing.assert_array_equal(found, old.source.array("lora_unet_a.lora_up.weight").astype(np.float32))


@pytest.mark.parametrize(
    "asked", [{"rank": 3}, {"energy": 0.9}, {"error": 0.1, "dtype": "bf16"}, {"size": 5000}], ids=str
)
def test_the_same_request_gives_the_same_bytes_on_one_and_two_threads(asked: dict[str, Any], work: Work) -> None:
    arrays = {key: array for i in range(6) for key, array in lora(f"lora_unet_{i}", 20, 24, 8).items()}
    path = work.save(Case(arrays))
    files = {work.resize(path, f"{i}.safetensors", workers=i, **asked).written.sha256 for i in (1, 2, 3)}
    assert len(files) == 1


@pytest.mark.parametrize("name", ["linear", "peft", "mlx"])
def test_inputs_are_as_they_were(name: str, work: Work) -> None:
    path = work.save(name)
    before = state(path)
    target = work.folder / ("out" if path.is_dir() else "out.safetensors")
    la.resize(path, target, rank=3)
    with pytest.raises(OutputError):
        la.resize(path, target, rank=2)
    assert state(path) == before


# -- the header --------------------------------------------------------------------------------------


def test_documented_keys_change_and_all_others_stay(work: Work) -> None:
    metadata = {
        "ss_network_dim": "8",
        "ss_network_alpha": "4",
        "ss_network_args": json.dumps({"conv_dim": "8", "conv_alpha": "1", "algo": "locon"}),
        "sshs_model_hash": "0" * 64,
        "sshs_legacy_hash": "0" * 8,
        "modelspec.hash_sha256": "0x" + "0" * 64,
        "modelspec.title": "kept",
        "ss_tag_frequency": "{}",
    }
    arrays = lora("lora_unet_a", 20, 24, 8) | alpha("lora_unet_a", 4) | lora("lora_unet_c", 20, 6, 8, kernel=(3, 3))
    _, new, report = work.resized(Case(arrays, metadata), rank=4, conv_rank=2)
    found = dict(new.metadata)
    data = Path(report.written.path).read_bytes()
    data = data[8 + struct.unpack("<Q", data[:8])[0] :]
    assert found["sshs_model_hash"] == hashlib.sha256(data).hexdigest()
    assert found["modelspec.hash_sha256"] == "0x" + hashlib.sha256(data).hexdigest()
    assert found["sshs_legacy_hash"] not in ("0" * 8, "?" * 8)
    assert (found["ss_network_dim"], found["ss_network_rank"], found["ss_network_alpha"]) == ("4", "4", "2")
    assert json.loads(found["ss_network_args"]) == {"conv_dim": "2", "conv_alpha": "2", "algo": "locon"}
    assert found["lora_analysis.operation"] == "resize"
    assert {key: found[key] for key in ("modelspec.title", "ss_tag_frequency")} == {
        "modelspec.title": "kept",
        "ss_tag_frequency": "{}",
    }
    added = {"ss_network_rank", "lora_analysis.operation", HISTORY}
    assert found.keys() == metadata.keys() | added


def test_ranks_that_differ_are_called_dynamic(work: Work) -> None:
    arrays = lora("lora_unet_a", 20, 24, 8) | lora("lora_unet_b", 20, 24, 8)
    _, new, _ = work.resized(Case(arrays), rank=4, rank_for={"*_b": 3})
    assert new.metadata["ss_network_dim"] == new.metadata["ss_network_alpha"] == "Dynamic"


def test_lycoris_is_told_what_its_layers_became(work: Work) -> None:
    metadata = {"ss_network_args": json.dumps({"algo": "loha", "preset": "full"})}
    _, new, _ = work.resized(Case(CASES["loha"].arrays, metadata), rank=3)
    assert json.loads(new.metadata["ss_network_args"]) == {"algo": "lora", "preset": "full"}


def test_every_operation_is_recorded_with_what_it_was_done_to(work: Work) -> None:
    path = work.save("linear")
    first = work.resize(path, "first.safetensors", rank=6)
    second = work.resize(work.folder / "first.safetensors", "second.safetensors", energy=0.9, max_rank=3)
    records = history(work.open(second.written.path))
    assert [record["operation"] for record in records] == ["resize", "resize"]
    assert records[0]["options"]["rule"] == {"name": "fixed", "value": 6}
    assert records[1]["options"] | {"rule": 0} == {
        "method": "svd", "dtype": "keep", "alpha": "keep-scale", "rule": 0, "max_rank": 3,
    }  # fmt: skip
    assert records[1]["inputs"] == [
        {"name": "first.safetensors", "size": first.written.size, "sha256": first.written.data_sha256}
    ]
    assert str(work.folder) not in json.dumps(records)


def test_a_history_that_cannot_be_read_is_not_passed_on_as_it_is(work: Work) -> None:
    _, new, _ = work.resized(Case(CASES["linear"].arrays, {HISTORY: "[" * 5000}), rank=3)
    assert [record.get("unreadable", record.get("operation")) for record in history(new)] == [True, "resize"]


def test_one_alpha_for_the_whole_file_stays_true_for_layers_that_are_kept(work: Work) -> None:
    arrays = peft("diffusion_model.a", 20, 24, 8) | peft("diffusion_model.b", 20, 24, 2)
    old, new, _ = work.resized(Case(arrays, {"lora_alpha": "4"}), energy=0.8)
    assert new.metadata["lora_alpha"] == "4"
    for name, layer in old.layers.items():
        before, after = la.materialise(layer), la.materialise(new.layers[name])
        assert np.linalg.norm(after - before) <= 0.5 * np.linalg.norm(before)
        assert new.layers[name].scale == 4 / (new.layers[name].rank or 1)


def test_diffusers_reads_ranks_and_alphas_from_the_header(work: Work) -> None:
    arrays = peft("unet.a.to_q", 20, 24, 8) | peft("unet.b.to_q", 20, 24, 8, seed=9)
    header = {"lora_adapter_metadata": json.dumps({"unet.r": 8, "unet.lora_alpha": 4, "unet.target_modules": ["to_q"]})}
    _, new, _ = work.resized(Case(arrays, header), rank=4, rank_for={"*.b.*": 3})
    assert json.loads(new.metadata["lora_adapter_metadata"]) == {
        "unet.r": 4, "unet.lora_alpha": 2, "unet.target_modules": ["to_q"],
        "unet.rank_pattern": {"b.to_q": 3}, "unet.alpha_pattern": {"b.to_q": 1.5},
    }  # fmt: skip
    assert {layer.scale for layer in new.layers.values()} == {0.5}


# -- the configuration ---------------------------------------------------------------------------------


def test_peft_gets_its_ranks_and_keeps_the_rest_of_its_configuration(work: Work) -> None:
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "revision": None, "x": [1]}
    other = PEFT.replace("q_proj", "v_proj")
    arrays = peft(PEFT, 20, 24, 8) | peft(other, 20, 24, 8, seed=9)
    _, new, _ = work.resized(Case(arrays, None, config), rank=4, rank_for={"*v_proj": 2})
    assert json.loads((work.folder / "output/adapter_config.json").read_text()) == config | {
        "r": 4, "lora_alpha": 8,
        "rank_pattern": {other.removeprefix("base_model.model."): 2},
        "alpha_pattern": {other.removeprefix("base_model.model."): 4},
    }  # fmt: skip
    assert [finding.code for finding in new.findings] == []


@pytest.mark.parametrize("name", ["peft loha", "peft lokr", "adalora", "merged linear"])
def test_configurations_of_other_methods_become_loras(name: str, work: Work) -> None:
    work.resized(name, rank=3)
    config = json.loads((work.folder / "output/adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert config["r"] == 3
    assert not {"alpha", "target_r"} & config.keys()
    assert config.get("enable_lora") is None


@pytest.mark.parametrize("policy", ["keep-scale", "rank", "baked"])
def test_mlx_scales_as_it_is_told(policy: str, work: Work) -> None:
    _, new, _ = work.resized("mlx", rank=3, alpha=policy)
    assert new.config is not None
    assert new.config["lora_parameters"] == {"rank": 3, "scale": 20.0 if policy == "keep-scale" else 1.0}


def test_patterns_find_each_module_its_own_rank() -> None:
    """Also where one name ends in another, or holds characters that mean something in a pattern."""
    ranks = {"fc": 2, "a.fc": 4, "b.fc": 4, "c.a.fc": 3, "x [second]": 5, "y": 4, "z": 4}
    plans = {n: LayerPlan(n, "lora", "truncate", 8, rank, scale=0.5 * rank) for n, rank in ranks.items()}
    config = ranks_and_alphas({}, plans)
    assert {name: configured_rank(config, name) for name in ranks} == ranks
    assert {name: configured_alpha(config, name) for name in ranks} == {n: 0.5 * r * r for n, r in ranks.items()}


# -- where it goes -------------------------------------------------------------------------------------


def test_a_peft_adapter_becomes_a_folder_or_replaces_its_two_files(work: Work) -> None:
    path = work.save("peft")
    report = work.resize(path, "out", rank=4)
    assert report.written.path == str(work.folder / "out/adapter_model.safetensors")
    assert sorted(os.listdir(work.folder / "out")) == ["adapter_config.json", "adapter_model.safetensors"]
    (work.folder / "out/README.md").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        work.resize(path, "out", rank=3)
    work.resize(path, "out", rank=3, overwrite=True)
    assert {layer.rank for layer in work.open(work.folder / "out").layers.values()} == {3}
    assert (work.folder / "out/README.md").read_text() == "mine"


def test_a_peft_adapter_can_be_named_by_its_weights_file_only_if_peft_finds_it(work: Work) -> None:
    path = work.save("peft")
    (work.folder / "other").mkdir()
    work.resize(path / "adapter_model.safetensors", "other/adapter_model.safetensors", rank=4)
    assert sorted(os.listdir(work.folder / "other")) == ["adapter_config.json", "adapter_model.safetensors"]
    with pytest.raises(OptionError, match=r"name a folder, or the file .*adapter_model.safetensors"):
        work.resize(path, "small.safetensors", rank=4)


def test_a_file_cannot_become_a_folder(work: Work) -> None:
    with pytest.raises(OptionError, match="the output name must end in"):
        work.resize(work.save("linear"), "out", rank=4)


OWN_NAMES = [
    "{path}",
    "{path}/",
    "linked",
    "{path}/adapter_model.safetensors",
    "{path}/pytorch_lora_weights.safetensors",
]


@pytest.mark.parametrize("target", OWN_NAMES)
def test_the_input_is_never_the_output_under_any_name(target: str, work: Work) -> None:
    path = work.save("peft")
    (work.folder / "linked").symlink_to(path)
    before = state(path)
    with pytest.raises(OptionError, match="the output is the input"):
        la.resize(path, work.folder / target.format(path=path), rank=3, overwrite=True)
    assert state(path) == before


def test_hard_links_to_the_input_are_the_input(work: Work) -> None:
    path = work.save("linear")
    os.link(path, work.folder / "link.safetensors")
    with pytest.raises(OptionError, match="the output is the input"):
        work.resize(path, "link.safetensors", rank=3, overwrite=True)


@pytest.mark.parametrize("asked", [{"rank": 3}, {"energy": 0.9}], ids=str)
@pytest.mark.parametrize("name", ["linear", "peft"])
def test_missing_and_read_only_folders_are_told_before_the_work(name: str, asked: Any, work: Work) -> None:
    path = work.save(name)
    out = "out" if path.is_dir() else "out.safetensors"
    with pytest.raises(OutputError, match="the folder does not exist"):
        work.resize(path, f"absent/{out}", **asked)
    if os.getuid():  # root may write anywhere
        (work.folder / "locked").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="no permission"):
            work.resize(path, f"locked/{out}", **asked)


def test_a_pytorch_checkpoint_is_written_where_the_name_says_so(work: Work) -> None:
    torch = pytest.importorskip("torch")
    path = work.save("linear fp16")
    report = work.resize(path, "out.pt", rank=3)
    assert "sshs_model_hash" in report.written.dropped_metadata
    found = torch.load(report.written.path, weights_only=True)
    twin = work.open(work.resize(path, "out.safetensors", rank=3).written.path)
    assert list(found) == list(twin.source.tensors)
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.numpy(), twin.source.array(name))


def test_a_scale_that_only_the_header_knows_is_not_lost_in_a_checkpoint(work: Work) -> None:
    path = work.save("bare header alpha")
    with pytest.raises(OptionError, match="stands in the header"):
        work.resize(path, "out.pt", rank=3)
    assert work.names == [path.name]


def test_a_scale_that_is_baked_needs_no_header(work: Work) -> None:
    path = work.save("diffusers header")
    report = work.resize(path, "out.pt", rank=8, alpha="baked", dtype="fp32")
    old, new = work.open(path), work.open(report.written.path)
    for name, layer in old.layers.items():
        np.testing.assert_allclose(la.materialise(new.layers[name]), la.materialise(layer), rtol=1e-5, atol=1e-7)


# -- whole or not at all -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linear", "peft"])
def test_a_cancelled_resize_leaves_nothing(name: str, work: Work) -> None:
    path = work.save(name)
    before = work.names
    with pytest.raises(CancelledError):
        work.resize(path, "out" if path.is_dir() else "out.safetensors", rank=3, cancel=lambda: True)
    assert work.names == before


def failing_chunks() -> Any:
    yield b"\0" * 8
    raise OSError("broken")


@pytest.mark.parametrize("exists", [False, True])
def test_a_pair_that_fails_half_way_leaves_the_old_one(exists: bool, tmp_path: Path) -> None:
    target = tmp_path / "out"
    plan = [TensorPlan("a", "F32", (2,)), TensorPlan("b", "F32", (2,))]
    if exists:
        target.mkdir()
        (target / "adapter_config.json").write_text("old")
        (target / "adapter_model.safetensors").write_text("old")
    before = state(tmp_path) if not exists else state(target)
    place = place_for(target, dialect="peft", has_config=True)
    with pytest.raises(OSError, match="broken"):
        write_adapter(place, plan, failing_chunks(), {}, {"r": 1}, overwrite=True)
    assert (state(tmp_path) if not exists else state(target)) == before
    assert debris(tmp_path) == []


def test_a_folder_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    place = place_for(target, dialect="peft", has_config=True)

    def chunks() -> Any:
        target.mkdir()
        (target / "theirs").write_text("x")
        yield b"\0" * 8

    with pytest.raises(OutputError):
        write_adapter(place, [TensorPlan("a", "F32", (2,))], chunks(), {}, {"r": 1})
    assert os.listdir(tmp_path) == ["out"]
    assert os.listdir(target) == ["theirs"]


# -- peers -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("asked", [{"rank": 2}, {"rank": 6}, {"energy": 0.7}, {"rank": 2, "alpha": "rank"}], ids=str)
@pytest.mark.parametrize("rslora", [False, True])
def test_peft_loads_the_result_and_gives_its_delta(asked: dict[str, Any], rslora: bool, tmp_path: Path) -> None:
    torch, p = pytest.importorskip("torch"), pytest.importorskip("peft")

    def base() -> Any:
        torch.manual_seed(0)
        layers = {
            "embed": torch.nn.Embedding(23, 12),
            "first": torch.nn.Linear(12, 20),
            "conv": torch.nn.Conv2d(6, 10, 3),
        }
        return torch.nn.Sequential(torch.nn.ModuleDict(layers))

    config = p.LoraConfig(
        r=4, lora_alpha=8, use_rslora=rslora, target_modules=["embed", "first", "conv"],
        rank_pattern={"first": 5}, alpha_pattern={"conv": 3},
    )  # fmt: skip
    model = p.get_peft_model(base(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path / "in")
    report = la.resize(tmp_path / "in", tmp_path / "out", **asked)
    loaded = p.PeftModel.from_pretrained(base(), tmp_path / "out")
    found = {
        name: module.get_delta_weight("default").detach().double().numpy()
        for name, module in loaded.named_modules()
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer")
    }
    with la.open(tmp_path / "in") as old, la.open(tmp_path / "out") as new:
        assert found.keys() == new.layers.keys()
        for name, delta in found.items():
            own = la.materialise(new.layers[name])
            assert np.linalg.norm(own - delta) <= 1e-5 * np.linalg.norm(delta)
        whole = sum(np.sum(la.materialise(layer) ** 2) for layer in old.layers.values())
        lost = sum(np.sum((la.materialise(layer) - found[name]) ** 2) for name, layer in old.layers.items())
    assert np.sqrt(lost / whole) == pytest.approx(report.relative_error, abs=1e-6)


def test_kohya_loads_nothing_it_does_not_know(work: Work) -> None:
    _, new, _ = work.resized("lokr factored", rank=3)
    assert set(new.source.tensors) == {f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight", f"{KOHYA}.alpha"}
