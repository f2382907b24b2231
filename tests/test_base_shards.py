"""Recipes beside a base model in shards: found by folder or index, fused or split, its norms kept while all hold."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import numpy as np
import pytest

import lora_analysis as la
from adapters import Arrays, normal, save
from command import lora
from lora_analysis.errors import ConfigError
from lora_analysis.formats.checkpoint import open_checkpoint
from lora_analysis.resizing.base_norms import BaseNorms, base_norms, sidecar_of

D = 3072  # FLUX.1's width: the family is told by it
HEIGHT = 4  # of a part
FUSED = "diffusion_model.double_blocks.{}.img_attn.qkv"
SPLIT = "transformer.transformer_blocks.{}.attn.to_{}"
SIGMAS = (8.0, 4.0, 2.0, 1.0)
BLOCKS = range(3)
LENGTHS = {"q": 1.0, "k": 2.0, "v": 4.0}  # so that no part's norm is another's
# Every block is larger than the one before: a layer that found another's weight would get another's rank.
PARTS = {
    f"transformer_blocks.{block}.attn.to_{part}.weight": normal(block, HEIGHT, D) * length * 2.0**block / D**0.5
    for block in BLOCKS
    for part, length in LENGTHS.items()
}


def fused_base() -> Arrays:
    return {
        f"model.diffusion_model.double_blocks.{block}.img_attn.qkv.weight": np.concatenate(
            [PARTS[f"transformer_blocks.{block}.attn.to_{part}.weight"] for part in LENGTHS]
        )
        for block in BLOCKS
    }


def in_shards(folder: Path, weights: Arrays, count: int = 3) -> Path:
    """Neighbours in different files: q, k and v of one block are in three."""
    files = {key: f"model-{number % count + 1}-of-{count}.safetensors" for number, key in enumerate(weights)}
    for file in set(files.values()):
        save(folder / file, {key: array for key, array in weights.items() if files[key] == file})
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return index


def pair(name: str, height: int) -> Arrays:
    up = np.linalg.qr(normal(1, height, len(SIGMAS)))[0] * np.array(SIGMAS)
    down = np.linalg.qr(normal(2, D, len(SIGMAS)))[0].T
    return {
        f"{name}.lora_A.weight": np.ascontiguousarray(down, np.float32),
        f"{name}.lora_B.weight": np.ascontiguousarray(up, np.float32),
    }


def adapter_file(folder: Path, *, fused: bool) -> Path:
    if fused:
        layers = [pair(FUSED.format(block), 3 * HEIGHT) for block in BLOCKS]
    else:
        layers = [pair(SPLIT.format(block, part), HEIGHT) for block in BLOCKS for part in LENGTHS]
    return save(folder / "a.safetensors", {key: array for layer in layers for key, array in layer.items()})


def expected_norms(*, fused: bool) -> dict[str, BaseNorms]:
    """By dense float64 decompositions of the parts, or of the parts one below the other."""
    found = {}
    for block in BLOCKS:
        parts = {part: PARTS[f"transformer_blocks.{block}.attn.to_{part}.weight"].astype(float) for part in LENGTHS}
        named = (
            {FUSED.format(block): np.concatenate(list(parts.values()))}
            if fused
            else {SPLIT.format(block, part): weight for part, weight in parts.items()}
        )
        found |= {name: BaseNorms(np.linalg.norm(w, 2), np.linalg.norm(w)) for name, w in named.items()}
    return found


def found_norms(path: Path, base: Path) -> dict[str, BaseNorms]:
    with la.open(path) as adapter:
        assert adapter.base_model.family == "flux1"
        return base_norms(base, adapter.layers, family="flux1")


def assert_norms(found: dict[str, BaseNorms], expected: dict[str, BaseNorms]) -> None:
    assert found.keys() == expected.keys()
    for name, norms in expected.items():
        assert found[name].frobenius == pytest.approx(norms.frobenius, rel=1e-6), name
        assert found[name].spectral == pytest.approx(norms.spectral, rel=1e-6), name


@pytest.mark.parametrize("named", ["index", "folder"])
@pytest.mark.parametrize("base_is_fused", [True, False], ids=["fused-base", "split-base"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused-adapter", "split-adapter"])
def test_norms_are_those_of_the_weights_wherever_they_lie(
    *, fused: bool, base_is_fused: bool, named: str, tmp_path: Path
) -> None:
    index = in_shards(tmp_path / "base", fused_base() if base_is_fused else PARTS)
    base = index if named == "index" else index.parent
    assert_norms(found_norms(adapter_file(tmp_path, fused=fused), base), expected_norms(fused=fused))


def test_folder_and_index_share_the_norms_they_keep(tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=True)
    first = found_norms(path, index.parent)
    [kept] = index.parent.glob("*.norms.json")
    assert kept == sidecar_of(index)
    stamp = kept.stat().st_mtime_ns
    assert found_norms(path, index) == first
    assert kept.stat().st_mtime_ns == stamp  # read, not written again


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    file, path = save(tmp_path / "base" / "model.safetensors", PARTS), adapter_file(tmp_path, fused=False)
    assert_norms(found_norms(path, file.parent), expected_norms(fused=False))
    assert [kept.name for kept in file.parent.glob("*.norms.json")] == ["model.safetensors.norms.json"]


@pytest.mark.parametrize("changed", [1, 2, 3])
def test_kept_norms_end_with_any_shard_that_changes(changed: int, tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=True)
    before = found_norms(path, index)
    shard = index.parent / f"model-{changed}-of-3.safetensors"
    with open_checkpoint(shard) as source:
        arrays = {key: 2 * source.array(key) for key in source.homes}
    size = shard.stat().st_size
    shard.unlink()
    save(shard, arrays)
    assert shard.stat().st_size == size  # nothing but the time tells
    after = found_norms(path, index)
    part = "qkv"[changed - 1]
    for block in BLOCKS:
        lengths = {
            one: np.linalg.norm(PARTS[f"transformer_blocks.{block}.attn.to_{one}.weight"].astype(float))
            for one in LENGTHS
        }
        name = FUSED.format(block)
        assert before[name].frobenius == pytest.approx(np.linalg.norm(list(lengths.values())), rel=1e-6)
        lengths[part] *= 2
        assert after[name].frobenius == pytest.approx(np.linalg.norm(list(lengths.values())), rel=1e-6)


def test_kept_norms_end_with_a_shard_that_moves_to_another_name(tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=True)
    expected = found_norms(path, index)
    kept = sidecar_of(index)
    text = kept.read_text()
    (index.parent / "model-3-of-3.safetensors").rename(index.parent / "other.safetensors")
    document = json.loads(index.read_text())
    moved = {key: file.replace("model-3-of-3", "other") for key, file in document["weight_map"].items()}
    index.write_text(json.dumps({"weight_map": moved}))
    assert found_norms(path, index) == expected
    assert kept.read_text() != text
    assert "other.safetensors" in json.loads(kept.read_text())["files"]


def test_norms_of_a_base_that_changes_meanwhile_are_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=True)
    shard = index.parent / "model-2-of-3.safetensors"
    norm = np.linalg.norm

    def touching(*args, **kwargs):
        os.utime(shard, ns=(1, 1))
        return norm(*args, **kwargs)

    monkeypatch.setattr("lora_analysis.resizing.base_norms.np.linalg.norm", touching)
    found_norms(path, index)
    assert not sidecar_of(index).exists()


# -- the whole way -----------------------------------------------------------------------------------------


def expected_ranks(reference: str, threshold: float, *, fused: bool) -> dict[str, int]:
    found = {}
    for name, norms in expected_norms(fused=fused).items():
        scores = np.log10(SIGMAS) - np.log10(norms.spectral if reference == "spn_ckpt" else norms.frobenius)
        found[name] = max(1, int(np.sum(scores >= threshold)))
    return found


def ranks(path: Path) -> dict[str, int | None]:
    with la.open(path) as adapter:
        return {name: layer.rank for name, layer in adapter.layers.items()}


@pytest.mark.parametrize("reference", ["spn_ckpt", "fro_ckpt"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused-adapter", "split-adapter"])
def test_the_command_takes_a_base_in_shards(*, fused: bool, reference: str, tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=fused)
    recipe = f"{reference}=1,thr=-0.4"
    expected = expected_ranks(reference, -0.4, fused=fused)
    assert len(set(expected.values())) > 1
    for number, base in enumerate((index, index.parent)):
        out = tmp_path / f"{number}.safetensors"
        done = lora("resize", path, "-o", out, "--recipe", recipe, "--base", base)
        assert done.code == 0, done.err
        assert ranks(out) == expected


def test_the_library_and_the_resizer_take_a_base_in_shards(tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", fused_base()), adapter_file(tmp_path, fused=False)
    expected = expected_ranks("fro_ckpt", -0.4, fused=False)
    asked = {"recipe": "fro_ckpt=1,thr=-0.4", "base": index.parent}
    la.resize(path, tmp_path / "1.safetensors", **asked)
    assert ranks(tmp_path / "1.safetensors") == expected
    done = asyncio.run(la.LoraResizer().resize_lora_rank(path, None, tmp_path / "2.safetensors", **asked))
    assert done["success"], done
    assert ranks(tmp_path / "2.safetensors") == expected


def test_a_shard_that_is_missing_or_incomplete_is_said_before_any_work(tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=True)
    out = tmp_path / "out.safetensors"
    asked = ("resize", path, "-o", out, "--recipe", "fro_ckpt=1,thr=0", "--base", index)
    shard = index.parent / "model-2-of-3.safetensors"
    shard.unlink()
    save(shard, {"transformer_blocks.0.attn.to_k.weight": normal(1, HEIGHT, D)})
    done = lora(*asked)
    assert done.code == 1
    assert "transformer_blocks.1.attn.to_k.weight is listed, no shard holds it (2 missing)" in done.err
    with pytest.raises(ConfigError, match="2 missing"), open_checkpoint(index):
        pass
    shard.unlink()
    done = lora(*asked)
    assert done.code == 1
    assert "model-2-of-3.safetensors: there is no such file" in done.err
    assert not out.exists()


def test_a_baked_folder_has_no_norms_of_the_old_weights(tmp_path: Path) -> None:
    index, path = in_shards(tmp_path / "base", PARTS), adapter_file(tmp_path, fused=False)
    found_norms(path, index)
    (index.parent / "config.json").write_text("{}")
    done = lora("bake", index.parent, path, "-o", tmp_path / "baked")
    assert done.code == 0, done.err
    assert sidecar_of(index).exists()
    shards = [f"model-{n}-of-3.safetensors" for n in (1, 2, 3)]
    assert sorted(file.name for file in (tmp_path / "baked").iterdir()) == ["config.json", *shards, index.name]
