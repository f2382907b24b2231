"""Scores relative to the base model: its weights found by name, their norms calculated once and kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from command import lora
from lora_analysis.adapter import Adapter
from lora_analysis.errors import NonFiniteError, OptionError
from lora_analysis.formats.base_weights import Rows, match_base_weights
from lora_analysis.formats.writer import TensorPlan, write_safetensors
from lora_analysis.resizing.base_norms import base_norms, sidecar_of
from lora_analysis.resizing.planning import plan_resize
from lora_analysis.resizing.request import options_of
from sources import adapter_of

RNG = np.random.default_rng(7)
BASE = {
    "model.diffusion_model.input_blocks.4.1.proj_in.weight": RNG.standard_normal((12, 9)),
    "model.diffusion_model.out.2.weight": RNG.standard_normal((4, 5, 3, 3)),
    "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": RNG.standard_normal((8, 6)),
    "first_stage_model.decoder.weight": RNG.standard_normal((3, 3)),
}


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    plans = [TensorPlan(name, "F32", array.shape) for name, array in arrays.items()]
    write_safetensors(path, plans, [array.tobytes() for array in arrays.values()], {}, overwrite=True)
    return path


def pair(name: str, shape: tuple[int, ...], spectrum: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Factors of a delta of ``shape`` with these singular values."""
    out, columns = shape[0], int(np.prod(shape[1:]))
    rank = len(spectrum)
    up = np.linalg.qr(RNG.standard_normal((out, rank)))[0] * np.array(spectrum)
    down = np.linalg.qr(RNG.standard_normal((columns, rank)))[0].T
    ones = (1,) * (len(shape) - 2)
    return {
        f"{name}.lora_down.weight": down.reshape(rank, *shape[1:]).astype(np.float32),
        f"{name}.lora_up.weight": up.reshape(out, rank, *ones).astype(np.float32),
    }


@pytest.fixture
def adapter() -> Adapter:
    return adapter_of(
        {
            **pair("lora_unet_input_blocks_4_1_proj_in", (12, 9), (3.0, 1.0, 0.1)),
            **pair("lora_unet_out_2", (4, 5, 3, 3), (2.0, 0.5)),
            **pair("lora_te1_text_model_encoder_layers_0_mlp_fc1", (8, 6), (1.0, 0.4)),
        }
    )


def test_norms_are_those_of_the_weight_of_the_same_name(adapter: Adapter, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "base.safetensors", BASE)
    found = base_norms(checkpoint, adapter.layers)
    assert len(found) == 3
    for norms, array in zip(found.values(), BASE.values(), strict=False):
        matrix = array.reshape(array.shape[0], -1)
        assert norms.frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-6)
        assert norms.spectral == pytest.approx(np.linalg.norm(matrix, 2), rel=1e-6)


NAMES = [
    ("lora_unet_double_blocks_0_img_attn_qkv", "double_blocks.0.img_attn.qkv.weight"),
    ("diffusion_model.double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.qkv.weight"),
    ("transformer.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q.weight"),
    ("base_model.model.model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj.weight"),
    ("model.layers.0.self_attn.q_proj", "layers.0.self_attn.q_proj.weight"),
    ("unet.mid_block.attn1.processor.to_q", "mid_block.attn1.to_q.weight"),
    (
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
        "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
    ),
]


@pytest.mark.parametrize("family", [None, "sdxl"])
@pytest.mark.parametrize(("module", "weight"), NAMES)
def test_names_meet_across_spellings(module: str, weight: str, family: str | None) -> None:
    made = adapter_of(pair(module, (6, 4), (1.0,)))
    base = adapter_of({weight: np.ones((6, 4), np.float32), "other.weight": np.ones((6, 4), np.float32)})
    assert match_base_weights(made.layers, base.source.tensors, family) == {module: (Rows(weight, 0, 6),)}


