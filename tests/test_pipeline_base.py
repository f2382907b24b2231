"""A diffusers pipeline as the base: a folder for each component, and adapters that change several of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from adapters import Arrays, normal, save
from command import lora
from lora_analysis.errors import FileAccessError, OptionError
from lora_analysis.formats.checkpoint import open_checkpoint
from lora_analysis.resizing.base_norms import base_norms
from test_base_shards import PARTS, adapter_file, expected_norms, in_shards

UNET = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
# Kohya's module, the component, and the weight there; the text encoders differ in nothing but their values.
MODULES = {
    f"lora_unet_{UNET.replace('.', '_')}": ("unet", f"{UNET}.weight", (640, 2048)),
    f"lora_te1_{TEXT.replace('.', '_')}": ("text_encoder", f"{TEXT}.weight", (768, 768)),
    f"lora_te2_{TEXT.replace('.', '_')}": ("text_encoder_2", f"{TEXT}.weight", (1280, 1280)),
}
WEIGHTS = {
    component: {key: normal(number, *shape) * np.float32(number + 1)}
    for number, (component, key, shape) in enumerate(MODULES.values())
}


def pipeline(folder: Path, components: dict[str, Arrays]) -> Path:
    """As ``save_pretrained`` writes it, with a part that no adapter changes and a variant that is not loaded."""
    for component, weights in components.items():
        usual = "model" if component.startswith("text") else "diffusion_pytorch_model"
        save(folder / component / f"{usual}.safetensors", weights)
        save(folder / component / f"{usual}.fp16.safetensors", {key: 7 * array for key, array in weights.items()})
    save(folder / "vae" / "diffusion_pytorch_model.safetensors", {"conv_in.weight": normal(9, 8, 4)})
    listed = {name: ["diffusers", "AModel"] for name in (*components, "vae")}
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "APipeline", **listed, "tokenizer": [None] * 2})
    )
    return folder


def sdxl_adapter(path: Path) -> Path:
    arrays: Arrays = {}
    for number, (name, (_, _, (out, columns))) in enumerate(MODULES.items()):
        arrays[f"{name}.lora_down.weight"] = normal(10 + number, 4, columns)
        arrays[f"{name}.lora_up.weight"] = normal(20 + number, out, 4)
        arrays[f"{name}.alpha"] = np.float32(4)
    return save(path, arrays)


def test_every_component_gives_its_own_weights(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "sdxl", WEIGHTS)
    with la.open(sdxl_adapter(tmp_path / "a.safetensors")) as adapter:
        found = base_norms(base, adapter.layers, family="sdxl")
    assert set(found) == set(MODULES)
    for name, (component, key, _) in MODULES.items():
        assert found[name].frobenius == pytest.approx(
            np.linalg.norm(WEIGHTS[component][key].astype(float)), rel=1e-6
        ), name


def test_a_transformer_in_shards(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "flux", {"text_encoder": WEIGHTS["text_encoder"]})
    in_shards(base / "transformer", PARTS)
    (base / "model_index.json").write_text('{"transformer": ["diffusers", "A"], "text_encoder": ["transformers", "B"]}')
    with la.open(adapter_file(tmp_path, fused=True)) as adapter:
        found = base_norms(base, adapter.layers, family="flux1")
    for name, norms in expected_norms(fused=True).items():
        assert found[name].frobenius == pytest.approx(norms.frobenius, rel=1e-6), name


def test_a_pipeline_and_its_component_say_the_same_of_a_delta(tmp_path: Path) -> None:
    base, path = pipeline(tmp_path / "sdxl", WEIGHTS), sdxl_adapter(tmp_path / "a.safetensors")
    whole = lora("spectrum", path, "--base", base, "--json").json
    part = lora("spectrum", path, "--base", base / "unet", "--json", "--layer", "*unet*").json
    (alone,) = part["layers"]
    (same,) = (layer for layer in whole["layers"] if layer["name"] == alone["name"])
    assert same["base"] == alone["base"]
    assert same["base"]["relative_norm"] > 0
    assert whole["without_base"] == []


def test_the_plain_file_is_taken_before_its_variants(tmp_path: Path) -> None:
    with open_checkpoint(pipeline(tmp_path / "sdxl", WEIGHTS) / "unet") as checkpoint:
        assert list(checkpoint.shards) == ["diffusion_pytorch_model.safetensors"]
        np.testing.assert_array_equal(checkpoint.array(f"{UNET}.weight"), WEIGHTS["unet"][f"{UNET}.weight"])


def test_baking_names_the_component_to_bake(tmp_path: Path) -> None:
    base, path = pipeline(tmp_path / "sdxl", WEIGHTS), sdxl_adapter(tmp_path / "a.safetensors")
    with pytest.raises(OptionError, match=r"is a pipeline.*sdxl/unet"):
        la.bake(base, [path], None, tmp_path / "out.safetensors", family="sdxl")


def test_an_adapter_is_extracted_from_two_pipelines(tmp_path: Path) -> None:
    """Of all components at once, as an adapter of several is trained."""
    rank = 3
    tuned = {
        name: {
            key: array + normal(5, array.shape[0], rank) @ normal(6, rank, array.shape[1]) for key, array in own.items()
        }
        for name, own in WEIGHTS.items()
    }
    base = pipeline(tmp_path / "base", WEIGHTS)
    report = la.extract(
        pipeline(tmp_path / "tuned", tuned), base, tmp_path / "out.safetensors", to="kohya", rank=rank, family="sdxl"
    )
    assert report.relative_error < 1e-3
    with la.open(tmp_path / "out.safetensors") as adapter:
        assert {name.replace("input_blocks_4_1", "down_blocks_1_attentions_0") for name in adapter.layers} == set(
            MODULES
        )


def test_two_denoisers_are_asked_about(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "wan", {"transformer": PARTS, "transformer_2": PARTS})
    with pytest.raises(OptionError, match="transformer_2"), open_checkpoint(base):
        pass


def test_a_pipeline_without_weights_says_what_it_looked_for(tmp_path: Path) -> None:
    with (
        pytest.raises(FileAccessError, match="none of the folders unet, transformer"),
        open_checkpoint(pipeline(tmp_path / "empty", {})),
    ):
        pass
