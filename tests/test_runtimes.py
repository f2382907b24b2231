"""``lora check --for``: what vLLM, llama.cpp, diffusers and ComfyUI would misread, and a fix that helps."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from command import lora
from lora_analysis.errors import OptionError
from lora_analysis.runtimes import RUNTIMES, check_for
from test_convert import FLUX, H, dora, pair, values, write

Q, V = (f"base_model.model.model.layers.0.self_attn.{x}_proj" for x in "qv")


def peft(folder: Path, ranks: dict[str, int], arrays: dict[str, np.ndarray] | None = None, **config: Any) -> Path:
    """A PEFT folder with these layers."""
    folder.mkdir()
    tensors = dict(arrays or {})
    for number, (name, rank) in enumerate(ranks.items()):
        tensors[f"{name}.lora_A.weight"] = values(rank, H, seed=number)
        tensors[f"{name}.lora_B.weight"] = values(H, rank, seed=number + 5)
    write(folder / "adapter_model.safetensors", tensors)
    document = {"peft_type": "LORA", "target_modules": ["q_proj", "v_proj"], **config}
    (folder / "adapter_config.json").write_text(json.dumps(document))
    return folder


def codes(runtime: str, path: Path) -> dict[str, str]:
    """Code -> fix."""
    with la.open(path) as adapter:
        return {one.code: one.fix for one in check_for(runtime, adapter)}


def fixed(fix: str, output: Path) -> None:
    """Carry a fix out."""
    arguments = shlex.split(fix)
    assert arguments[0] == "lora"
    arguments[arguments.index("-o") + 1] = str(output)
    done = lora(*arguments[1:])
    assert done.code == 0, done.err


def test_plain_adapters_are_fine_everywhere(tmp_path: Path) -> None:
    folder = peft(tmp_path / "a", {Q: 4, V: 4}, r=4, lora_alpha=8)
    assert codes("vllm", folder) == {}
    assert codes("llama.cpp", folder) == {}
    image = write(tmp_path / "b.safetensors", pair(FLUX, 3 * H, H, 4, alpha=2.0) | pair("lora_unet_img_in", H, 64, 4))
    assert codes("diffusers", image) == {}
    assert codes("comfyui", image) == {}


# PEFT divides alpha by each layer's own rank, as llama.cpp does; vLLM divides by the general one.
@pytest.mark.parametrize(
    ("runtime", "ranks", "config"),
    [
        ("vllm", {Q: 2, V: 4}, {"r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 2}}),
        ("vllm", {Q: 4, V: 4}, {"r": 4, "lora_alpha": 8, "alpha_pattern": {"q_proj": 3}}),
        ("vllm", {Q: 2, V: 4}, {"r": 1, "lora_alpha": 1, "rank_pattern": {"q_proj": 2, "v_proj": 4}}),
        ("llama.cpp", {Q: 4, V: 4}, {"r": 4, "lora_alpha": 8, "alpha_pattern": {"q_proj": 3}}),
        (
            "llama.cpp",
            {Q: 2, V: 4},
            {"r": 1, "lora_alpha": 1, "rank_pattern": {"q_proj": 2, "v_proj": 4}, "alpha_pattern": {"q_proj": 2}},
        ),
    ],
)
def test_patterns_are_not_read_and_the_fix_makes_them_needless(
    tmp_path: Path, runtime: str, ranks: dict[str, int], config: dict[str, Any]
) -> None:
    folder = peft(tmp_path / "a", ranks, **config)
    found = codes(runtime, folder)
    assert "scale" in found
    fixed(found["scale"], tmp_path / "b")
    assert codes(runtime, tmp_path / "b") == {}
    with la.open(folder) as a, la.open(tmp_path / "b") as b:
        for name in ranks:
            np.testing.assert_allclose(
                la.materialise(b.layers[name]),
                la.materialise(a.layers[name]),
                atol=2e-3 * np.abs(la.materialise(a.layers[name])).max(),
            )


def test_llama_cpp_ignores_rslora_and_vllm_does_not(tmp_path: Path) -> None:
    folder = peft(tmp_path / "a", {Q: 4, V: 4}, r=4, lora_alpha=8, use_rslora=True)
    assert "scale" in codes("llama.cpp", folder)
    assert codes("vllm", folder) == {}
    fixed(codes("llama.cpp", folder)["scale"], tmp_path / "b")
    assert codes("llama.cpp", tmp_path / "b") == {}


@pytest.mark.parametrize("runtime", ["vllm", "llama.cpp"])
def test_dora_and_saved_modules_are_refused(tmp_path: Path, runtime: str) -> None:
    beside = {f"{Q}.lora_magnitude_vector": values(H), "base_model.model.lm_head.weight": values(9, H)}
    folder = peft(tmp_path / "a", {Q: 4}, beside, r=4, lora_alpha=8, use_dora=True, modules_to_save=["lm_head"])
    found = codes(runtime, folder)
    assert {"dora", "saved-modules"} <= found.keys()
    assert found["dora"].startswith("lora bake BASE")


def test_vllm_has_limits_of_rank(tmp_path: Path) -> None:
    folder = peft(tmp_path / "a", {Q: 20}, r=20, lora_alpha=20)
    assert codes("vllm", folder) == {"rank-limit": "vllm serve ... --max-lora-rank 32"}
    folder = peft(tmp_path / "b", {Q: 600}, r=600, lora_alpha=600)
    assert codes("vllm", folder)["rank-limit"].startswith("lora resize")
    wrong = peft(tmp_path / "c", {Q: 8}, r=4, lora_alpha=4)
    assert "rank-above-config" in codes("vllm", wrong)


def test_image_names_are_no_peft_folder(tmp_path: Path) -> None:
    source = write(tmp_path / "a.safetensors", pair(FLUX, 3 * H, H, 4))
    for runtime in ("vllm", "llama.cpp"):
        assert "--to peft" in codes(runtime, source)["dialect"]


def test_diffusers_scales_ranks_without_alpha_wrongly_and_the_fix_states_it(tmp_path: Path) -> None:
    names = [f"transformer.single_transformer_blocks.{n}.attn.to_q" for n in (0, 1)]
    arrays: dict[str, np.ndarray] = {}
    for number, name in enumerate(names):
        arrays[f"{name}.lora_A.weight"] = values(2 + number, H, seed=number)
        arrays[f"{name}.lora_B.weight"] = values(H, 2 + number, seed=number + 5)
    source = write(tmp_path / "a.safetensors", arrays)
    found = codes("diffusers", source)
    assert set(found) == {"scale"}
    fixed(found["scale"] + " --base-model flux1", tmp_path / "b.safetensors")
    assert codes("diffusers", tmp_path / "b.safetensors") == {}


def test_comfyui_reads_no_alpha_from_a_header(tmp_path: Path) -> None:
    name = "diffusion_model.double_blocks.0.img_attn.qkv"
    arrays = {f"{name}.lora_A.weight": values(4, H), f"{name}.lora_B.weight": values(3 * H, 4)}
    source = write(tmp_path / "a.safetensors", arrays, {"lora_alpha": "2"})
    found = codes("comfyui", source)
    assert set(found) == {"scale"}
    fixed(found["scale"] + " --base-model flux1", tmp_path / "b.safetensors")
    assert codes("comfyui", tmp_path / "b.safetensors") == {}
    with la.open(source) as a, la.open(tmp_path / "b.safetensors") as b:
        assert a.layers[name].scale == b.layers[name].scale == 0.5


def test_other_kinds_and_norms_of_columns_are_told_to_diffusers(tmp_path: Path) -> None:
    n = "lora_unet_double_blocks_0_img_attn_proj"
    arrays = {f"{n}.lokr_w1": values(2, 2), f"{n}.lokr_w2": values(4, 4)}
    arrays |= dora("lora_unet_double_blocks_0_txt_attn_proj", H, H, "in")
    source = write(tmp_path / "a.safetensors", arrays)
    assert {"kind", "dora-axis"} <= codes("diffusers", source).keys()
    rows = write(tmp_path / "b.safetensors", dora("lora_unet_double_blocks_0_txt_attn_proj", H, H, "out"))
    assert "dora" in codes("comfyui", rows)


def test_a_runtime_without_rules_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "a.safetensors", pair(FLUX, 3 * H, H, 4))
    with la.open(source) as adapter, pytest.raises(OptionError, match="vllm"):
        check_for("toaster", adapter)
    assert set(RUNTIMES) == {"vllm", "llama.cpp", "diffusers", "comfyui"}


def test_the_command_prints_the_fix_and_exits_with_3(demo_library: Path) -> None:
    path = demo_library / "sdxl-style-lokr.safetensors"
    done = lora("check", path, "--for", "diffusers")
    assert done.code == 3
    assert "fix: lora convert" in done.out
    document = lora("check", path, "--for", "diffusers", "--json").json
    assert any(finding.get("fix") for finding in document["adapters"][0]["findings"])
    assert lora("check", path).code == 0
