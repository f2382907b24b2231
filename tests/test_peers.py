"""Our deltas against those the trainers' own libraries compute: PEFT and LyCORIS, built for real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from lora_analysis.adapter import Layer

torch = pytest.importorskip("torch", reason="the peers need torch: pip install torch==2.13.0")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]

TOLERANCE = 1e-5  # relative to the delta's norm: the peers compute in float32


def assert_same_delta(layer: Layer, expected: np.ndarray) -> None:
    found = la.materialise(layer)
    if layer.base_transposed:
        found = found.T
    found = found.reshape(expected.shape)
    scale = np.linalg.norm(expected)
    assert scale > 0
    assert np.linalg.norm(found - expected) <= TOLERANCE * scale


# -- PEFT --------------------------------------------------------------------------------------------


class Toy(torch.nn.Module):
    """One of each layer PEFT can adapt."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(23, 12)
        self.first = torch.nn.Linear(12, 20)
        self.second = torch.nn.Linear(20, 8, bias=True)
        self.conv1 = torch.nn.Conv1d(6, 10, 3)
        self.conv2 = torch.nn.Conv2d(6, 10, 3)
        self.point = torch.nn.Conv2d(6, 10, 1)
        self.conv3 = torch.nn.Conv3d(4, 6, (1, 2, 2))
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x):  # pragma: no cover - PEFT only needs the modules
        return self.head(self.second(self.first(self.embed(x))))


