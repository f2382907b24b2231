"""Layers of different dialects meet by the base weight they change: renamed, fused and split alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapters
import merge_oracle as oracle
from adapters import normal
from lora_analysis import materialise
from lora_analysis import open as open_adapter
from lora_analysis.adapter import Adapter
from lora_analysis.formats.architectures import canonical_parts
from lora_analysis.merging.options import merge_options
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import write_merge
from sources import adapter_of
from test_merge_methods import assert_close

FLUX = {"ss_base_model_version": "flux1"}
ROWS, COLUMNS = 8, 10  # of q, of k and of v
WEIGHTS = [0.7, -0.4]


def pair(name: str, seed: int, out: int, rank: int = 2, ends: tuple[str, str] = ("lora_A", "lora_B")) -> Any:
    return {
        f"{name}.{ends[0]}.weight": normal(seed, rank, COLUMNS),
        f"{name}.{ends[1]}.weight": normal(seed, out, rank),
    }


def fused(seed: int) -> Adapter:
    """kohya's names: one qkv, and linear1 of a single block with its mlp."""
    ends = ("lora_down", "lora_up")
    arrays = pair("lora_unet_double_blocks_0_img_attn_qkv", seed, 3 * ROWS, ends=ends)
    arrays |= pair("lora_unet_single_blocks_0_linear1", seed + 1, 7 * ROWS, ends=ends)
    arrays |= pair("lora_unet_double_blocks_0_img_attn_proj", seed + 2, ROWS, ends=ends)
    return adapter_of(arrays, FLUX)


def split(seed: int, projections: str = "qkv") -> Adapter:
    """diffusers' names: q, k and v apart, some of them missing."""
    arrays: dict[str, np.ndarray] = {}
    for number, letter in enumerate(projections):
        arrays |= pair(f"transformer.transformer_blocks.0.attn.to_{letter}", seed + number, ROWS, rank=number + 1)
        arrays |= pair(f"transformer.single_transformer_blocks.0.attn.to_{letter}", seed + 10 + number, ROWS)
    arrays |= pair("transformer.single_transformer_blocks.0.proj_mlp", seed + 20, 4 * ROWS)
    arrays |= pair("transformer.transformer_blocks.0.attn.to_out.0", seed + 21, ROWS)
    return adapter_of(arrays, FLUX)


def by_module(adapter: Adapter) -> dict[str, np.ndarray]:
    """Dense deltas of every base weight, by its canonical name."""
    found: dict[str, np.ndarray] = {}
    for layer in adapter.layers.values():
        delta = materialise(layer)
        for part in canonical_parts(layer, adapter.base_model.family) or ():
            assert part.module not in found
            found[part.module] = delta[part.start : part.stop].reshape(part.stop - part.start, -1)
    return found


