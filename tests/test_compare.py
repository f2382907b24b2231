"""``compare``: every figure equals that of the dense deltas; what differs, is missing or came of another is said."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import adapters
import lora_analysis as la
import oracle
from adapters import CONV, IN, MODULE, OUT, normal, save
from command import strict_json
from lora_analysis.comparing.reading import rows_of
from lora_analysis.errors import OptionError
from sources import adapter_of

KINDS = {**adapters.LINEAR_KINDS, "diffusers": lambda seed: renamed(adapters.lora(seed), MODULE, DOTTED)}
DOTTED = "unet.down_blocks.0.attentions.0.proj_in"


def renamed(arrays, old, new):
    """kohya's factors under diffusers' names."""
    down, up = arrays[f"{old}.lora_down.weight"], arrays[f"{old}.lora_up.weight"]
    return {f"{new}.lora_A.weight": down, f"{new}.lora_B.weight": up * np.float32(0.5)}


def files(folder: Path, *contents: dict, metadata=None) -> list[Path]:
    return [save(folder / f"{chr(97 + i)}.safetensors", arrays, metadata) for i, arrays in enumerate(contents)]


def delta(path: Path, name: str | None = None) -> np.ndarray:
    with la.open(path) as adapter:
        layer = adapter.layers[name] if name else next(iter(adapter.layers.values()))
        return oracle.unfolded(la.materialise(layer))


def dense(path: Path) -> dict[str, np.ndarray]:
    with la.open(path) as adapter:
        return {name: oracle.unfolded(la.materialise(layer)) for name, layer in adapter.layers.items()}


@pytest.mark.parametrize(("first", "second"), [*combinations(adapters.LINEAR_KINDS, 2), ("lora", "lora")])
def test_a_layer_of_any_two_kinds_compares_as_the_dense_deltas_do(first, second, tmp_path):
    paths = files(tmp_path, adapters.LINEAR_KINDS[first](1), adapters.LINEAR_KINDS[second](2))
    a, b = map(delta, paths)
    [pair] = la.compare(paths).layers[0].pairs.values()
    norms = np.linalg.norm(a), np.linalg.norm(b)
    product = float(np.vdot(a, b))
    assert pair.cosine == pytest.approx(product / (norms[0] * norms[1]), abs=1e-8)
    assert pair.relative_difference == pytest.approx(np.linalg.norm(b - a) / norms[0], abs=1e-8)
    assert pair.interference == pytest.approx(np.linalg.norm(a + b) ** 2 / (norms[0] ** 2 + norms[1] ** 2), abs=1e-8)
    assert pair.coefficient == pytest.approx(product / norms[0] ** 2, abs=1e-8)
    assert pair.chance_cosine == pytest.approx(1 / np.sqrt(OUT * IN))
    (u1, s1, v1), (u2, _, v2) = (np.linalg.svd(d, full_matrices=False) for d in (a, b))
    p, q = pair.ranks
    u1, v1, u2, v2 = u1[:, :p], v1[:p].T, u2[:, :q], v2[:q].T
    assert pair.second_within_first == pytest.approx(np.linalg.norm(u1.T @ b @ v1) ** 2 / norms[1] ** 2, abs=1e-8)
    assert pair.first_within_second == pytest.approx(np.linalg.norm(u2.T @ a @ v2) ** 2 / norms[0] ** 2, abs=1e-8)
    assert pair.tail_first == pytest.approx(np.sum(s1[q:] ** 2) / norms[0] ** 2, abs=1e-8)
    for side, one, other in ((pair.left, u1, u2), (pair.right, v1, v2)):
        cosines = np.minimum(np.linalg.svd(one.T @ other, compute_uv=False), 1)
        np.testing.assert_allclose(np.cos(side.angles), cosines, atol=1e-8)
        assert side.summary.chordal == pytest.approx(np.sqrt(np.sum(1 - cosines**2)), abs=1e-7)
        assert side.overlap[-1, -1] == pytest.approx(np.mean(cosines**2), abs=1e-8)
        assert side.chance[-1][-1] == max(p, q) / len(one)


def test_totals_are_those_of_all_deltas_laid_end_to_end(tmp_path):
    paths = files(
        tmp_path,
        adapters.lora(1) | adapters.conv_lora(2),
        adapters.loha(3) | adapters.conv_full(4),
        adapters.lora(5) | adapters.lora(6, "lora_te_text_model_encoder_layers_0_mlp_fc1", out=8),
    )
    found = la.compare(paths)
    deltas = [dense(path) for path in paths]
    names = list(dict.fromkeys(name for one in deltas for name in one))
    shapes = {name: one[name].shape for one in deltas for name in one}
    flat = [np.concatenate([one.get(n, np.zeros(shapes[n])).ravel() for n in names]) for one in deltas]
    np.testing.assert_allclose(found.products, np.array(flat) @ np.array(flat).T, rtol=1e-10, atol=1e-10)
    assert found.cosines[0][1] == pytest.approx(found.pair(1, 0).cosine)
    assert found.interference == pytest.approx(np.sum(np.sum(flat, axis=0) ** 2) / sum(f @ f for f in flat))
    pair = found.pair(0, 2)
    assert (pair.layers_compared, pair.only_first, pair.only_second) == (
        1,
        (CONV,),
        ("lora_te_text_model_encoder_layers_0_mlp_fc1",),
    )
    a, b = deltas[0][MODULE].ravel(), deltas[2][MODULE].ravel()
    assert pair.common_cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-8)
    assert pair.relative_difference == pytest.approx(np.linalg.norm(flat[2] - flat[0]) / np.linalg.norm(flat[0]))
    assert {part.component: part.layers for part in found.components()} == {"unet": 2, "text_encoder": 1}
    assert sum(part.layers for part in found.blocks()) == 3


def test_the_chance_line_is_what_independent_deltas_show(tmp_path):
    shown = []
    for seed in range(40):
        first, second = (adapter_of(adapters.lora(10 * seed + i) | adapters.conv_lora(10 * seed + i)) for i in (1, 2))
        pair = la.compare([first, second]).pairs[0]
        shown.append((pair.cosine / pair.chance_cosine, (pair.interference - 1) / pair.chance_interference))
    assert np.mean(np.square(shown)) == pytest.approx(1.0, abs=0.35)


def test_names_of_two_dialects_meet(tmp_path):
    paths = files(tmp_path, adapters.lora(1), renamed(adapters.lora(1), MODULE, DOTTED))
    [layer] = la.compare(paths).layers
    assert layer.names == (MODULE, DOTTED)
    assert layer.pairs[0, 1].cosine == pytest.approx(1.0)


def flux(dialect: str, up: np.ndarray, down: np.ndarray) -> dict:
    """One fused qkv as kohya and BFL hold it, or the same delta as diffusers' three layers."""
    if dialect == "fused":
        name = "lora_unet_double_blocks_3_img_attn_qkv"
        return {f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}
    return {
        f"transformer.transformer_blocks.3.attn.to_{letter}.lora_{side}.weight": values
        for part, letter in zip(np.split(up, 3), "qkv", strict=True)
        for side, values in (("B", part), ("A", down))
    }


