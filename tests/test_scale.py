"""Where the scale of a layer comes from: tensor, header, config, default, in that order."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest

from lora_analysis.formats.adapter_config import pattern_value, unusable_patterns
from sources import BF16, adapter_of

RANK = 4


def pair(
    module: str, rank: int = RANK, spelling: tuple[str, str] = ("lora_A.weight", "lora_B.weight")
) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    down, up = spelling
    return {
        f"{module}.{down}": rng.standard_normal((rank, 6)).astype(np.float32),
        f"{module}.{up}": rng.standard_normal((5, rank)).astype(np.float32),
    }


def test_modules_of_one_form_keep_scales_of_their_own() -> None:
    """Opening describes equal modules once: what differs by value or by name must not be shared."""
    arrays: dict[str, Any] = {}
    for index, alpha in enumerate((2, 2, 8, 0.0, math.inf, math.nan, 2)):
        arrays |= {**pair(f"lora_unet_{index}", spelling=KOHYA), f"lora_unet_{index}.alpha": np.float32(alpha)}
    adapter = adapter_of(arrays)
    assert [layer.scale for layer in adapter.layers.values()] == [0.5, 0.5, 2.0, 0.0, 1.0, 1.0, 0.5]
    assert [bool(layer.opaque) for layer in adapter.layers.values()] == [False] * 4 + [True] * 2 + [False]
    assert [finding.layer for finding in adapter.findings if finding.code.startswith("alpha")] == [
        f"lora_unet_{index}" for index in (3, 4, 5)
    ]
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "alpha_pattern": {"b": 8}}
    patterned = adapter_of({**pair("base_model.model.a"), **pair("base_model.model.b")}, config=config)
    assert [layer.scale for layer in patterned.layers.values()] == [1.0, 2.0]
    components = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 4, "text_encoder.lora_alpha": 8})}
    headed = adapter_of({**pair("unet.a"), **pair("text_encoder.a")}, metadata=components)
    assert [layer.scale for layer in headed.layers.values()] == [1.0, 2.0]


def test_layers_of_one_form_read_their_own_tensors() -> None:
    arrays: dict[str, Any] = {}
    for index in range(3):
        down, up = np.full((2, 6), index + 1.0, np.float32), np.full((5, 2), 1.0, np.float32)
        arrays |= {f"m{index}.lora_A.weight": down, f"m{index}.lora_B.weight": up}
        arrays |= {f"m{index}.lora_B.bias": np.full(5, float(index), np.float32)}
        arrays |= {f"m{index}.dora_scale": np.full((5, 1), index + 7.0, np.float32)}
    for index, layer in enumerate(adapter_of(arrays).layers.values()):
        assert layer.name == f"m{index}"
        assert float(layer.update().down[0, 0]) == index + 1.0  # type: ignore[union-attr]
        assert float(layer.bias().values[0]) == index  # type: ignore[union-attr]
        assert float(layer.magnitude().values[0]) == index + 7.0  # type: ignore[union-attr]


def only_layer(arrays: dict[str, Any], **stated: Any):
    adapter = adapter_of(arrays, **stated)
    (layer,) = adapter.layers.values()
    return layer


KOHYA = ("lora_down.weight", "lora_up.weight")
HEADER = {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 8})}
RS_HEADER = {
    "lora_adapter_metadata": json.dumps(
        {"transformer.r": 4, "transformer.lora_alpha": 8, "transformer.use_rslora": True}
    )
}
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 12}
PEFT_NAME = "base_model.model.m.q_proj"

CASES = [
    ("alpha tensor", {**pair("lora_unet_q", spelling=KOHYA), "lora_unet_q.alpha": np.float32(2)}, {}, 2, 0.5, "tensor"),
    (
        "bf16 alpha",
        {**pair("lora_unet_q", spelling=KOHYA), "lora_unet_q.alpha": np.array(2, BF16)},
        {},
        2,
        0.5,
        "tensor",
    ),
    (
        "alpha of shape 1",
        {**pair("lora_unet_q", spelling=KOHYA), "lora_unet_q.alpha": np.float32([2])},
        {},
        2,
        0.5,
        "tensor",
    ),
    (
        "alpha beats header",
        {**pair("transformer.q"), "transformer.q.alpha": np.float32(2)},
        {"metadata": HEADER},
        2,
        0.5,
        "tensor",
    ),
    ("header pair", pair("transformer.q"), {"metadata": HEADER}, 8, 2, "header"),
    ("header rslora", pair("transformer.q"), {"metadata": RS_HEADER}, 8, 4, "header"),
    ("header of another component", pair("unet.q"), {"metadata": HEADER}, None, 1, "default"),
    (
        "flat header strings",
        pair("transformer.q"),
        {"metadata": {"transformer.r": "4", "transformer.lora_alpha": "8"}},
        8,
        2,
        "header",
    ),
    ("bare header alpha", pair("diffusion_model.q"), {"metadata": {"alpha": "8"}}, 8, 2, "header"),
    ("header beats config", pair("transformer.q"), {"metadata": HEADER, "config": CONFIG}, 8, 2, "header"),
    ("config", pair(PEFT_NAME), {"config": CONFIG}, 12, 3, "config"),
    ("config without r", pair(PEFT_NAME), {"config": {"peft_type": "LORA", "lora_alpha": 12}}, 12, 3, "config"),
    ("config's default alpha", pair(PEFT_NAME), {"config": {"peft_type": "LORA", "r": 4}}, 8, 2, "config"),
    ("config rslora", pair(PEFT_NAME), {"config": {**CONFIG, "use_rslora": True}}, 12, 6, "config"),
    ("alpha pattern", pair(PEFT_NAME), {"config": {**CONFIG, "alpha_pattern": {"q_proj": 4}}}, 4, 1, "config"),
    (
        "pattern of another module",
        pair(PEFT_NAME),
        {"config": {**CONFIG, "alpha_pattern": {"proj": 4}}},
        12,
        3,
        "config",
    ),
    (
        "ss_network_alpha is no scale",
        pair("diffusion_model.q"),
        {"metadata": {"ss_network_alpha": "1", "ss_network_dim": "4"}},
        None,
        1,
        "default",
    ),
    ("nothing", pair("diffusion_model.q"), {}, None, 1, "default"),
    (
        "scale tensor",
        {
            **pair("lora_unet_q", spelling=KOHYA),
            "lora_unet_q.scale": np.float32(0.25),
            "lora_unet_q.alpha": np.float32(2),
        },
        {},
        None,
        0.25,
        "tensor",
    ),
]


@pytest.mark.parametrize(("_name", "arrays", "stated", "alpha", "scale", "origin"), CASES, ids=[c[0] for c in CASES])
def test_scale_and_its_origin(_name: str, arrays: Any, stated: Any, alpha: Any, scale: float, origin: str) -> None:
    layer = only_layer(arrays, **stated)
    assert (layer.alpha, layer.scale, layer.scale_origin) == (alpha, scale, origin)


def test_mlx_scale_is_absolute() -> None:
    arrays = {
        "model.layers.0.q.lora_a": np.ones((6, 4), np.float32),
        "model.layers.0.q.lora_b": np.ones((4, 5), np.float32),
    }
    config = {"lora_parameters": {"rank": 4, "alpha": 16, "scale": 10.0}}
    layer = only_layer(arrays, config=config)
    assert (layer.scale, layer.scale_origin, layer.shape) == (10.0, "config", (5, 6))


def test_lokr_of_whole_sides_ignores_alpha_unless_peft_wrote_it() -> None:
    arrays = {"lokr_w1": np.ones((2, 2), np.float32), "lokr_w2": np.ones((3, 4), np.float32)}
    kohya = {f"lora_unet_q.{name}": value for name, value in arrays.items()} | {"lora_unet_q.alpha": np.float32(10000)}
    assert only_layer(kohya).scale == 1
    peft = {f"base_model.model.q.{name}": value for name, value in arrays.items()}
    assert only_layer(peft, config={"peft_type": "LOKR", "r": 8, "alpha": 4}).scale == 0.5


def test_zero_and_infinite_alpha_are_reported() -> None:
    zero = adapter_of({**pair("lora_unet_q", spelling=KOHYA), "lora_unet_q.alpha": np.float32(0)})
    assert [finding.code for finding in zero.findings] == ["alpha-zero"]
    assert zero.layers["lora_unet_q"].scale == 0
    infinite = adapter_of({**pair("lora_unet_q", spelling=KOHYA), "lora_unet_q.alpha": np.float32(math.inf)})
    assert [finding.code for finding in infinite.findings] == ["alpha-not-finite"]
    assert infinite.layers["lora_unet_q"].opaque is not None


def test_a_configured_rank_that_is_not_the_stored_one_is_reported() -> None:
    adapter = adapter_of(pair(PEFT_NAME), config={**CONFIG, "r": 64})
    assert [finding.code for finding in adapter.findings] == ["rank-conflict"]
    assert adapter.layers[PEFT_NAME].scale == 3  # alpha over the stored rank


@pytest.mark.parametrize("rank", [-4, 0, "four", 1e400, [4]])
def test_a_configured_rank_that_is_no_rank_is_an_error(rank: Any) -> None:
    adapter = adapter_of(pair(PEFT_NAME), config={**CONFIG, "r": rank})
    assert "config-rank" in [finding.code for finding in adapter.findings if finding.severity == "error"]


PATTERNS = [
    ("q_proj", "model.layers.0.q_proj", True),
    ("q_proj", "model.layers.0.mq_proj", False),
    ("^model.layers.0.q_proj", "model.layers.0.q_proj", True),
    (r"layers\.(0|1)\.q_proj", "model.layers.1.q_proj", True),
    (r".*\.layers\.[2-5]\..*", "model.layers.4.mlp.up", True),
    (r".*\.layers\.[2-5]\..*", "model.layers.6.mlp.up", False),
    ("layers.0.q.proj", "layers.0.q_proj", True),  # PEFT does not escape: a dot is any character
]


@pytest.mark.parametrize(("pattern", "module", "matches"), PATTERNS)
def test_patterns_match_as_peft_matches_them(pattern: str, module: str, matches: bool) -> None:
    assert (pattern_value({"alpha_pattern": {pattern: 3}}, "alpha_pattern", module) is not None) == matches


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(.*)*x", "(a|a)*" * 2, "(" * 5000, "[", ".*.*.*.*.*x", "(x+x+)+y", r"(a)\1", "(a{1,}){9,}"]
)
def test_patterns_that_could_run_for_ever_are_not_run(pattern: str) -> None:
    started = time.perf_counter()
    config = {"alpha_pattern": {pattern: 3}}
    assert pattern_value(config, "alpha_pattern", "a" * 200) is None
    assert unusable_patterns(config) == [pattern]
    assert time.perf_counter() - started < 0.5