def merged(tmp_path: Path, inputs: list[Adapter], **options: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    plan = plan_merge(inputs, WEIGHTS, merge_options(normalize=False, **options))
    write_merge(plan, tmp_path / "out.safetensors")
    with open_adapter(tmp_path / "out.safetensors") as made:
        return by_module(made), list(made.layers)


@pytest.mark.parametrize("projections", ["qkv", "qv", "k"])
@pytest.mark.parametrize("first", ["fused", "split"])
def test_fused_and_split_projections_are_summed_exactly(first: str, projections: str, tmp_path: Path) -> None:
    inputs = [fused(1), split(5, projections)] if first == "fused" else [split(5, projections), fused(1)]
    found, names = merged(tmp_path, inputs)
    parts = [by_module(adapter) for adapter in inputs]
    assert found.keys() == parts[0].keys() | parts[1].keys()
    for module, delta in found.items():
        zero = np.zeros(delta.shape)
        assert_close(delta, sum(w * part.get(module, zero) for w, part in zip(WEIGHTS, parts, strict=True)))
    spoken = "lora_unet_" if first == "fused" else "transformer."
    assert all(name.startswith(spoken) for name in names)
    assert len(names) == (3 if first == "fused" else 8)


def test_a_method_sees_one_adapter_in_the_pieces_of_a_fused_weight(tmp_path: Path) -> None:
    inputs = [fused(1), split(5)]
    merged(tmp_path, inputs, method="tsv", alpha=1.0)
    with open_adapter(tmp_path / "out.safetensors") as made:
        found = materialise(made.layers["lora_unet_double_blocks_0_img_attn_qkv"])
    stem = "transformer.transformer_blocks.0.attn.to_"
    stacked = np.concatenate([materialise(inputs[1].layers[stem + letter]) for letter in "qkv"])
    whole = materialise(inputs[0].layers["lora_unet_double_blocks_0_img_attn_qkv"])
    assert_close(found, oracle.tsv([whole, stacked], WEIGHTS, alpha=1.0))


def test_other_names_for_the_same_weight_meet(tmp_path: Path) -> None:
    stem = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    kohya = adapter_of(adapters.lora(1, "lora_unet_" + stem.replace(".", "_")), {"ss_base_model_version": "sd_v1"})
    diffusers = adapter_of(pair(f"unet.{stem}", 2, adapters.OUT), {"ss_base_model_version": "sd_v1"})
    plan = plan_merge([kohya, diffusers], WEIGHTS, merge_options(normalize=False))
    assert [layer["inputs"] for layer in plan.to_dict()["layers"]] == [[0, 1]]
    write_merge(plan, tmp_path / "out.safetensors")
    with open_adapter(tmp_path / "out.safetensors") as made:
        (layer,) = made.layers.values()
        deltas = [materialise(next(iter(adapter.layers.values()))) for adapter in (kohya, diffusers)]
        assert layer.name == next(iter(kohya.layers))
        assert_close(materialise(layer), oracle.weighted_sum(deltas, WEIGHTS))


def test_layers_that_only_the_other_dialect_has_are_named_as_the_outputs(tmp_path: Path) -> None:
    stem = "down_blocks.1.attentions.0.transformer_blocks.0."
    version = {"ss_base_model_version": "sd_v1"}
    kohya = adapter_of(adapters.lora(1, "lora_unet_" + (stem + "attn1.to_q").replace(".", "_")), version)
    arrays = pair(f"unet.{stem}attn1.to_q", 2, adapters.OUT) | pair(f"unet.{stem}attn2.to_k", 3, adapters.OUT)
    plan = plan_merge([kohya, adapter_of(arrays, version)], WEIGHTS, merge_options(normalize=False))
    write_merge(plan, tmp_path / "out.safetensors")
    with open_adapter(tmp_path / "out.safetensors") as made:
        assert made.dialect == "kohya"
        alone = made.layers["lora_unet_" + (stem + "attn2.to_k").replace(".", "_")]
        up, down = (arrays[f"unet.{stem}attn2.to_k.lora_{side}.weight"].astype(float) for side in "BA")
        assert_close(materialise(alone), -0.4 * up @ down)


def test_biases_move_with_their_rows(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    whole = adapter_of(
        pair(name, 1, 3 * ROWS, ends=("lora_down", "lora_up")) | {f"{name}.diff_b": normal(7, 3 * ROWS)}, FLUX
    )
    stem = "transformer.transformer_blocks.0.attn.to_"
    parts = adapter_of(
        {key: array for i, letter in enumerate("qkv") for key, array in (
            pair(f"{stem}{letter}", i, ROWS) | {f"{stem}{letter}.diff_b": normal(i, ROWS)}
        ).items()}, FLUX,
    )  # fmt: skip
    plan = plan_merge([whole, parts], WEIGHTS, merge_options(normalize=False))
    write_merge(plan, tmp_path / "out.safetensors")
    with open_adapter(tmp_path / "out.safetensors") as made:
        bias = made.layers[name].bias()
    assert bias is not None
    wanted = 0.7 * normal(7, 3 * ROWS) - 0.4 * np.concatenate([normal(i, ROWS) for i in range(3)])
    np.testing.assert_allclose(bias.values, wanted, rtol=1e-5, atol=1e-6)