def test_a_fused_layer_meets_the_layers_of_a_split_adapter():
    up, down = normal(1, 3 * 3072, 4), normal(2, 4, 3072)
    fused, split = (adapter_of(flux(dialect, up, down)) for dialect in ("fused", "split"))
    assert fused.base_model.family == split.base_model.family == "flux1"
    found = la.compare([fused, split])
    assert [layer.name.rpartition(".")[2] for layer in found.layers] == ["to_q", "to_k", "to_v"]
    assert [layer.pairs[0, 1].cosine for layer in found.layers] == pytest.approx([1.0] * 3)
    assert found.cosines[0][1] == pytest.approx(1.0)
    assert found.norms[0] == pytest.approx(np.linalg.norm(up.astype(np.float64) @ down), rel=1e-6)
    [layer] = la.compare([fused, fused]).layers
    assert layer.name.endswith("to_q+to_k+to_v")
    assert layer.shape == (3 * 3072, 3072)


def test_two_layers_of_one_spelling_are_compared_by_their_own_names(tmp_path):
    """``lora_te_`` and ``lora_te1_`` are the same encoder to most loaders; a file with both keeps them apart."""
    names = ("lora_te_x", "lora_te1_x")
    both = [adapters.lora(10 * seed, names[0]) | adapters.lora(10 * seed + 1, names[1]) for seed in (1, 2)]
    found = la.compare(files(tmp_path, *both))
    assert [layer.names for layer in found.layers] == [(name, name) for name in names]
    assert found.pairs[0].layers_compared == 2


