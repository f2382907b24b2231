"""The demo library: what `lora demo` writes, and what the other tests read."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from lora_analysis.demo import RECIPES, write_demo_library
from lora_analysis.demo.layouts import sd15_unet, sdxl_unet
from lora_analysis.demo.weights import DECAY, factors
from lora_analysis.errors import OutputError
from lora_analysis.formats import open_adapter


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(demo_library: Path, tmp_path: Path) -> None:
    write_demo_library(tmp_path / "again")
    write_demo_library(tmp_path / "other", seed=1)
    first, again, other = digests(demo_library), digests(tmp_path / "again"), digests(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    same = {name for name in first if first[name] == other[name]}
    assert same == {name for name in first if name.endswith(".json")}


def test_every_file_stays_small_and_holds_only_finite_values(demo_library: Path) -> None:
    for path in demo_library.rglob("*.safetensors"):
        assert 100_000 < path.stat().st_size < 2_500_000, path
        if "damaged" in path.name:
            continue
        with open_adapter(path) as adapter:
            for name in adapter.source.tensors:
                assert np.isfinite(adapter.source.array(name).astype(np.float64)).all(), name


def test_the_delta_has_the_decaying_spectrum_it_is_meant_to_have() -> None:
    up, down = factors(np.random.default_rng(3), 96, 64, 6)
    sigma = np.linalg.svd(up.astype(np.float64) @ down.astype(np.float64), compute_uv=False)[:6]
    np.testing.assert_allclose(sigma / sigma[0], np.arange(1.0, 7.0) ** -DECAY, rtol=1e-5)  # float32 factors


def test_layouts_have_the_module_counts_of_the_real_models() -> None:
    assert len(sd15_unet()) == 16 * 8
    assert len(sdxl_unet([("lora_unet_middle_block_1", 1280, 10)])) == 100


def test_a_second_run_refuses_to_replace_files_unless_asked(demo_library: Path, tmp_path: Path) -> None:
    write_demo_library(tmp_path)
    with pytest.raises(OutputError, match="sd15-style-kohya"):
        write_demo_library(tmp_path)
    write_demo_library(tmp_path, overwrite=True)
    assert digests(tmp_path) == digests(demo_library)


def test_a_target_that_is_no_folder_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="file"):
        write_demo_library(tmp_path / "file")


def test_headers_hold_the_true_hash_of_the_tensors(demo_library: Path) -> None:
    data = (demo_library / "sd15-style-kohya.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    assert metadata["sshs_model_hash"] == sha256(data[8 + length :]).hexdigest()


# What a reader has to find in each: dialect, algorithm, base family.
EXPECTED = {
    "sd15-style-kohya.safetensors": ("kohya", "lora", "sd15"),
    "sdxl-character-kohya.safetensors": ("kohya", "lora", "sdxl"),
    "sdxl-style-loha.safetensors": ("kohya", "loha", "sdxl"),
    "sdxl-style-lokr.safetensors": ("kohya", "lokr", "sdxl"),
    "sd15-clothing-locon.safetensors": ("kohya", "locon", "sd15"),
    "sdxl-portrait-dora.safetensors": ("onetrainer", "dora", "sdxl"),
    "flux-product-diffusers.safetensors": ("diffusers", "lora", "flux1"),
    "flux-lineart-kohya.safetensors": ("kohya", "lora", "flux1"),
    "wan-motion-comfyui.safetensors": ("comfyui", "lora", "wan"),
    "qwen-image-diffsynth.safetensors": ("diffsynth", "lora", "qwen-image"),
    "llama-chat-peft": ("peft", "lora", "llama"),
    "llama-ia3-peft": ("peft", "ia3", "llama"),
    "qwen-chat-mlx": ("mlx", "lora", "qwen2"),
    "trouble/orphan-factor.safetensors": ("kohya", "lora", "sd15"),
    "trouble/wrong-base.safetensors": ("kohya", "lora", "sd15"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_adapter_is_recognised_for_what_it_is(demo_library: Path, name: str) -> None:
    with open_adapter(demo_library / name) as adapter:
        found = (adapter.dialect, adapter.algorithm, adapter.base_model.family)
    assert found == EXPECTED[name]


def test_every_recipe_is_expected_or_damaged() -> None:
    names = {name.rsplit("/", 1)[0] if "adapter" in Path(name).name else name for name in RECIPES}
    assert names - set(EXPECTED) == {"trouble/damaged-download.safetensors"}


def test_the_mislabelled_file_shows_a_conflict(demo_library: Path) -> None:
    with open_adapter(demo_library / "trouble/wrong-base.safetensors") as adapter:
        assert adapter.base_model.conflict
        assert (adapter.base_model.from_keys, adapter.base_model.from_header) == ("sd15", "sdxl")