def test_open_clip_keeps_q_k_and_v_as_thirds_of_one_weight(tmp_path: Path) -> None:
    prefix = "conditioner.embedders.1.model.transformer.resblocks.3."
    fused = RNG.standard_normal((12, 4))
    checkpoint = write(tmp_path / "sdxl.safetensors", {
        f"{prefix}attn.in_proj_weight": fused,
        f"{prefix}attn.out_proj.weight": RNG.standard_normal((4, 4)),
        f"{prefix}mlp.c_fc.weight": RNG.standard_normal((16, 4)),
    })  # fmt: skip
    module = "lora_te2_text_model_encoder_layers_3_"
    made = adapter_of({
        **pair(f"{module}self_attn_k_proj", (4, 4), (1.0,)),
        **pair(f"{module}self_attn_out_proj", (4, 4), (1.0,)),
        **pair(f"{module}mlp_fc1", (16, 4), (1.0,)),
    })  # fmt: skip
    found = base_norms(checkpoint, made.layers)
    assert found[f"{module}self_attn_k_proj"].frobenius == pytest.approx(np.linalg.norm(fused[4:8]), rel=1e-6)
    assert len(found) == 3


def test_a_weight_of_another_size_is_not_the_base(tmp_path: Path, adapter: Adapter) -> None:
    wrong = {**BASE, "model.diffusion_model.out.2.weight": np.ones((4, 6, 3, 3))}
    with pytest.raises(OptionError, match=r"1 of 3 layers find no weight.*lora_unet_out_2"):
        base_norms(write(tmp_path / "base.safetensors", wrong), adapter.layers)


def test_norms_are_kept_beside_the_checkpoint_until_it_changes(adapter: Adapter, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "base.safetensors", BASE)
    first = base_norms(checkpoint, adapter.layers)
    sidecar = sidecar_of(checkpoint)
    stamp = sidecar.stat().st_mtime_ns
    assert base_norms(checkpoint, adapter.layers) == first
    assert sidecar.stat().st_mtime_ns == stamp
    write(checkpoint, {name: 2 * array for name, array in BASE.items()})
    os.utime(checkpoint, ns=(1, 1))
    doubled = base_norms(checkpoint, adapter.layers)
    assert all(doubled[name].frobenius == pytest.approx(2 * norms.frobenius) for name, norms in first.items())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 1}', b"\xff"])
def test_a_broken_sidecar_is_made_anew(content: bytes, adapter: Adapter, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "base.safetensors", BASE)
    expected = base_norms(checkpoint, adapter.layers)
    sidecar_of(checkpoint).write_bytes(content)
    assert base_norms(checkpoint, adapter.layers) == expected


def test_a_base_of_nan_is_refused(adapter: Adapter, tmp_path: Path) -> None:
    broken = {name: array * np.nan for name, array in BASE.items()}
    with pytest.raises(NonFiniteError, match="NaN"):
        base_norms(write(tmp_path / "base.safetensors", broken), adapter.layers)


def test_a_recipe_keeps_what_is_large_beside_the_base(adapter: Adapter, tmp_path: Path) -> None:
    checkpoint = write(tmp_path / "base.safetensors", BASE)
    frobenius = [np.linalg.norm(array) for array in list(BASE.values())[:3]]
    threshold = -1.2
    plan = plan_resize(adapter, options_of(recipe=f"fro_ckpt=1,thr={threshold}", base=str(checkpoint)))
    spectra = [(3.0, 1.0, 0.1), (2.0, 0.5), (1.0, 0.4)]
    expected = [
        max(1, sum(np.log10(value / norm) >= threshold for value in spectrum))
        for spectrum, norm in zip(spectra, frobenius, strict=True)
    ]
    assert [layer.new_rank for layer in plan.layers.values()] == expected
    assert expected != [3, 2, 2]