def test_two_layers_of_one_base_weight_are_both_counted():
    """A file that spells one weight in two dialects: the second finds no counterpart and keeps its energy."""
    twice = adapter_of(adapters.lora(1) | renamed(adapters.lora(2), MODULE, DOTTED))
    found = la.compare([twice, adapter_of(adapters.lora(3))])
    energy = sum(np.linalg.norm(la.materialise(layer)) ** 2 for layer in twice.layers.values())
    assert found.norms[0] == pytest.approx(energy**0.5)
    assert found.pairs[0].layers_compared == 1


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "full"])
def test_some_rows_of_a_delta_are_those_rows(kind):
    [layer] = adapter_of(adapters.LINEAR_KINDS[kind](5)).layers.values()
    whole = la.materialise(layer)
    np.testing.assert_allclose(la.materialise(rows_of(layer.update(), 3, 7)), whole[3:7], atol=1e-12)


# -- lineage -------------------------------------------------------------------------------------------


def many(seed: int, rank: int = 6, scale: float = 0.5) -> dict:
    """A few layers whose singular values fall off."""
    found = {}
    for block in range(3):
        name = f"lora_unet_down_blocks_{block}_attentions_0_proj_in"
        made = adapters.lora(seed + block, name, rank=rank, out=40, width=36, scale=scale)
        made[f"{name}.lora_down.weight"] /= np.arange(1, rank + 1, dtype=np.float32)[:, None]
        found |= made
    return found


def hints(*paths: Path) -> list[str]:
    return [hint.kind for hint in la.compare(paths).pairs[0].lineage]


def test_a_resized_adapter_is_known_from_either_side(tmp_path):
    path, other = files(tmp_path, many(1), many(50))
    la.resize(path, tmp_path / "small.safetensors", rank=2)
    small = tmp_path / "small.safetensors"
    [hint] = la.compare([path, small]).pairs[0].lineage
    assert (hint.kind, hint.origin, hint.derived, hint.layers) == ("resized", 0, 1, 3)
    assert hint.coefficient == pytest.approx(1, abs=1e-3)
    assert "rank 6 to 2" in hint.statement
    [hint] = la.compare([small, path]).pairs[0].lineage
    assert (hint.kind, hint.origin, hint.derived) == ("resized", 1, 0)
    assert hints(small, other) == []
    assert hints(path, other) == []


def test_the_difference_to_the_original_is_the_error_of_the_resize(tmp_path):
    [path] = files(tmp_path, many(1))
    report = la.resize(path, tmp_path / "small.safetensors", rank=2)
    found = la.compare([path, tmp_path / "small.safetensors"])
    assert found.pairs[0].relative_difference == pytest.approx(report.relative_error, rel=1e-4)
    expected = [
        np.linalg.norm(b - a) / np.linalg.norm(a)
        for a, b in zip(dense(path).values(), dense(tmp_path / "small.safetensors").values(), strict=True)
    ]
    assert [layer.pairs[0, 1].relative_difference for layer in found.layers] == pytest.approx(expected, rel=1e-6)


