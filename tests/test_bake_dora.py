"""DoRA baked where adapter and checkpoint disagree about what is one weight: fused beside split, split beside fused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lora_analysis as la
from adapters import Arrays, normal, save
from command import lora
from lora_analysis.baking import arithmetic
from lora_analysis.formats.checkpoint import Checkpoint, open_checkpoint
from test_base_shards import in_shards

H = 8
QKV = "diffusion_model.double_blocks.0.img_attn.qkv"
LINEAR1 = "diffusion_model.single_blocks.0.linear1"
MODULATION = "diffusion_model.final_layer.adaLN_modulation.1"
SPLIT = {  # every part by the fused module it is rows of, in their order there
    QKV: {f"transformer_blocks.0.attn.to_{part}.weight": (H, H) for part in "qkv"},
    LINEAR1: {
        **{f"single_transformer_blocks.0.attn.to_{part}.weight": (H, H) for part in "qkv"},
        "single_transformer_blocks.0.proj_mlp.weight": (4 * H, H),
    },
}
PARTS = {
    key: normal(number, *shape) * (1 + number)
    for number, (key, shape) in enumerate((key, shape) for parts in SPLIT.values() for key, shape in parts.items())
}


def fused(name: str) -> np.ndarray:
    return np.concatenate([PARTS[key] for key in SPLIT[name]])


def plain(name: str, out: int, seed: int) -> Arrays:
    return {
        f"{name}.lora_down.weight": normal(seed, 3, H),
        f"{name}.lora_up.weight": normal(seed + 1, out, 3),
        f"{name}.alpha": np.array(1.5, np.float32),
    }


def lokr(name: str, out: int, seed: int) -> Arrays:
    return {f"{name}.lokr_w1": normal(seed, out // 4, 2), f"{name}.lokr_w2": normal(seed + 1, 4, H // 2)}


def loha(name: str, out: int, seed: int) -> Arrays:
    shapes = {"w1_a": (out, 2), "w1_b": (2, H), "w2_a": (out, 2), "w2_b": (2, H)}
    return {f"{name}.hada_{part}": normal(seed + n, *shape) for n, (part, shape) in enumerate(shapes.items())}


def full(name: str, out: int, seed: int) -> Arrays:
    return {f"{name}.diff": normal(seed, out, H)}


def dense_delta(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """In float64, straight from the definitions."""
    held = {key.removeprefix(f"{name}."): array.astype(float) for key, array in arrays.items()}
    if "diff" in held:
        return held["diff"]
    if "lokr_w1" in held:
        return np.kron(held["lokr_w1"], held["lokr_w2"])
    if "hada_w1_a" in held:
        return (held["hada_w1_a"] @ held["hada_w1_b"]) * (held["hada_w2_a"] @ held["hada_w2_b"])
    return float(held["alpha"]) / 3 * held["lora_up.weight"] @ held["lora_down.weight"]


def magnitude(name: str, out: int, axis: str, seed: int) -> Arrays:
    shape = (out, 1) if axis == "out" else (1, H)
    return {f"{name}.dora_scale": np.abs(normal(seed, *shape)) + 0.5}


def baked(base: np.ndarray, delta: np.ndarray, trained: np.ndarray, weight: float) -> np.ndarray:
    """One row, or one column, at a time."""
    base = base.astype(float)
    whole = base + delta
    made = np.empty_like(whole)
    for i, norm in enumerate(trained.astype(float).ravel()):
        place = (i,) if trained.shape[1] == 1 else (slice(None), i)
        made[place] = norm * whole[place] / np.sqrt(np.sum(whole[place] ** 2))
    return base + weight * (made - base)


def checkpoint(folder: Path, weights: Arrays, kind: str) -> Path:
    return in_shards(folder / "base", weights) if kind == "shards" else save(folder / "base.safetensors", weights)


def read(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as source:
        return {key: np.array(source.array(key)) for key in source.homes}


def target(folder: Path, kind: str, name: str = "out") -> Path:
    return folder / (name if kind == "shards" else f"{name}.safetensors")


KINDS = {"lora": plain, "lokr": lokr, "loha": loha, "full": full}


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows in every weight, the last one shorter."""
    monkeypatch.setattr(arithmetic, "_BLOCK_VALUES", 3 * H)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("weight", [1.0, 0.6])
