"""Merges beside those of the libraries that published them: PEFT, run here, and KnOTS, whose results are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import merge_oracle as oracle
from adapters import CONV, CONV_KINDS, LINEAR_KINDS, MODULE, OUT
from lora_analysis import materialise
from lora_analysis import open as open_adapter
from lora_analysis.adapter import Adapter
from lora_analysis.merging.api import merge_loras
from sources import adapter_of
from test_merge_methods import WEIGHTS, assert_close, matrix, stored, write

BASELINE = Path(__file__).parent / "baselines" / "knots.json"
EQUAL = [1.0, 1.0, 1.0]
SEED = 6


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("peft")
    return pytest.importorskip("torch", reason="the peer needs torch: pip install torch==2.13.0")


# -- PEFT's functions, on the true deltas ------------------------------------------------------------


def every_mix() -> list[tuple[str, list[Adapter]]]:
    """Three adapters of different kinds, so that every kind takes part."""
    mixes = []
    for name, kinds in ((MODULE, LINEAR_KINDS), (CONV, CONV_KINDS)):
        makers = list(kinds.values())
        mixes += [
            (name, [adapter_of(makers[(shift + i) % len(makers)](i + 1)) for i in range(3)])
            for shift in range(len(makers))
        ]
    return mixes


def with_our_masks(torch: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """PEFT draws one mask per adapter, in their order; here it draws the one that a seed gives us."""
    drawn = iter(range(99))

    def bernoulli(chances: Any) -> Any:
        return torch.tensor(oracle.random_of(SEED, name, next(drawn), chances.shape)) < chances

    monkeypatch.setattr(torch, "bernoulli", bernoulli)


# Method, its options, the weights here, and PEFT's weights for the same: see docs/merge.md, "What PEFT defines alike".
SAME: list[tuple[str, str, dict[str, Any], Sequence[float], Sequence[float]]] = [
    ("weighted_sum", "task_arithmetic", {}, WEIGHTS, WEIGHTS),
    ("magnitude_prune", "magnitude_prune", {"density": 0.3}, WEIGHTS, WEIGHTS),
    ("dare_linear", "dare_linear", {"density": 0.4, "seed": SEED}, WEIGHTS, WEIGHTS),
    ("dare_linear", "dare_linear", {"density": 1.0}, WEIGHTS, WEIGHTS),
    ("ties", "ties", {"density": 0.3, "threshold": "layer"}, [1 / 3] * 3, EQUAL),
    ("ties", "ties", {"density": 1.0, "threshold": "layer"}, [1 / 3] * 3, EQUAL),
    ("dare_ties", "dare_ties", {"density": 0.4, "seed": SEED}, [1 / 3] * 3, EQUAL),
]


@pytest.mark.filterwarnings("ignore:The density")
@pytest.mark.parametrize(("method", "function", "options", "ours", "theirs"), SAME)
def test_the_rule_of_peft_on_the_delta_is_ours(
    method: str, function: str, options: dict[str, Any], ours: Sequence[float], theirs: Sequence[float],
    torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from peft.utils import merge_utils

    rule: Callable[..., Any] = getattr(merge_utils, function)
    for number, (name, inputs) in enumerate(every_mix()):
        target = tmp_path / f"{number}.safetensors"
        rank = {"rank": OUT} if options else {}
        write(target, inputs, list(ours), method=method, **options, **rank)
        deltas = [torch.tensor(matrix(adapter, name)) for adapter in inputs]
        if "seed" in options:
            with_our_masks(torch, monkeypatch, name)
        density = {"density": options["density"]} if options else {}
        wanted = rule(deltas, torch.tensor(list(theirs), dtype=torch.float64), **density)
        monkeypatch.undo()
        assert_close(stored(target, name), wanted.numpy())


def test_ties_of_unequal_weights_is_not_pefts(torch: Any, tmp_path: Path) -> None:
    """PEFT elects signs without the weights, and divides by a count of them."""
    from peft.utils.merge_utils import ties

    name, inputs = every_mix()[0]
    write(tmp_path / "out.safetensors", inputs, WEIGHTS, method="ties", density=0.3, threshold="layer", rank=OUT)
    deltas = [torch.tensor(matrix(adapter, name)) for adapter in inputs]
    theirs = ties(deltas, torch.tensor(WEIGHTS, dtype=torch.float64), 0.3).numpy()
    found = stored(tmp_path / "out.safetensors", name)
    assert np.linalg.norm(found - theirs) > 0.1 * np.linalg.norm(found)


# -- PEFT's add_weighted_adapter, on a model ---------------------------------------------------------

FULL = 12  # no layer below has a larger smaller side
TARGETS = ("first", "second", "head")


@pytest.fixture(scope="module")
def trained(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model with two adapters of different rank and scale, and where they are saved."""
    import peft

    from test_peers import Toy

    folder = tmp_path_factory.mktemp("peft")
    torch.manual_seed(1)
    model = peft.get_peft_model(Toy(), peft.LoraConfig(r=3, lora_alpha=6, target_modules=list(TARGETS)), "one")
    model.add_adapter("two", peft.LoraConfig(r=2, lora_alpha=12, target_modules=list(TARGETS), use_rslora=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    return model, folder


RUN = [
    ("magnitude_prune", "magnitude_prune_svd", {"density": 0.4}, [0.8, -0.3], [0.8, -0.3]),
    ("ties", "ties_svd", {"density": 0.4, "threshold": "layer"}, [0.5, 0.5], [1.0, 1.0]),
    ("dare_linear", "dare_linear_svd", {"density": 1.0}, [0.8, -0.3], [0.8, -0.3]),
    ("dare_ties", "dare_ties_svd", {"density": 1.0}, [0.5, 0.5], [1.0, 1.0]),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("rank", [2, 3])  # above a layer's smaller side PEFT makes factors that do not fit
@pytest.mark.parametrize(("method", "combination", "options", "ours", "theirs"), RUN)
def test_peft_makes_the_same_adapter(
    method: str, combination: str, options: dict[str, Any], ours: list[float], theirs: list[float], rank: int,
    trained: tuple[Any, Path], tmp_path: Path,
) -> None:  # fmt: skip
    model, folder = trained
    name = f"{combination}{rank}"
    model.add_weighted_adapter(
        ["one", "two"], theirs, name, combination_type=combination, density=options["density"], svd_rank=rank
    )
    done = merge_loras(
        [folder / "one", folder / "two"], ours, tmp_path / "out", FULL, method=method, normalize=False, **options
    )
    assert done["success"], done["error"]
    modules = dict(model.named_modules())
    with open_adapter(tmp_path / "out") as made:
        for module in TARGETS:
            layer = modules[f"base_model.model.{module}"]
            a, b = (factors[name].weight.detach().double().numpy() for factors in (layer.lora_A, layer.lora_B))
            found = materialise(made.layers[f"base_model.model.{module}"])
            # Cut to PEFT's rank densely: our own way of cutting has tests of its own.
            assert_close(b @ a, oracle.truncated(found, rank), 1e-5)


# -- KnOTS -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["knots_ties", "ties"])
def test_knots_published_code_makes_the_same(method: str, tmp_path: Path) -> None:
    """Over two layers together. It keeps one entry more than a fraction says, and multiplies the mean by a number."""
    baseline = json.loads(BASELINE.read_text())
    names = {"a": MODULE, "b": "lora_unet_mid_block_attentions_0_proj_in"}
    inputs = [
        adapter_of(
            {
                f"{names[short]}.lora_{side}.weight": np.array(factors[side], np.float32)
                for short, factors in layers.items()
                for side in ("up", "down")
            }
        )
        for layers in baseline["inputs"]
    ]
    published = baseline[method]
    write(
        tmp_path / "out.safetensors", inputs, EQUAL, normalize=True, method=method, threshold="global",
        density=published["kept"] / published["entries"], lambda_=baseline["scaling"], rank=7,
    )  # fmt: skip
    for short, values in published["merged"].items():
        assert_close(stored(tmp_path / "out.safetensors", names[short]), np.array(values), 1e-6)