def test_equal_scaled_and_cut_adapters_are_told_apart(tmp_path):
    original = many(1)
    half = {key: value.astype(np.float16) for key, value in original.items()}
    scaled = many(1, scale=-0.35)
    cut = {key: (v[:4] if "lora_down" in key else v[:, :4] if "lora_up" in key else v) for key, v in many(1).items()}
    frozen = many(1) | {key: value for key, value in many(90).items() if "lora_up" in key}
    paths = files(tmp_path, original, half, scaled, cut, frozen)
    found = la.compare(paths)
    kinds = {(p.first, p.second): [hint.kind for hint in p.lineage] for p in found.pairs}
    assert kinds[0, 1] == ["equal"]
    assert kinds[0, 2] == ["scaled"]
    assert found.pair(0, 2).lineage[0].coefficient == pytest.approx(-0.7)
    assert kinds[0, 3] == ["within"]
    assert kinds[0, 4] == ["shared-down"]
    assert all(hint.evidence for pair in found.pairs for hint in pair.lineage)


def test_one_session_in_both_headers_is_one_run(tmp_path):
    paths = files(tmp_path, many(1), many(50), metadata={"ss_session_id": "271"})
    assert hints(*paths) == ["same-run"]


# -- what is left out, and refusals ----------------------------------------------------------------------


def test_layers_without_a_delta_are_named_and_count_as_absent(tmp_path):
    broken = adapters.lora(2) | adapters.conv_lora(3)
    broken[f"{CONV}.lora_up.weight"][0, 0] = np.nan
    paths = files(tmp_path, adapters.lora(1) | adapters.conv_lora(4), broken)
    found = la.compare(paths)
    [skipped] = found.errors
    assert (skipped.adapter, skipped.name, skipped.code) == (1, CONV, "non-finite")
    assert not found.is_complete
    assert found.pairs[0].only_first == (CONV,)
    assert np.isfinite(found.products).all()


def test_layers_of_one_shape_do_not_disturb_each_other(tmp_path):
    """They are calculated in one stack; what is odd about some is theirs alone."""
    contents = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        made = {}
        for number in range(6):
            module = f"lora_unet_down_blocks_0_attentions_0_transformer_blocks_{number}_attn1_to_q"
            made[f"{module}.lora_down.weight"] = rng.standard_normal((4, 20)).astype(np.float32)
            made[f"{module}.lora_up.weight"] = rng.standard_normal((24, 4)).astype(np.float32)
        contents.append(made)
    names = [key.removesuffix(".lora_up.weight") for key in contents[0] if key.endswith("up.weight")]
    contents[0][f"{names[1]}.lora_up.weight"][:] = 0
    contents[1][f"{names[2]}.lora_down.weight"][1, 1] = np.inf
    contents[1][f"{names[3]}.lora_up.weight"][:, 2] = contents[1][f"{names[3]}.lora_up.weight"][:, 0]
    paths = files(tmp_path, *contents)
    found = la.compare(paths)
    assert [(skipped.adapter, skipped.name, skipped.code) for skipped in found.skipped] == [(1, names[2], "non-finite")]
    assert [layer.names[0] for layer in found.layers] == names  # in the order of the file
    assert [next(iter(layer.pairs.values())).ranks for layer in found.layers if layer.pairs] == [
        (4, 4), None, (4, 3), (4, 4), (4, 4)
    ]  # fmt: skip
    deltas = dense(paths[0]), dense(paths[1])
    for layer in found.layers:
        if layer.names[1] is not None:
            a, b = (of[layer.names[0]] for of in deltas)
            assert layer.products[0, 1] == pytest.approx(float(np.vdot(a, b)), abs=1e-9)
            assert layer.products[1, 1] == pytest.approx(float(np.vdot(b, b)))
    alone = la.compare(paths, layers=names[4])
    assert alone.layers[0].pairs[0, 1].cosine == pytest.approx(found.layers[4].pairs[0, 1].cosine, abs=1e-12)


def test_other_shapes_under_one_name_are_named(tmp_path):
    found = la.compare(
        files(tmp_path, adapters.lora(1) | adapters.conv_lora(1), adapters.lora(2, width=8) | adapters.conv_lora(2))
    )
    assert [(skipped.code, skipped.adapter) for skipped in found.skipped] == [("shape", 1)]