def saved(tmp_path: Path, config) -> tuple[object, la.Adapter]:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = peft.get_peft_model(Toy(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "hada_" in name or "lokr_" in name:
                parameter.normal_(std=0.3)
            if "magnitude" in name:
                parameter.abs_()
    model.save_pretrained(tmp_path)
    return model, la.open(tmp_path)


def peft_deltas(model) -> dict[str, np.ndarray]:
    """``{module path: delta}`` as PEFT's own layers compute it."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight") and hasattr(module, "base_layer"):
            with torch.no_grad():
                found[name] = module.get_delta_weight("default").double().numpy()
    return found


def check_all(model, adapter) -> int:
    deltas = peft_deltas(model)
    assert deltas
    layers = {name: layer for name, layer in adapter.layers.items() if layer.opaque is None}
    assert set(layers) == set(deltas)
    for name, expected in deltas.items():
        assert_same_delta(layers[name], expected)
    return len(deltas)


LORA_CASES = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["first", "second", "conv2", "point", "conv1", "conv3"]},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["first", "second"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["first", "second", "head"],
        "rank_pattern": {"second": 2, "^head": 3},
        "alpha_pattern": {".*first": 5},
    },
    "rslora-patterns": {
        "r": 4,
        "lora_alpha": 8,
        "use_rslora": True,
        "target_modules": ["first", "second"],
        "rank_pattern": {"second": 2},
        "alpha_pattern": {"second|other": 3},
    },
    "embedding": {"r": 4, "lora_alpha": 6, "target_modules": ["embed", "first"]},
    "saved-modules": {"r": 2, "lora_alpha": 2, "target_modules": ["first"], "modules_to_save": ["head"]},
    "dora": {"r": 4, "lora_alpha": 8, "use_dora": True, "target_modules": ["first", "second", "conv2"]},
    "lora-bias": {"r": 4, "lora_alpha": 8, "lora_bias": True, "target_modules": ["first", "second"]},
}


@pytest.mark.parametrize("case", LORA_CASES)
def test_lora_deltas_equal_pefts_own(case: str, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    options = LORA_CASES[case]
    model, adapter = saved(tmp_path, peft.LoraConfig(**options))
    assert check_all(model, adapter) == len(options["target_modules"])
    assert adapter.dialect == "peft"
    assert adapter.unrecognised_keys == ()
    assert {layer.scale_origin for layer in adapter.layers.values()} == {"config"}
    assert adapter.algorithm == ("dora" if case == "dora" else "lora")


def test_lora_bias_is_scaled_like_the_weight(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, adapter = saved(tmp_path, peft.LoraConfig(**LORA_CASES["lora-bias"]))
    module = model.base_model.model.first
    expected = module.lora_B["default"].bias.detach().double().numpy() * module.scaling["default"]
    vector = adapter.layers["base_model.model.first"].bias()
    assert vector is not None
    np.testing.assert_allclose(np.asarray(vector.values, np.float64) * vector.scale, expected, rtol=1e-6)


def test_dora_magnitudes_are_row_norms(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, adapter = saved(tmp_path, peft.LoraConfig(**LORA_CASES["dora"]))
    for path in ("first", "second", "conv2"):
        expected = getattr(model.base_model.model, path).lora_magnitude_vector["default"].weight.detach().numpy()
        magnitude = adapter.layers[f"base_model.model.{path}"].magnitude()
        assert magnitude is not None
        assert magnitude.axis == "out"
        np.testing.assert_array_equal(magnitude.values, expected.reshape(-1))


def test_saved_modules_are_extras_not_layers(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    _, adapter = saved(tmp_path, peft.LoraConfig(**LORA_CASES["saved-modules"]))
    assert {extra.key for extra in adapter.extras if extra.category == "saved-module"} == {
        "base_model.model.head.weight",
        "base_model.model.head.bias",
    }


@pytest.mark.parametrize("effective", [False, True])
def test_loha_deltas_equal_pefts_own(effective: bool, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    targets = ["first", "second", "conv2", "point"]
    config = peft.LoHaConfig(r=3, alpha=5, target_modules=targets, use_effective_conv2d=effective)
    model, adapter = saved(tmp_path, config)
    assert check_all(model, adapter) == 4
    assert adapter.algorithm == "loha"


@pytest.mark.parametrize("effective", [False, True])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("rank", [1, 2, 64])
def test_lokr_deltas_equal_pefts_own(rank: int, both: bool, effective: bool, tmp_path: Path) -> None:
    """Rank 64 leaves both sides whole: PEFT still applies alpha / r."""
    peft = pytest.importorskip("peft")
    config = peft.LoKrConfig(
        r=rank,
        alpha=5,
        target_modules=["first", "second", "conv2", "point"],
        decompose_both=both,
        decompose_factor=4,
        use_effective_conv2d=effective,
    )
    model, adapter = saved(tmp_path, config)
    assert check_all(model, adapter) == 4
    assert adapter.algorithm == "lokr"


def test_adalora_deltas_equal_pefts_own(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.AdaLoraConfig(
        init_r=6, target_r=3, lora_alpha=8, total_step=10, target_modules=["first", "second"], tinit=1, tfinal=2
    )
    model, adapter = saved(tmp_path, config)
    assert check_all(model, adapter) == 2
    assert adapter.algorithm == "adalora"


def test_gpt2_style_layers_are_transposed(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    from transformers.pytorch_utils import Conv1D

    assert transformers
    base = torch.nn.Sequential()
    base.add_module("c_attn", Conv1D(30, 10))
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True)
    torch.manual_seed(1)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        model.base_model.model.c_attn.lora_B["default"].weight.normal_()
    model.save_pretrained(tmp_path)
    adapter = la.open(tmp_path)
    layer = adapter.layers["base_model.model.c_attn"]
    assert layer.shape == (30, 10)
    assert layer.base_transposed
    assert_same_delta(layer, peft_deltas(model)["base_model.model.c_attn"])


def test_expert_parameters_equal_pefts_own(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    class Experts(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down_proj = torch.nn.Parameter(torch.randn(4, 6, 10))

        def forward(self, x):  # pragma: no cover
            return x @ self.down_proj

    class Moe(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = Experts()

        def forward(self, x):  # pragma: no cover
            return self.experts(x)

    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=[], target_parameters=["experts.down_proj"])
    torch.manual_seed(2)
    model = peft.get_peft_model(Moe(), config)
    wrapper = model.base_model.model.experts
    with torch.no_grad():
        wrapper.lora_B["default"].weight.normal_()
    expected = wrapper.get_delta_weight("default").detach().double().numpy()
    model.save_pretrained(tmp_path)
    layer = next(iter(la.open(tmp_path).layers.values()))
    found = la.materialise(layer)
    if found.shape != expected.shape:  # PEFT keeps the parameter's own order: (experts, in, out) or (experts, out, in)
        found = found.transpose(0, 2, 1)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * np.linalg.norm(expected))


# Methods of PEFT 0.21 that are no factored delta: named, every tensor accounted for, nothing guessed.
OTHER_METHODS = {
    "AdamssConfig": "adamss",
    "BeftConfig": "beft",
    "DeftConfig": "deft",
    "DeloraConfig": "delora",
    "GloraConfig": "glora",
    "HRAConfig": "hra",
    "HiraConfig": "hira",
    "MissConfig": "miss",
    "PolyConfig": "poly",
    "PsoftConfig": "psoft",
    "PveraConfig": "pvera",
    "RandLoraConfig": "randlora",
    "TinyLoraConfig": "tinylora",
}


@pytest.mark.parametrize(("config", "algorithm"), OTHER_METHODS.items())
def test_further_methods_of_peft_are_named_and_leave_no_tensor_over(
    config: str, algorithm: str, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    if not hasattr(peft, config):
        pytest.skip(f"this PEFT has no {config}")
    options = {"r": 4} if config in ("GloraConfig", "HiraConfig", "PsoftConfig", "RandLoraConfig", "MissConfig") else {}
    _, adapter = saved(tmp_path, getattr(peft, config)(target_modules=["first", "second"], **options))
    assert adapter.algorithm == algorithm
    assert sorted(adapter.layers) == ["base_model.model.first", "base_model.model.second"]
    assert all(layer.opaque for layer in adapter.layers.values())
    assert adapter.unrecognised_keys == ()


def test_sharded_weights_are_read_as_one(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from safetensors.numpy import load_file, save_file

    model, adapter = saved(tmp_path, peft.LoraConfig(**LORA_CASES["plain"]))
    adapter.close()
    whole = tmp_path / "adapter_model.safetensors"
    tensors = load_file(whole)
    names = sorted(tensors)
    shards = {
        "adapter_model-00001-of-00002.safetensors": names[::2],
        "adapter_model-00002-of-00002.safetensors": names[1::2],
    }
    for shard, keys in shards.items():
        save_file({key: tensors[key] for key in keys}, tmp_path / shard)
    whole.unlink()
    index = {"metadata": {}, "weight_map": {key: shard for shard, keys in shards.items() for key in keys}}
    (tmp_path / "adapter_model.safetensors.index.json").write_text(json.dumps(index))
    with la.open(tmp_path) as joined:
        assert check_all(model, joined) == 6


# -- LyCORIS -----------------------------------------------------------------------------------------

BASES = {
    "linear": lambda: torch.nn.Linear(24, 36),
    "conv1x1": lambda: torch.nn.Conv2d(8, 12, 1),
    "conv3x3": lambda: torch.nn.Conv2d(8, 12, 3, padding=1),
    "conv1d": lambda: torch.nn.Conv1d(8, 12, 3),
}

LYCORIS_CASES = {
    "locon": ("locon", "LoConModule", {}),
    "locon-tucker": ("locon", "LoConModule", {"use_tucker": True}),
    "locon-rs": ("locon", "LoConModule", {"rs_lora": True}),
    "locon-dora": ("locon", "LoConModule", {"weight_decompose": True, "wd_on_out": True}),
    "locon-dora-in": ("locon", "LoConModule", {"weight_decompose": True, "wd_on_out": False}),
    "loha": ("loha", "LohaModule", {}),
    "loha-tucker": ("loha", "LohaModule", {"use_tucker": True}),
    "lokr": ("lokr", "LokrModule", {"factor": 4}),
    "lokr-both": ("lokr", "LokrModule", {"factor": -1, "decompose_both": True}),
    "lokr-whole": ("lokr", "LokrModule", {"factor": 4, "lora_dim": 100000, "alpha": 1}),
    "lokr-tucker": ("lokr", "LokrModule", {"factor": 4, "use_tucker": True}),
    "full": ("full", "FullModule", {}),
}


def lycoris_module(name: str, base):
    pytest.importorskip("lycoris")
    import importlib

    home, class_name, options = LYCORIS_CASES[name]
    module_class = getattr(importlib.import_module(f"lycoris.modules.{home}"), class_name)
    options = {"lora_dim": 3, "alpha": 2, **options}
    torch.manual_seed(3)
    module = module_class("lora_unet_block", base, multiplier=1.0, **options)
    module.apply_to()
    with torch.no_grad():
        for key, parameter in module.named_parameters():
            if "dora" not in key and "org" not in key:
                parameter.normal_(std=0.4)
    return module


def lycoris_state(module) -> dict[str, np.ndarray]:
    return {
        f"lora_unet_block.{key}": value.detach().float().numpy() for key, value in module.custom_state_dict().items()
    }


@pytest.mark.parametrize("base_name", BASES)
@pytest.mark.parametrize("case", LYCORIS_CASES)
def test_deltas_equal_lycoris_own(case: str, base_name: str, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    base = BASES[base_name]()
    weight, bias = base.weight.detach().clone(), base.bias.detach().clone()
    module = lycoris_module(case, base)
    state = lycoris_state(module)
    save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, tmp_path / "lycoris.safetensors")
    adapter = la.open(tmp_path / "lycoris.safetensors")
    layer = adapter.layers["lora_unet_block"]
    if "dora" in case:  # the forward pass also applies the norms
        assert layer.magnitude_axis == ("in" if case.endswith("in") else "out")
        assert_same_delta(layer, module.get_diff_weight(1.0, weight.shape)[0].detach().double().numpy())
    else:
        assert_same_output(layer, base, weight, bias)
    assert adapter.unrecognised_keys == ()


def assert_same_output(layer: Layer, base, weight, bias) -> None:
    """What the adapted module computes is what the base computes with our delta added: no helper of theirs used."""
    delta = torch.from_numpy(la.materialise(layer)).reshape(weight.shape)
    extra = layer.bias()
    bias = bias.double() + (torch.from_numpy(np.asarray(extra.values, np.float64)) if extra else 0)
    inputs = torch.randn((5, 24) if weight.ndim == 2 else (2, 8, *(7,) * (weight.ndim - 2)))
    name = {2: "linear", 3: "conv1d", 4: "conv2d"}[weight.ndim]
    padding = {"padding": base.padding} if name != "linear" else {}
    function = getattr(torch.nn.functional, name)
    expected = function(inputs.double(), weight.double() + delta, bias, **padding)
    plain = function(inputs.double(), weight.double(), bias, **padding)
    with torch.no_grad():
        found = base.eval()(inputs).double()
    assert (found - expected).norm() <= TOLERANCE * (expected - plain).norm() + 1e-6 * expected.norm()