@pytest.mark.parametrize("files", ["one file", "shards"])
@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [QKV, LINEAR1])
def test_a_fused_layer_is_baked_into_the_weights_of_its_parts(
    name: str, kind: str, axis: str, files: str, weight: float, tmp_path: Path
) -> None:
    base = fused(name)
    arrays = KINDS[kind](name, len(base), 20) | magnitude(name, len(base), axis, 30)
    adapter = save(tmp_path / "a.safetensors", arrays)
    out = target(tmp_path, files)
    source = checkpoint(tmp_path, PARTS, files)
    report = la.bake(source, [adapter], [weight], out, family="flux1")
    wanted = baked(base, dense_delta(arrays, name), arrays[f"{name}.dora_scale"], weight)
    found = read(out)
    np.testing.assert_allclose(np.concatenate([found[key] for key in SPLIT[name]]), wanted, rtol=2e-7, atol=1e-7)
    assert report.to_dict()["tensors_changed"] == len(SPLIT[name])
    for key in PARTS.keys() - SPLIT[name].keys():
        np.testing.assert_array_equal(found[key], PARTS[key])


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("files", ["one file", "shards"])
@pytest.mark.parametrize("axis", ["out", "in"])
def test_split_layers_are_baked_into_their_rows_of_a_fused_weight(axis: str, files: str, tmp_path: Path) -> None:
    names = {
        f"transformer.{key.removesuffix('.weight')}": (key, len(PARTS[key]))
        for parts in SPLIT.values()
        for key in parts
    }
    lacking = "transformer.transformer_blocks.0.attn.to_k"  # its rows stay as they are
    arrays: Arrays = {}
    for number, (name, (_, out)) in enumerate(names.items()):
        if name != lacking:
            arrays |= plain(name, out, 20 + 2 * number) | magnitude(name, out, axis, 60 + number)
    adapter = save(tmp_path / "a.safetensors", arrays)
    base = {f"{name.removeprefix('diffusion_model.')}.weight": fused(name) for name in SPLIT}
    out = target(tmp_path, files)
    la.bake(checkpoint(tmp_path, base, files), [adapter], [0.6], out, family="flux1")
    found = read(out)
    for name, parts in SPLIT.items():
        wanted = []
        for key in parts:
            layer = f"transformer.{key.removesuffix('.weight')}"
            own = {k: a for k, a in arrays.items() if k.startswith(f"{layer}.")}
            delta = dense_delta(own, layer) if own else np.zeros_like(PARTS[key])
            trained = own.get(f"{layer}.dora_scale")
            wanted.append(PARTS[key] if trained is None else baked(PARTS[key], delta, trained, 0.6))
        made = found[f"{name.removeprefix('diffusion_model.')}.weight"]
        np.testing.assert_allclose(made, np.concatenate(wanted), rtol=2e-7, atol=1e-7)