def test_a_layer_of_zeros_has_no_angles_and_no_cosine(tmp_path):
    zero = adapters.lora(2)
    zero[f"{MODULE}.lora_up.weight"][:] = 0
    found = la.compare(files(tmp_path, adapters.lora(1), zero))
    [pair] = found.layers[0].pairs.values()
    assert (pair.cosine, pair.left, pair.interference) == (None, None, pytest.approx(1.0))
    assert found.pairs[0].cosine is None
    assert found.pairs[0].relative_difference == pytest.approx(1.0)


def test_refusals(tmp_path, demo_library):
    a, b = files(tmp_path, adapters.lora(1), adapters.lora(2, "lora_unet_other"))
    for paths, message in [
        ([a], "from 2 to 8"),
        ([a] * 9, "from 2 to 8"),
        ([a, b], "no base weight is changed by two"),
        (
            [demo_library / "sdxl-character-kohya.safetensors", demo_library / "sd15-style-kohya.safetensors"],
            "was made for",
        ),
    ]:
        with pytest.raises(OptionError, match=message):
            la.compare(paths)
    with pytest.raises(OptionError, match="matches none"):
        la.compare([a, a], layers="nothing*")


# -- forms ---------------------------------------------------------------------------------------------


def test_the_document_is_strict_json_and_complete(tmp_path):
    paths = files(
        tmp_path, adapters.lora(1) | {"norm.w_norm": normal(1, 5)}, adapters.lora(2) | {"norm.w_norm": normal(2, 5)}
    )
    found = la.compare(paths)
    document = found.to_dict(grids=True)
    assert strict_json(json.dumps(document)) == document
    assert {
        "adapters",
        "norms",
        "cosines",
        "interference",
        "pairs",
        "components",
        "blocks",
        "differences",
        "layers",
    } <= set(document)
    assert [len(layer["pairs"]) for layer in document["layers"]] == [1, 1]
    assert document["layers"][0]["pairs"][0]["right"]["overlap"]
    assert "angles" not in found.to_dict()["layers"][0]["pairs"][0]["right"]
    assert found.to_dict(layers=False)["layers"] == []


def test_metadata_that_differs_is_listed(tmp_path):
    a = save(tmp_path / "a.safetensors", adapters.lora(1), {"ss_steps": "100", "ss_network_dim": "3"})
    b = save(tmp_path / "b.safetensors", adapters.lora(2), {"ss_steps": "200", "ss_network_dim": "3"})
    found = {difference.field: difference.values for difference in la.compare([a, b]).differences}
    assert found["steps"] == (100, 200)
    assert "network_dim" not in found
    assert "ranks" not in found


def test_a_comparison_is_a_table_in_notebooks(tmp_path):
    pandas = pytest.importorskip("pandas")
    found = la.compare(files(tmp_path, adapters.lora(1), adapters.lora(2)))
    frame = found.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.loc[0, "cosine"] == found.layers[0].pairs[0, 1].cosine
    assert "<script" not in found._repr_html_()
    assert "a.safetensors" in found._repr_html_()


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    paths = files(tmp_path, many(1), many(50))
    seen: list[tuple[int, int]] = []
    one = la.compare(paths, workers=1, progress=lambda done, total: seen.append((done, total))).to_dict(grids=True)
    assert one == la.compare(paths, workers=3).to_dict(grids=True)
    assert seen == [(1, 3), (2, 3), (3, 3)]


# -- biases ----------------------------------------------------------------------------------------------


def test_biases_beside_weights_are_compared_as_vectors_and_count_in_the_whole(tmp_path):
    biases = normal(11, OUT), normal(12, OUT)
    one, two = (adapters.lora(seed) | {f"{MODULE}.diff_b": bias} for seed, bias in zip((1, 2), biases, strict=True))
    paths = files(tmp_path, one, two)
    found = la.compare(paths)
    weight, bias = found.layers
    assert (bias.name, bias.names) == (f"{weight.name}.bias", (f"{MODULE}.bias",) * 2)
    assert bias.stored_ranks == (None, None)
    a, b = (each.astype(np.float64) for each in biases)
    [pair] = bias.pairs.values()
    assert pair.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert pair.chance_cosine == pytest.approx(1 / np.sqrt(OUT))
    assert (pair.left, pair.ranks) == (None, None)
    assert bias.norms == pytest.approx([np.linalg.norm(a), np.linalg.norm(b)])
    stacked = [np.append(delta(path).ravel(), each) for path, each in zip(paths, (a, b), strict=True)]
    assert found.norms == pytest.approx([np.linalg.norm(each) for each in stacked])
    whole = float(stacked[0] @ stacked[1]) / np.prod([np.linalg.norm(each) for each in stacked])
    assert found.cosines[0][1] == pytest.approx(whole, abs=1e-8)
    assert not any("bias" in note for note in found.notes)


