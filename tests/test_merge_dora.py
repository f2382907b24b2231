"""DoRA inputs beside their base checkpoint: merged as the differences they make."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import adapters
import lora_analysis as la
import merge_oracle as oracle
from adapters import CONV, IN, KERNEL, MODULE, OUT, normal, save
from command import lora
from lora_analysis.errors import OpaqueUpdateError, OptionError
from lora_analysis.formats.checkpoint import open_checkpoint
from lora_analysis.merging.writing import write_merge
from test_merge_methods import assert_close

BASE = {
    "unet.down_blocks.0.attentions.0.proj_in.weight": normal(50, OUT, IN),
    "unet.down_blocks.0.resnets.0.conv1.weight": normal(51, OUT, IN, *KERNEL),
}


def dora(axis: str) -> adapters.Arrays:
    shapes = {"out": ((OUT, 1), (OUT, 1, 1, 1)), "in": ((1, IN), (1, IN, 1, 1))}[axis]
    made = adapters.lora(1) | adapters.conv_lora(2)
    return made | {
        f"{name}.dora_scale": np.abs(normal(i, *shape)) + 0.5
        for i, (name, shape) in enumerate(zip((MODULE, CONV), shapes, strict=True))
    }


def difference(base: np.ndarray, delta: np.ndarray, magnitude: np.ndarray, axis: str) -> np.ndarray:
    """One row, or one input column, at a time."""
    base, changed = base.astype(float), base.astype(float) + delta
    made = np.zeros_like(changed)
    for i, trained in enumerate(magnitude.ravel().astype(float)):
        place = (i,) if axis == "out" else (slice(None), i)
        made[place] = trained * changed[place] / np.sqrt(np.sum(changed[place] ** 2)) - base[place]
    return made


def plain_delta(arrays: adapters.Arrays, name: str) -> np.ndarray:
    down, up = (arrays[f"{name}.lora_{side}.weight"].astype(float) for side in ("down", "up"))
    scale = float(arrays[f"{name}.alpha"]) / len(down)
    return scale * np.tensordot(up.reshape(len(up), -1), down, axes=(1, 0))


@pytest.mark.parametrize("axis", ["out", "in"])
def test_dora_is_merged_as_the_difference_it_makes(axis: str, tmp_path: Path) -> None:
    arrays, other = dora(axis), adapters.lora(7)
    paths = [save(tmp_path / "dora.safetensors", arrays), save(tmp_path / "plain.safetensors", other)]
    base = save(tmp_path / "base.safetensors", BASE)
    la.merge(paths, [0.7, 0.4], tmp_path / "out.safetensors", base=base, normalize=False)
    with la.open(tmp_path / "out.safetensors") as made:
        assert not any(layer.magnitude_axis for layer in made.layers.values())
        for (name, weight), second in zip(zip((MODULE, CONV), BASE.values(), strict=True), (other, None), strict=True):
            wanted = 0.7 * difference(weight, plain_delta(arrays, name), arrays[f"{name}.dora_scale"], axis)
            if second is not None:
                wanted = wanted + 0.4 * plain_delta(second, name)
            assert_close(la.materialise(made.layers[name]), wanted)


def test_methods_and_ranks_go_with_dora(tmp_path: Path) -> None:
    arrays, other = dora("out"), adapters.lora(7)
    paths = [save(tmp_path / "dora.safetensors", arrays), save(tmp_path / "plain.safetensors", other)]
    base = save(tmp_path / "base.safetensors", BASE)
    ran = lora("merge", *paths, "-o", tmp_path / "out.safetensors", "--base", base, "--method", "tsv", "--rank", 4)
    assert ran.code == 0, ran.err
    first = difference(BASE["unet.down_blocks.0.attentions.0.proj_in.weight"], plain_delta(arrays, MODULE),
                       arrays[f"{MODULE}.dora_scale"], "out")  # fmt: skip
    wanted = oracle.truncated(oracle.tsv([first, plain_delta(other, MODULE)], [0.5, 0.5]), 4)
    with la.open(tmp_path / "out.safetensors") as made:
        assert_close(la.materialise(made.layers[MODULE]), wanted, 1e-5)


def test_a_recipe_with_a_base_is_repeated_and_notices_another_base(tmp_path: Path) -> None:
    path = save(tmp_path / "dora.safetensors", dora("out"))
    base = save(tmp_path / "base.safetensors", BASE)
    la.merge([path], None, tmp_path / "out.safetensors", base=base, rank=3)
    la.repeat_merge(tmp_path / "out.safetensors", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "out.safetensors").read_bytes()
    ran = lora("merge", "--from", tmp_path / "out.safetensors", "-o", tmp_path / "cli.safetensors")
    assert ran.code == 0, ran.err
    assert (tmp_path / "cli.safetensors").read_bytes() == (tmp_path / "out.safetensors").read_bytes()
    base.unlink()
    with pytest.raises(OptionError, match=r"base checkpoint base\.safetensors is missing"):
        la.repeat_merge(tmp_path / "out.safetensors", tmp_path / "x.safetensors")
    save(tmp_path / "base.safetensors", {name: array + 1 for name, array in BASE.items()})
    with pytest.raises(OptionError, match="weights have changed"):
        la.repeat_merge(tmp_path / "out.safetensors", tmp_path / "x.safetensors")


def in_diffusers_names(number: int, name: str, shape: tuple[int, int], axis: str) -> adapters.Arrays:
    norms = {"out": (shape[0],), "in": (1, shape[1])}[axis]
    return {
        f"{name}.lora_A.weight": normal(number, 2, shape[1]),
        f"{name}.lora_B.weight": normal(number + 1, shape[0], 2),
        f"{name}.{KEPT[axis]}": np.abs(normal(number + 2, *norms)) + 0.5,
    }


@pytest.mark.parametrize("axis", ["out", "in"])
def test_the_module_table_finds_weights_of_an_original_checkpoint(axis: str, tmp_path: Path) -> None:
    """UNet blocks have other numbers there, and weights of one size: a wrong one would give another difference."""
    block = "unet.down_blocks.0.attentions.{}.transformer_blocks.0"
    original = "model.diffusion_model.input_blocks.{}.1.transformer_blocks.0"
    places = {
        f"{block.format(0)}.attn1.to_q": (f"{original.format(1)}.attn1.to_q.weight", (8, 8)),
        f"{block.format(1)}.attn1.to_q": (f"{original.format(2)}.attn1.to_q.weight", (8, 8)),
        "unet.mid_block.attentions.0.proj_in": ("model.diffusion_model.middle_block.1.proj_in.weight", (8, 8)),
        f"{block.format(0)}.attn2.to_k": (f"{original.format(1)}.attn2.to_k.weight", (8, 768)),
    }
    arrays, weights = {}, {}
    for number, (name, (key, shape)) in enumerate(places.items()):
        arrays |= in_diffusers_names(10 * number, name, shape, axis)
        weights[key] = normal(100 + number, *shape)
    check_differences(tmp_path, "sd15", arrays, weights, {n: weights[key] for n, (key, _) in places.items()}, axis)


def test_parts_of_a_fused_weight_are_its_own_rows(tmp_path: Path) -> None:
    block, key = "transformer.transformer_blocks.0.attn", "double_blocks.0.img_attn.qkv.weight"
    width = 3072  # FLUX.1's: another one is another model's
    fused = {key: normal(60, 24, width), "double_blocks.0.img_attn.proj.weight": normal(61, 8, width)}
    bases = {f"{block}.to_{part}": fused[key][8 * n : 8 * n + 8] for n, part in enumerate("qkv")}
    bases |= {f"{block}.to_out.0": fused["double_blocks.0.img_attn.proj.weight"]}
    arrays = {}
    for number, name in enumerate(bases):
        arrays |= in_diffusers_names(10 * number, name, (8, width), "out")
    plain = "transformer.single_transformer_blocks.0.attn.to_q"
    arrays |= {f"{plain}.lora_A.weight": normal(3, 2, width), f"{plain}.lora_B.weight": normal(4, 8, 2)}
    check_differences(tmp_path, "flux1", arrays, fused, bases, "out")


@pytest.mark.parametrize("axis", ["out", "in"])
def test_a_fused_layer_is_beside_the_weights_of_its_parts(axis: str, tmp_path: Path) -> None:
    """An adapter in an original checkpoint's names beside a diffusers component: q, k and v one below the other."""
    name = "diffusion_model.double_blocks.0.img_attn.qkv"
    parts = {f"transformer_blocks.0.attn.to_{part}.weight": normal(70 + n, 8, 8) for n, part in enumerate("qkv")}
    arrays = in_diffusers_names(10, name, (24, 8), axis)
    check_differences(tmp_path, "flux1", arrays, parts, {name: np.concatenate(list(parts.values()))}, axis)
    path = tmp_path / "dora.safetensors"
    lacking = save(tmp_path / "lacking.safetensors", dict(list(parts.items())[:2]))
    with pytest.raises(OptionError, match="1 of 1 DoRA layers find no weight"):
        la.merge([path], None, tmp_path / "x.safetensors", base=lacking)