@pytest.mark.usefixtures("short_blocks")
def test_several_adapters_refer_to_the_base_each(tmp_path: Path) -> None:
    """Column norms of the fused weight, row norms of one part, and a plain delta, all on the same tensors."""
    name, part = QKV, "transformer.transformer_blocks.0.attn.to_k"
    key = "transformer_blocks.0.attn.to_k.weight"
    base = fused(name)
    one = plain(name, len(base), 20) | magnitude(name, len(base), "in", 30)
    two = plain(part, H, 40) | magnitude(part, H, "out", 50)
    three = plain(name, len(base), 60)
    paths = [save(tmp_path / f"{n}.safetensors", arrays) for n, arrays in enumerate((one, two, three))]
    done = lora(
        "bake", checkpoint(tmp_path, PARTS, "shards"), *(f"{p}:{w}" for p, w in zip(paths, (1, 0.5, -2), strict=True)),
        "--base-model", "flux1", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    wanted = baked(base, dense_delta(one, name), one[f"{name}.dora_scale"], 1.0) - 2 * dense_delta(three, name)
    wanted[H : 2 * H] += baked(PARTS[key], dense_delta(two, part), two[f"{part}.dora_scale"], 0.5) - PARTS[key]
    found = read(tmp_path / "out")
    np.testing.assert_allclose(np.concatenate([found[k] for k in SPLIT[name]]), wanted, rtol=2e-7, atol=1e-6)


@pytest.mark.parametrize("axis", ["out", "in"])
def test_halves_that_change_places_keep_their_norms(axis: str, tmp_path: Path) -> None:
    arrays = plain(MODULATION, 2 * H, 20) | magnitude(MODULATION, 2 * H, axis, 30)
    adapter = save(tmp_path / "a.safetensors", arrays)
    base = {"norm_out.linear.weight": normal(5, 2 * H, H)}  # scale, shift; the adapter's model has shift, scale
    la.bake(save(tmp_path / "b.safetensors", base), [adapter], None, tmp_path / "o.safetensors", family="flux1")
    [weight] = base.values()
    swapped = np.concatenate([weight[H:], weight[:H]])
    wanted = baked(swapped, dense_delta(arrays, MODULATION), arrays[f"{MODULATION}.dora_scale"], 1.0)
    [found] = read(tmp_path / "o.safetensors").values()
    np.testing.assert_allclose(found, np.concatenate([wanted[H:], wanted[:H]]), rtol=2e-7, atol=1e-7)


def test_threads_do_not_change_a_bit_and_norms_are_calculated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = plain(QKV, 3 * H, 20) | magnitude(QKV, 3 * H, "in", 30)
    arrays |= plain(LINEAR1, 7 * H, 40) | magnitude(LINEAR1, 7 * H, "in", 50)
    adapter, base = save(tmp_path / "a.safetensors", arrays), checkpoint(tmp_path, PARTS, "shards")
    read_again: list[str] = []
    array = Checkpoint.array

    def counted(self: Checkpoint, key: str) -> Any:
        read_again.append(key)
        return array(self, key)

    monkeypatch.setattr(Checkpoint, "array", counted)
    for workers in (1, 2):
        la.bake(base, [adapter], None, tmp_path / f"out-{workers}", family="flux1", workers=workers)
    assert len(read_again) == 2 * (2 + 3)  # the other parts of each layer, once per run
    for file in sorted((tmp_path / "out-1").glob("*.safetensors")):
        assert file.read_bytes() == (tmp_path / "out-2" / file.name).read_bytes()


def test_a_part_that_is_missing_is_refused(tmp_path: Path) -> None:
    adapter = save(tmp_path / "a.safetensors", plain(QKV, 3 * H, 20) | magnitude(QKV, 3 * H, "in", 30))
    lacking = dict(list(PARTS.items())[:2])
    done = lora(
        "bake", save(tmp_path / "b.safetensors", lacking), adapter, "--base-model", "flux1", "-o",
        tmp_path / "o.safetensors",
    )  # fmt: skip
    assert done.code == 2
    assert "the checkpoint has no such weight" in done.err
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize("on_rows", [False, True], ids=["columns", "rows"])
def test_the_result_is_what_lycoris_computes_with_the_fused_module(*, on_rows: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    locon = pytest.importorskip("lycoris.modules.locon")
    base = torch.nn.Linear(H, 3 * H, bias=False)
    with torch.no_grad():
        base.weight.copy_(torch.from_numpy(fused(QKV)))
    torch.manual_seed(0)
    module = locon.LoConModule(
        "lora", base, multiplier=1.0, lora_dim=3, alpha=2, weight_decompose=True, wd_on_out=on_rows
    )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "lora" in name:
                parameter.normal_(std=0.4)
            elif "dora" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    module.apply_to()
    inputs = torch.randn(6, H)
    with torch.no_grad():
        expected = base.eval()(inputs).double().numpy()
    state = {f"{QKV}.{key}": value.detach().float().numpy() for key, value in module.custom_state_dict().items()}
    assert state[f"{QKV}.dora_scale"].shape == ((3 * H, 1) if on_rows else (1, H))
    adapter = save(tmp_path / "a.safetensors", {key: np.ascontiguousarray(value) for key, value in state.items()})
    la.bake(save(tmp_path / "b.safetensors", PARTS), [adapter], None, tmp_path / "o.safetensors", family="flux1")
    found = read(tmp_path / "o.safetensors")
    made = np.concatenate([found[key] for key in SPLIT[QKV]]).astype(float)
    np.testing.assert_allclose(inputs.double().numpy() @ made.T, expected, rtol=1e-4, atol=1e-5)


def test_the_plan_names_every_part(tmp_path: Path) -> None:
    adapter = save(tmp_path / "a.safetensors", plain(QKV, 3 * H, 20) | magnitude(QKV, 3 * H, "in", 30))
    base = checkpoint(tmp_path, PARTS, "one file")
    done = lora("bake", base, adapter, "--base-model", "flux1", "--dry-run", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["tensors_changed"] == 3
