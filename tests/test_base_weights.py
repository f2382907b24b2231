"""Layers find the rows of their base weight whatever names adapter and checkpoint use."""

from __future__ import annotations

import numpy as np
import pytest

import lora_analysis as la
from adapters import normal, save
from lora_analysis.formats.base_weights import Rows, match_base_weights
from lora_analysis.formats.strict_json import loads
from lora_analysis.linalg.against_base import against_base
from lora_analysis.resizing.base_norms import base_norms, sidecar_of
from sources import adapter_of

D = 3072  # FLUX.1's width: the family is told by it
BFL = "double_blocks.3.img_attn.qkv"
DIFFUSERS = "transformer.transformer_blocks.3.attn"


def pair(name: str, out: int, columns: int = D) -> dict[str, np.ndarray]:
    return {f"{name}.lora_A.weight": normal(1, 2, columns), f"{name}.lora_B.weight": normal(2, out, 2)}


def test_a_split_layer_is_a_third_of_a_fused_weight():
    adapter = adapter_of(pair(f"{DIFFUSERS}.to_k", D))
    base = adapter_of({f"model.diffusion_model.{BFL}.weight": np.zeros((3 * D, D), np.float16)})
    found = match_base_weights(adapter.layers, base.source.tensors, "flux1")
    assert found == {f"{DIFFUSERS}.to_k": (Rows(f"model.diffusion_model.{BFL}.weight", D, 2 * D),)}


def test_a_fused_layer_is_three_weights_of_a_component():
    adapter = adapter_of(pair(f"diffusion_model.{BFL}", 3 * D))
    keys = [f"transformer_blocks.3.attn.to_{letter}.weight" for letter in "qkv"]
    base = adapter_of({key: np.zeros((D, D), np.float16) for key in keys})
    found = match_base_weights(adapter.layers, base.source.tensors, "flux1")
    assert found == {f"diffusion_model.{BFL}": tuple(Rows(key, 0, D) for key in keys)}
    del base.source.tensors[keys[1]]
    assert match_base_weights(adapter.layers, base.source.tensors, "flux1") == {}


def test_a_weight_of_another_size_is_not_the_base():
    adapter = adapter_of(pair(f"{DIFFUSERS}.to_k", D))
    base = adapter_of({f"{BFL}.weight": np.zeros((3 * D, D + 1), np.float16)})
    assert match_base_weights(adapter.layers, base.source.tensors, "flux1") == {}


@pytest.mark.parametrize("prefix", ["", "unet.", "model.diffusion_model."])
def test_sdxl_names_of_both_worlds_meet(prefix):
    adapter = adapter_of(pair("lora_unet_input_blocks_4_1_proj_in", 640, 640))
    name = "input_blocks.4.1.proj_in" if prefix.startswith("model") else "down_blocks.1.attentions.0.proj_in"
    base = adapter_of({f"{prefix}{name}.weight": np.zeros((640, 640), np.float16)})
    found = match_base_weights(adapter.layers, base.source.tensors, "sdxl")
    assert [rows[0].key for rows in found.values()] == [f"{prefix}{name}.weight"]


def test_names_that_no_table_knows_are_met_as_they_are():
    adapter = adapter_of(pair("lora_unet_strange_block", 6, 4))
    base = adapter_of({"strange.block.weight": np.zeros((6, 4), np.float16)})
    found = match_base_weights(adapter.layers, base.source.tensors, "unknown")
    assert found == {"lora_unet_strange_block": (Rows("strange.block.weight", 0, 6),)}


def test_all_parts_of_one_weight_are_its_rows_as_a_whole():
    adapter = adapter_of(pair(f"diffusion_model.{BFL}", 3 * D))
    base = adapter_of({f"{BFL}.weight": np.zeros((3 * D, D), np.float16)})
    found = match_base_weights(adapter.layers, base.source.tensors, "flux1")
    assert found == {f"diffusion_model.{BFL}": (Rows(f"{BFL}.weight", 0, 3 * D),)}


def test_a_fused_layers_norms_are_those_of_its_parts_together(tmp_path):
    adapter = adapter_of(pair(f"diffusion_model.{BFL}", 24, 8))
    parts = {f"transformer_blocks.3.attn.to_{letter}.weight": normal(n, 8, 8) for n, letter in enumerate("qkv")}
    checkpoint = save(tmp_path / "base.safetensors", parts)
    [norms] = base_norms(checkpoint, adapter.layers, family="flux1").values()
    assert norms.frobenius == pytest.approx(np.linalg.norm(list(parts.values())), rel=1e-6)
    assert list(loads(sidecar_of(checkpoint).read_text(), what="norms")["norms"]) == ["+".join(parts)]


def test_figures_are_of_the_rows_that_were_found(tmp_path):
    weight = normal(3, 3 * 640, 640)
    adapter = save(tmp_path / "a.safetensors", pair("lora_te2_text_model_encoder_layers_0_self_attn_v_proj", 640, 640))
    key = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight"
    base = save(tmp_path / "base" / "model.safetensors", {key: weight})
    found = la.spectrum(adapter, base=base.parent)  # a folder, as shards have one
    with la.open(adapter) as opened:
        [layer] = opened.layers.values()
        expected = against_base(layer.update(), weight[2 * 640 :])
    assert found.layers[0].base.to_dict() == pytest.approx(expected.to_dict())  # up to BLAS threads