def in_shards(folder: Path, weights: adapters.Arrays) -> Path:
    files = {key: f"model-{number}.safetensors" for number, key in enumerate(weights, start=1)}
    for key, file in files.items():
        save(folder / file, {key: weights[key]})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


@pytest.mark.parametrize("named", ["index", "folder"])
def test_a_base_in_shards_is_the_same_base(named: str, tmp_path: Path) -> None:
    path = save(tmp_path / "dora.safetensors", dora("out"))
    single, index = save(tmp_path / "base.safetensors", BASE), in_shards(tmp_path / "base", BASE)
    base = index if named == "index" else index.parent
    la.merge([path], None, tmp_path / "one.safetensors", base=single)
    la.merge([path], None, tmp_path / "out.safetensors", base=base)
    ran = lora("merge", path, "-o", tmp_path / "cli.safetensors", "--base", base)
    assert ran.code == 0, ran.err
    assert (tmp_path / "cli.safetensors").read_bytes() == (tmp_path / "out.safetensors").read_bytes()
    with la.open(tmp_path / "one.safetensors") as one, la.open(tmp_path / "out.safetensors") as made:
        assert made.layers.keys() == one.layers.keys()
        for name in made.layers:
            np.testing.assert_array_equal(la.materialise(made.layers[name]), la.materialise(one.layers[name]))
    la.repeat_merge(tmp_path / "out.safetensors", tmp_path / "again.safetensors", base=base)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "out.safetensors").read_bytes()
    next(index.parent.glob("model-1*")).unlink()
    assert lora("merge", path, "-o", tmp_path / "x.safetensors", "--base", base).code == 1
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("is_open", [False, True])
def test_a_plan_takes_a_base(is_open: bool, tmp_path: Path) -> None:
    path = save(tmp_path / "dora.safetensors", dora("out"))
    base = save(tmp_path / "base.safetensors", BASE)
    report = la.merge([path], None, tmp_path / "out.safetensors", base=base, rank=3)
    with la.open(path) as adapter, open_checkpoint(base) as checkpoint:
        with pytest.raises(OpaqueUpdateError, match="--base"):
            la.plan_merge([adapter], rank=3)
        plan = la.plan_merge([adapter], base=checkpoint if is_open else base, rank=3)
        assert plan.ranks == report.plan.ranks == {3: 2}
        assert plan.size_after == report.written.size
        assert plan.relative_error == pytest.approx(report.relative_error_before_rounding, rel=1e-6)
        assert plan.to_dict()["options"]["base"] == report.to_dict()["options"]["base"]
        if is_open:
            write_merge(plan, tmp_path / "planned.safetensors")
            assert (tmp_path / "planned.safetensors").read_bytes() == (tmp_path / "out.safetensors").read_bytes()


