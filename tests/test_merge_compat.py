"""Merges beside the tools that make them too: PEFT itself, and sd-scripts' formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapters
import merge_oracle as oracle
from adapters import MODULE
from lora_analysis import materialise
from lora_analysis import open as open_adapter
from lora_analysis.errors import OpaqueUpdateError
from lora_analysis.merging.api import merge, merge_loras
from lora_analysis.merging.options import merge_options
from lora_analysis.merging.planning import plan_merge
from lora_analysis.merging.writing import write_merge
from sources import adapter_of
from test_merge_methods import assert_close, matrix, stored, write

WEIGHTS = [0.8, -0.3]


@pytest.fixture(scope="module")
def peft_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """One model with two adapters of equal rank and different scale, and where they are saved."""
    torch = pytest.importorskip("torch", reason="the peer needs torch: pip install torch==2.13.0")
    peft = pytest.importorskip("peft")
    from test_peers import Toy

    folder = tmp_path_factory.mktemp("peft")
    torch.manual_seed(0)
    targets = ["first", "second", "head", "conv2"]
    model = peft.get_peft_model(Toy(), peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets), "one")
    model.add_adapter("two", peft.LoraConfig(r=3, lora_alpha=12, target_modules=targets, use_rslora=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return model, folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("method", "combination"),
    [
        ("concat", "cat"),
        ("svd", "svd"),
        ("compat:peft_svd", "svd"),
        ("compat:peft_linear", "linear"),
    ],
)
def test_peft_makes_the_same(method: str, combination: str, peft_pair: Any, tmp_path: Path) -> None:
    model, folder = peft_pair
    model.add_weighted_adapter(["one", "two"], WEIGHTS, combination, combination_type=combination)
    done = merge_loras([folder / "one", folder / "two"], WEIGHTS, tmp_path / "out", method=method, normalize=False)
    assert done["success"], done["error"]
    checked = 0
    with open_adapter(tmp_path / "out") as made:
        for name, module in model.named_modules():
            if not hasattr(module, "get_delta_weight") or combination not in getattr(module, "lora_A", {}):
                continue
            factors = module.lora_A[combination].weight, module.lora_B[combination].weight
            a, b = (factor.detach().double().numpy() for factor in factors)
            wanted = b.reshape(len(b), -1) @ a.reshape(len(a), -1)  # PEFT means scale 1, whatever the first one's is
            found = materialise(made.layers[name])
            assert_close(found.reshape(wanted.shape), wanted, 1e-5)
            checked += 1
    assert checked == 4


def test_peft_linear_is_not_the_sum(tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(i, rank=3, out=40, width=30)) for i in range(2)]
    report = write(tmp_path / "out.safetensors", inputs, [1.0, 1.0], method="compat:peft_linear")
    wanted = oracle.weighted_sum([matrix(a, MODULE) for a in inputs], [1.0, 1.0])
    error = np.linalg.norm(stored(tmp_path / "out.safetensors", MODULE) - wanted) / np.linalg.norm(wanted)
    assert error > 0.5
    assert any("every up meets every down" in note for note in report.to_dict()["notes"])


def factors_of(seed: int, rank: int, scale: float) -> tuple[np.ndarray, np.ndarray, float]:
    arrays = adapters.lora(seed, rank=rank, scale=scale)
    up, down = (arrays[f"{MODULE}.lora_{side}.weight"].astype(float) for side in ("up", "down"))
    return up, down, scale * rank


@pytest.mark.parametrize(
    ("method", "definition", "ranks"),
    [
        ("compat:sd_scripts", oracle.sd_scripts, (3, 3)),
        ("compat:sd_scripts_concat", oracle.sd_scripts_concat, (3, 2)),
    ],
)
def test_sd_scripts_formulas(method: str, definition: Any, ranks: tuple[int, int], tmp_path: Path) -> None:
    made = [(seed, rank, scale) for seed, (rank, scale) in enumerate(zip(ranks, (0.5, 2.0), strict=True))]
    inputs = [adapter_of(adapters.lora(seed, rank=rank, scale=scale)) for seed, rank, scale in made]
    write_merge(plan_merge(inputs, WEIGHTS, merge_options(method=method)), tmp_path / "out.safetensors")
    assert_close(stored(tmp_path / "out.safetensors", MODULE), definition([factors_of(*one) for one in made], WEIGHTS))


@pytest.mark.parametrize(
    ("method", "acts"), [("compat:sd_scripts", 0.25), ("compat:sd_scripts_concat", 0.25), ("compat:peft_linear", 0.5)]
)
def test_a_ratio_of_a_half_acts_as_the_tool_has_it(method: str, acts: float, tmp_path: Path) -> None:
    source = adapter_of(adapters.lora(1))
    write_merge(plan_merge([source], [0.5], merge_options(method=method)), tmp_path / "out.safetensors")
    assert_close(stored(tmp_path / "out.safetensors", MODULE), acts * matrix(source, MODULE))


def test_the_clamp_of_sd_scripts_svd(tmp_path: Path) -> None:
    """Against a dense SVD whose pairs have been given the signs of ours."""
    inputs = [adapter_of(adapters.lora(i, rank=4, out=40, width=30)) for i in range(2)]
    write(tmp_path / "free.safetensors", inputs, WEIGHTS, method="compat:peft_svd")
    report = write(tmp_path / "out.safetensors", inputs, WEIGHTS, method="compat:sd_scripts_svd")
    with open_adapter(tmp_path / "free.safetensors") as free:
        signs = np.asarray(free.source.array(f"{MODULE}.lora_up.weight"), float)
    u, s, vt = np.linalg.svd(oracle.weighted_sum([matrix(a, MODULE) for a in inputs], WEIGHTS))
    turned = np.sign(np.sum(u[:, :4] * signs, axis=0))
    up, down = u[:, :4] * s[:4] * turned, vt[:4] * turned[:, None]
    limit = np.quantile(np.concatenate([up.ravel(), down.ravel()]), 0.99)
    wanted = np.clip(up, -limit, limit) @ np.clip(down, -limit, limit)
    assert_close(stored(tmp_path / "out.safetensors", MODULE), wanted, 1e-5)
    assert np.linalg.norm(wanted - (up @ down)) > 0.01 * np.linalg.norm(up @ down)
    assert any("clamps" in note for note in report.to_dict()["notes"])


@pytest.mark.parametrize(
    ("second", "message"),
    [(adapters.loha, "plain LoRA"), (lambda seed: adapters.lora(seed, rank=4), "of one rank")],
)
def test_what_the_tool_cannot_merge_is_refused(second: Any, message: str, tmp_path: Path) -> None:
    inputs = [adapter_of(adapters.lora(1)), adapter_of(second(2))]
    with pytest.raises(OpaqueUpdateError, match=message):
        plan_merge(inputs, WEIGHTS, merge_options(method="compat:sd_scripts"))


def test_the_library_takes_a_method(tmp_path: Path) -> None:
    paths = [adapters.save(tmp_path / f"{i}.safetensors", adapters.lora(i)) for i in range(2)]
    report = merge(paths, None, tmp_path / "out.safetensors", method="tsv", alpha=1.0)
    assert report.to_dict()["method"] == "tsv"
