"""MLX' full fine-tunes: parameters stored whole, to be put in the base's place or made an adapter of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from adapters import Arrays, normal, save
from command import lora
from lora_analysis.formats.checkpoint import open_checkpoint

H = 8
KEYS = [f"model.layers.{layer}.self_attn.{part}_proj.weight" for layer in range(3) for part in "qkvo"]
NORM = "model.layers.2.input_layernorm.weight"
BASE: Arrays = {key: normal(number, H, H) for number, key in enumerate(KEYS)} | {NORM: normal(90, H)}
BASE |= {"model.embed_tokens.weight": normal(91, 11, H), "model.norm.weight": normal(92, H)}
# mlx-lm trains the last layers; what it changes is of any size.
TRAINED = {key: BASE[key] + np.outer(normal(7, H), normal(8, H)) for key in KEYS[8:]}
TRAINED |= {NORM: BASE[NORM] * np.float32(1e-9)}
CONFIG = {"fine_tune_type": "full", "num_layers": 1, "lora_parameters": {"rank": 8, "dropout": 0.0, "scale": 20.0}}


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    file = save(tmp_path / "tuned" / "adapters.safetensors", TRAINED)
    (file.parent / "adapter_config.json").write_text(json.dumps(CONFIG))
    return file.parent


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base" / "model.safetensors", BASE)


def read(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as source:
        return {key: np.array(source.array(key)) for key in source.homes}


@pytest.mark.parametrize("named", ["folder", "file"])
def test_inspect_says_what_it_is_and_what_to_do(named: str, tuned: Path) -> None:
    done = lora("inspect", tuned if named == "folder" else tuned / "adapters.safetensors")
    assert done.code == 0, done.err
    assert "mlx · full-weights" in done.out
    text = " ".join(done.out.split())
    assert "mlx-lm trained 5 parameters whole" in text
    assert "lora extract finds an adapter" in text
    assert "not recognised" not in text


def test_its_parameters_take_the_bases_place_to_the_last_bit(tuned: Path, base: Path, tmp_path: Path) -> None:
    done = lora("bake", base, tuned, "-o", tmp_path / "out.safetensors")
    assert done.code == 0, done.err
    found = read(tmp_path / "out.safetensors")
    for key, array in (BASE | TRAINED).items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def test_beside_other_weights_it_has_one_meaning_only(tuned: Path, base: Path, tmp_path: Path) -> None:
    done = lora("bake", base, f"{tuned}:0.5", "-o", tmp_path / "out.safetensors")
    assert done.code == 2
    assert not (tmp_path / "out.safetensors").exists()


def test_an_adapter_is_found_between_it_and_the_base(tuned: Path, base: Path, tmp_path: Path) -> None:
    done = lora("extract", tuned, base, "-o", tmp_path / "lora", "--to", "peft", "--rank", 1, "--base-model", "llama")
    assert done.code == 0, done.err
    with la.open(tmp_path / "lora") as made:
        assert len(made.layers) == 4
        for name, layer in made.layers.items():
            key = f"{name.removeprefix('base_model.model.')}.weight"
            wanted = TRAINED[key].astype(float) - BASE[key].astype(float)
            np.testing.assert_allclose(la.materialise(layer), wanted, atol=2e-3 * np.linalg.norm(wanted))


@pytest.mark.parametrize("command", ["resize", "merge", "convert", "spectrum", "pca"])
def test_what_needs_layers_refuses_it(command: str, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    asked = {
        "resize": ("--rank", 4, "-o", out), "merge": (tuned, "-o", out), "convert": ("--to", "kohya", "-o", out),
        "spectrum": (), "pca": (),
    }  # fmt: skip
    done = lora(command, tuned, *asked[command])
    assert done.code in (1, 2), done.out
    assert done.err.startswith("error:")
    assert not out.exists()


def test_an_embedding_of_mlx_keeps_its_form_when_resized(tmp_path: Path) -> None:
    name, a, b = "model.embed_tokens", normal(1, 30, 4), normal(2, 4, H)
    other = "model.layers.0.self_attn.q_proj"
    arrays = {f"{name}.lora_a": a, f"{name}.lora_b": b, f"{other}.lora_a": normal(3, H, 4), f"{other}.lora_b": b}
    file = save(tmp_path / "a" / "adapters.safetensors", arrays)
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 2.0}}
    (file.parent / "adapter_config.json").write_text(json.dumps(config))
    done = lora("resize", file.parent, "-o", tmp_path / "out", "--rank", 2)
    assert done.code == 0, done.err
    with la.open(tmp_path / "out") as made:
        layer = made.layers[name]
        assert [made.source.tensors[layer.keys[role]].shape for role in ("down_t", "up_t")] == [(30, 2), (2, H)]
        u, s, vt = np.linalg.svd(2 * a.astype(float) @ b, full_matrices=False)
        np.testing.assert_allclose(la.materialise(layer), (u[:, :2] * s[:2]) @ vt[:2], atol=1e-5 * s[0])