def test_base_and_recipe_ask_for_each_other() -> None:
    with pytest.raises(OptionError, match="--base"):
        options_of(recipe="fro_ckpt=1,thr=-1")
    with pytest.raises(OptionError, match="none was asked for"):
        options_of(recipe="fro_lora=1,thr=-1", base="base.safetensors")


# SD1's original checkpoint numbers its blocks; every attention has the same shapes, so that only names tell them apart.
LDM = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q": "input_blocks.2.1.transformer_blocks.0.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn1.to_q": "middle_block.1.transformer_blocks.0.attn1.to_q",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q": "output_blocks.3.1.transformer_blocks.0.attn1.to_q",
    "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_q": "output_blocks.11.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.1.resnets.0.conv1": "input_blocks.4.0.in_layers.2",
    "up_blocks.3.resnets.1.conv2": "output_blocks.10.0.out_layers.3",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
}
CROSS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"  # 768 wide: SD1


def ldm_shape(module: str) -> tuple[int, ...]:
    if "resnets" in module:
        return (8, 8, 1, 1) if "shortcut" in module else (8, 8, 3, 3)
    return (8, 8)


def test_resize_finds_the_weights_of_an_original_checkpoint_for_diffusers_names(tmp_path: Path) -> None:
    spectrum = (4.0, 2.0, 1.0, 0.5)
    arrays = {
        key: array for module in LDM for key, array in pair(f"unet.{module}", ldm_shape(module), spectrum).items()
    }
    arrays |= pair(f"unet.{CROSS}", (8, 768), spectrum)
    arrays = {key.replace("lora_down", "lora_A").replace("lora_up", "lora_B"): array for key, array in arrays.items()}
    # Norms fall from layer to layer: a layer that found another's weight would get another's rank.
    wanted_norms = {module: 3.0 * 0.8**number for number, module in enumerate([*LDM, CROSS])}
    base = {}
    for module, norm in wanted_norms.items():
        shape = (8, 768) if module == CROSS else ldm_shape(module)
        weight = RNG.standard_normal(shape)
        name = LDM.get(module, "input_blocks.1.1.transformer_blocks.0.attn2.to_k")
        base[f"model.diffusion_model.{name}.weight"] = weight * (norm / np.linalg.norm(weight))
    checkpoint = write(tmp_path / "base.safetensors", base)
    path = write(tmp_path / "a.safetensors", arrays)
    with la.open(path) as adapter:
        assert (adapter.dialect, adapter.base_model.family) == ("diffusers", "sd15")
        found = base_norms(checkpoint, adapter.layers, family="sd15")
    for module, norm in wanted_norms.items():
        assert found[f"unet.{module}"].frobenius == pytest.approx(norm, rel=1e-6), module
    threshold = 0.0
    expected = {
        f"unet.{module}": max(1, sum(value / norm >= 10**threshold for value in spectrum))
        for module, norm in wanted_norms.items()
    }
    assert set(expected.values()) == {1, 2, 3}
    out = tmp_path / "out.safetensors"
    done = lora("resize", path, "-o", out, "--recipe", f"fro_ckpt=1,thr={threshold}", "--base", checkpoint)
    assert done.code == 0, done.err
    with la.open(out) as adapter:
        assert {name: layer.rank for name, layer in adapter.layers.items()} == expected


def test_resize_refuses_a_checkpoint_without_the_modules(tmp_path: Path) -> None:
    arrays = pair("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", (8, 8), (1.0, 0.5))
    path = write(tmp_path / "a.safetensors", arrays | pair(f"unet.{CROSS}", (8, 768), (1.0, 0.5)))
    checkpoint = write(
        tmp_path / "base.safetensors",
        {"model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn1.to_q.weight": np.ones((8, 8))},
    )
    done = lora(
        "resize", path, "-o", tmp_path / "out.safetensors", "--recipe", "fro_ckpt=1,thr=0", "--base", checkpoint
    )
    assert done.code == 2
    assert "2 of 2 layers find no weight" in done.err
    assert not (tmp_path / "out.safetensors").exists()