def test_biases_meet_whether_they_stand_beside_a_weight_or_alone(tmp_path):
    bias = normal(11, OUT)
    both = adapters.lora(1) | {f"{MODULE}.diff_b": bias}
    paths = files(
        tmp_path, both, adapters.lora(2, "lora_unet_other") | {f"{MODULE}.diff_b": 2 * bias}, adapters.lora(3)
    )
    found = la.compare(paths)
    [of_bias] = [layer for layer in found.layers if layer.name.endswith(".bias")]
    assert of_bias.holders == (0, 1)
    assert of_bias.pairs[0, 1].cosine == pytest.approx(1.0)
    assert of_bias.pairs[0, 1].coefficient == pytest.approx(2.0)
    assert f"{MODULE}.bias" in found.pair(0, 2).only_first
    assert [layer.names[0] for layer in la.compare(paths, layers=MODULE).layers] == [MODULE, f"{MODULE}.bias"]
    assert not found.errors


def test_peft_biases_have_the_scale_of_their_layer_and_nan_in_one_is_named(tmp_path):
    name = "model.layers.0.self_attn.q_proj"
    paths, biases = [], (normal(5, 24), normal(6, 24))
    for number, bias in enumerate((*biases, np.full(24, np.nan, np.float32))):
        arrays = {
            f"base_model.model.{name}.lora_A.weight": normal(1, 2, 8),
            f"base_model.model.{name}.lora_B.weight": normal(2, 24, 2),
            f"base_model.model.{name}.lora_B.bias": bias,
        }
        folder = tmp_path / str(number)
        config = adapters.peft_config(2, 3.0, target_modules=["q_proj"], lora_bias=True)
        save(folder / "adapter_model.safetensors", arrays)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        paths.append(folder)
    [of_bias] = [layer for layer in la.compare(paths[:2]).layers if layer.name.endswith(".bias")]
    assert of_bias.norms == pytest.approx([1.5 * np.linalg.norm(bias) for bias in biases])
    broken = la.compare(paths[::2])
    [error] = broken.errors
    assert (error.adapter, error.name.rpartition(".")[2], error.code) == (1, "bias", "non-finite")
    assert broken.layers[0].pairs[0, 1].cosine == pytest.approx(1.0)


def test_the_bias_of_a_fused_layer_meets_its_thirds(tmp_path):
    fused = "lora_unet_double_blocks_0_img_attn_qkv"
    split = [f"transformer.transformer_blocks.0.attn.{part}" for part in ("to_q", "to_k", "to_v")]
    bias = normal(3, 3 * 3072)
    one = {f"{fused}.lora_down.weight": normal(1, 2, 3072), f"{fused}.lora_up.weight": normal(2, 3 * 3072, 2)}
    one[f"{fused}.diff_b"] = bias
    two = {}
    for number, name in enumerate(split):
        two[f"{name}.lora_A.weight"] = normal(4 + number, 2, 3072)
        two[f"{name}.lora_B.weight"] = normal(7 + number, 3072, 2)
        two[f"{name}.lora_B.bias"] = bias[3072 * number : 3072 * (number + 1)]
    found = la.compare(files(tmp_path, one, two))
    cosines = {layer.name: layer.pairs[0, 1].cosine for layer in found.layers if layer.name.endswith(".bias")}
    assert list(cosines) == [f"{name}.bias" for name in split]
    assert list(cosines.values()) == pytest.approx([1.0] * 3)