KEPT = {"out": "lora_magnitude_vector", "in": "dora_scale"}  # PEFT has norms of the rows alone


def check_differences(
    folder: Path, family: str, arrays: adapters.Arrays, weights: adapters.Arrays, bases: adapters.Arrays, axis: str
) -> None:
    """Merge one adapter beside a checkpoint: every DoRA layer is the difference to its own weight."""
    path, base = save(folder / "dora.safetensors", arrays), save(folder / "base.safetensors", weights)
    with la.open(path) as adapter:
        assert adapter.base_model.family == family
        assert {name for name, layer in adapter.layers.items() if layer.magnitude_axis == axis} == bases.keys()
    la.merge([path], None, folder / "out.safetensors", base=base)
    ran = lora("merge", path, "-o", folder / "cli.safetensors", "--base", base)
    assert ran.code == 0, ran.err
    assert (folder / "cli.safetensors").read_bytes() == (folder / "out.safetensors").read_bytes()
    with la.open(folder / "out.safetensors") as made:
        for name, weight in bases.items():
            delta = arrays[f"{name}.lora_B.weight"].astype(float) @ arrays[f"{name}.lora_A.weight"].astype(float)
            wanted = difference(weight, delta, arrays[f"{name}.{KEPT[axis]}"], axis)
            assert_close(la.materialise(made.layers[name]), wanted, 1e-5)


def test_without_a_base_dora_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = save(tmp_path / "dora.safetensors", dora("out"))
    with pytest.raises(OpaqueUpdateError, match="--base"):
        la.merge([path], None, tmp_path / "out.safetensors")


def test_a_base_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path, plain = save(tmp_path / "dora.safetensors", dora("out")), save(tmp_path / "p.safetensors", adapters.lora(1))
    base = save(tmp_path / "base.safetensors", {"unet.other.weight": normal(1, OUT, IN)})
    with pytest.raises(OptionError, match="find no weight"):
        la.merge([path], None, tmp_path / "out.safetensors", base=base)
    with pytest.raises(OptionError, match="none of the inputs"):
        la.merge([plain], None, tmp_path / "out.safetensors", base=base)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_peft_merges_dora_to_the_same_weights(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the peer needs torch: pip install torch==2.13.0")
    peft = pytest.importorskip("peft")
    from test_peers import Toy

    torch.manual_seed(0)
    model = peft.get_peft_model(Toy(), peft.LoraConfig(r=3, lora_alpha=6, target_modules=["first"], use_dora=True))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
            if "magnitude" in name:
                parameter.abs_().add_(0.5)
    before = model.base_model.model.first.base_layer.weight.detach().double().numpy().copy()
    model.save_pretrained(tmp_path / "dora")
    base = save(tmp_path / "base.safetensors", {"first.weight": before.astype(np.float32)})
    la.merge([tmp_path / "dora"], None, tmp_path / "out", base=base)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["use_dora"] is False
    after = model.merge_and_unload().first.weight.detach().double().numpy()
    with la.open(tmp_path / "out") as made:
        (layer,) = made.layers.values()
        assert_close(la.materialise(layer), after - before, 1e-5)
