"""Principal components are scikit-learn's; what is capped, constant, alone or broken is said."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adapters
import layouts
import oracle
from adapters import CONV, MODULE, normal, save
from command import strict_json
from lora_analysis import LoraPcaAnalyzer, materialise
from lora_analysis import open as open_adapter
from lora_analysis.errors import MissingExtraError, NonFiniteError, OptionError
from lora_analysis.linalg.pca import principal_components, standardised
from lora_analysis.linalg.streams import single_threaded_blas
from lora_analysis.pca import analyze_pca
from lora_analysis.pca_export import write_results

decomposition = pytest.importorskip("sklearn.decomposition")
preprocessing = pytest.importorskip("sklearn.preprocessing")

REAL = ("sd15-comfy-extract-r8.json", "llama32-1b-r16.json", "lumina2-kohya-r8.json")
# Minutes, most of them scikit-learn's: LORA_ANALYSIS_FULL_SCALE=1 runs them.
LARGE = ("sd15-kohya-r32.json", "flux1-diffusers-r32-hands.json", "llama3-8b-peft-r16.json")
FULL_SCALE = os.environ.get("LORA_ANALYSIS_FULL_SCALE") == "1"


def analyse(path, n_components=4, **options):
    return asyncio.run(LoraPcaAnalyzer().analyze_lora_pca(path, n_components, **options))


def scikit(matrix: np.ndarray, count: int):
    """What the issue defines: StandardScaler, then PCA with the full solver, in float64."""
    scaled = preprocessing.StandardScaler().fit_transform(matrix.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):  # one sample, or nothing that varies: its ratios are NaN
        found = decomposition.PCA(n_components=count, svd_solver="full").fit(scaled)
        return found, found.transform(scaled), decomposition.PCA(svd_solver="full").fit(scaled).singular_values_


def assert_equal_to_scikit(matrix: np.ndarray, found: dict, tolerance: float = 1e-6) -> None:
    count = found["n_components"]
    expected, scores, everything = scikit(matrix, count)
    scale = float(expected.singular_values_[0])
    if scale < 1e-9:  # nothing varies but rounding, which scikit-learn divides by itself
        assert not np.any(found["singular_values"])
        assert not np.any(found["explained_variance_ratio"])
        return
    np.testing.assert_allclose(found["singular_values"], expected.singular_values_, atol=tolerance * scale)
    ratios = expected.explained_variance_ratio_
    np.testing.assert_allclose(found["explained_variance_ratio"], ratios, atol=tolerance)
    np.testing.assert_allclose(found["cumulative_variance"], np.cumsum(ratios), atol=tolerance * count)
    if found["components"] is None:
        return
    for k in range(count):
        # A direction that shares its variance with another is any direction of their plane, in scikit-learn too.
        gaps = np.abs(np.delete(everything, k) - everything[k])
        if gaps.min(initial=scale) <= 1e-6 * scale or everything[k] <= 1e-6 * scale:
            continue
        sign = np.sign(found["components"][k] @ expected.components_[k])
        np.testing.assert_allclose(sign * found["components"][k], expected.components_[k], atol=tolerance)
        np.testing.assert_allclose(sign * found["transformed_data"][:, k], scores[:, k], atol=tolerance * scale)


def stored(layer, name: str) -> np.ndarray:
    """The matrix of a plain LoRA layer that a result's name stands for."""
    update = layer.update()
    return update.down if name.endswith(".lora_A") else update.up


# -- equal to scikit-learn -------------------------------------------------------------------------------


def test_every_plain_layer_of_the_demo_library_equals_scikit_learn(demo_library: Path) -> None:
    checked = 0
    for file in ("sdxl-character-kohya.safetensors", "sd15-clothing-locon.safetensors", "llama-chat-peft"):
        found = analyse(demo_library / file, 8)
        assert found["success"], found
        with open_adapter(demo_library / file) as adapter, single_threaded_blas():
            for name, entry in found["pca_results"].items():
                layer, _, factor = name.rpartition(".")
                update = adapter.layers[layer].update()
                if factor in ("lora_A", "lora_B") and update.core is None:
                    assert_equal_to_scikit(stored(adapter.layers[layer], name).astype(np.float64), entry)
                    checked += 1
    assert checked > 150


@layouts.needs_shared
@pytest.mark.parametrize("file", REAL + LARGE * FULL_SCALE)
def test_every_layer_of_a_real_layout_equals_scikit_learn(file: str, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    layouts.generator().main([str(layouts.SHARED / "layouts" / file), str(path), "--seed", "3"])
    found = analyse(path, 8)
    assert found["success"], found
    with open_adapter(path) as adapter, single_threaded_blas():
        assert len(found["pca_results"]) == 2 * (len(adapter.layers) - len(found["skipped"]))
        assert all(one["code"] == "vector" for one in found["skipped"])
        for name, entry in found["pca_results"].items():
            layer = adapter.layers[name.rpartition(".")[0]]
            assert_equal_to_scikit(stored(layer, name).astype(np.float64), entry)


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    made = rng.standard_normal((rows, columns)) * 10.0 ** draw(st.integers(-6, 6)) + draw(
        st.sampled_from([0, 0, 1, 1e3])
    )
    match draw(st.sampled_from(["plain", "plain", "constant column", "twice", "zeros"])):
        case "constant column":
            made[:, 0] = made[0, 0]
        case "twice":
            made[:, -1] = made[:, 0]
        case "zeros":
            made[:] = 0
    return made


@given(matrices(), st.integers(1, 12), st.booleans())
@settings(max_examples=150)
def test_any_matrix_equals_scikit_learn(matrix, count, arrays):
    count = min(count, *matrix.shape)
    found = principal_components(matrix, count, arrays=arrays)
    entry = {
        "n_components": count,
        "singular_values": found.singular_values,
        "explained_variance_ratio": found.explained_variance_ratio,
        "cumulative_variance": np.cumsum(found.explained_variance_ratio),
        "components": found.components,
        "transformed_data": found.scores,
    }
    assert_equal_to_scikit(matrix, entry)
    scaler = preprocessing.StandardScaler().fit(matrix)
    assert found.constant_columns == np.count_nonzero(scaler.scale_ == 1.0) - np.count_nonzero(scaler.var_ == 1.0)
    np.testing.assert_allclose(standardised(matrix)[0], scaler.transform(matrix), atol=1e-7)


@pytest.mark.parametrize("shape", [(2, 10), (3, 4), (10, 2)])
def test_values_that_hardly_differ_equal_scikit_learn(shape):
    """What rounding leaves of their mean is no component."""
    for seed in range(20):
        matrix = 1000 + 1e-6 * np.random.default_rng(seed).standard_normal(shape)
        count = min(shape)
        found = principal_components(matrix, count, arrays=False).singular_values
        expected = scikit(matrix, count)[0].singular_values_
        np.testing.assert_allclose(found, expected, atol=1e-9 * expected[0])


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_both_routes_give_the_same_components_and_signs(shape, monkeypatch):
    matrix = normal(1, *shape)
    fast = principal_components(matrix, 5)
    monkeypatch.setattr("lora_analysis.linalg.pca.TRUSTED", 2.0)  # nothing is trusted: the full SVD
    slow = principal_components(matrix, 5)
    for one, other in zip(fast, slow, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    largest = np.argmax(np.abs(fast.components), axis=1)
    assert (fast.components[np.arange(5), largest] > 0).all()


def test_the_total_is_that_of_every_component():
    matrix = normal(4, 9, 14)
    found = principal_components(matrix, 2)
    scaled = preprocessing.StandardScaler().fit_transform(matrix.astype(np.float64))
    everything = decomposition.PCA(svd_solver="full").fit(scaled)
    assert found.total_variance == pytest.approx(everything.explained_variance_.sum())
    shares = found.singular_values**2 / 8 / found.total_variance
    np.testing.assert_allclose(shares, found.explained_variance_ratio)


def test_a_column_that_varies_by_rounding_is_constant_as_in_scikit_learn():
    matrix = np.array(normal(5, 5, 4), np.float64)
    matrix[:, 1] = 1e8 + np.array([0, 1, 0, 1, 1]) * 1.5e-8
    scaler = preprocessing.StandardScaler().fit(matrix)
    assert scaler.scale_[1] == 1.0
    assert standardised(matrix)[1] == 1


# -- edges ---------------------------------------------------------------------------------------------


def test_the_count_is_capped_per_matrix_and_the_cap_reported(tmp_path):
    path = save(tmp_path / "a.safetensors", adapters.lora(1, rank=3) | adapters.lora(2, "lora_unet_other", rank=8))
    found = analyse(path, 5)
    entries = found["pca_results"]
    assert {name: (entry["n_components"], entry["capped"]) for name, entry in entries.items()} == {
        f"{MODULE}.lora_A": (3, True),
        f"{MODULE}.lora_B": (3, True),
        "lora_unet_other.lora_A": (5, False),
        "lora_unet_other.lora_B": (5, False),
    }
    assert (found["n_components"], found["capped"], found["total_layers"], found["total_matrices"]) == (5, 2, 2, 4)
    assert "5 components were asked for" in entries[f"{MODULE}.lora_A"]["note"]
    assert [entries[f"{MODULE}.lora_{f}"]["shape"] for f in "AB"] == [[3, adapters.IN], [adapters.OUT, 3]]
    assert [entries[f"{MODULE}.lora_{f}"]["samples"] for f in "AB"] == ["rank", "output"]


def test_rank_1_has_one_sample_and_no_variance(tmp_path):
    found = analyse(save(tmp_path / "a.safetensors", adapters.lora(1, rank=1)))["pca_results"]
    a, b = found[f"{MODULE}.lora_A"], found[f"{MODULE}.lora_B"]
    assert (a["explained_variance_ratio"], a["total_variance"]) == ([0.0], 0.0)
    assert "one sample" in a["note"]
    assert b["explained_variance_ratio"] == [1.0]


def test_constant_columns_and_zeros_are_said_and_give_no_nan(tmp_path):
    arrays = adapters.lora(1, rank=4)
    arrays[f"{MODULE}.lora_down.weight"][:, 2] = 3.0
    arrays[f"{MODULE}.lora_up.weight"][:] = 0
    found = analyse(save(tmp_path / "a.safetensors", arrays))["pca_results"]
    assert found[f"{MODULE}.lora_A"]["constant_columns"] == 1
    assert "1 constant column" in found[f"{MODULE}.lora_A"]["note"]
    up = found[f"{MODULE}.lora_B"]
    assert (up["explained_variance_ratio"], up["total_variance"]) == ([0.0] * 4, 0.0)
    assert "nothing varies" in up["note"]
    assert np.isfinite(up["components"]).all()


def test_a_layer_with_nan_is_skipped_and_the_others_are_not(tmp_path):
    arrays = adapters.lora(1) | adapters.conv_lora(2)
    arrays[f"{CONV}.lora_up.weight"][0, 0] = np.inf
    found = analyse(save(tmp_path / "a.safetensors", arrays))
    assert found["success"]
    [skipped] = found["skipped"]
    assert (skipped["name"], skipped["code"], skipped["is_error"]) == (CONV, "non-finite", True)
    assert "lora_B" in skipped["reason"]
    assert set(found["pca_results"]) == {f"{MODULE}.lora_A", f"{MODULE}.lora_B"}
    with pytest.raises(NonFiniteError):
        principal_components(np.array([[1.0, np.nan]]), 1)


ROLES = {
    "lora": {"lora_A", "lora_B"},
    "loha": {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
    "lokr": {"lokr_w1", "lokr_w2_a", "lokr_w2_b"},
    "full": {"diff"},
    "conv": {"lora_A", "lora_B"},
    "tucker": {"lora_A", "lora_B", "lora_mid"},
    "conv lokr": {"lokr_w1", "lokr_w2"},
    "conv full": {"diff"},
}


@pytest.mark.parametrize("kind", ROLES)
def test_every_kind_has_its_matrices_and_its_delta(kind, tmp_path):
    arrays = (adapters.LINEAR_KINDS | adapters.CONV_KINDS)[kind](3)
    path = save(tmp_path / "a.safetensors", arrays)
    found = analyse(path)
    assert {name.rpartition(".")[2] for name in found["pca_results"]} == ROLES[kind]
    assert not found["skipped"]
    [(name, entry)] = analyse(path, 3, target="delta")["pca_results"].items()
    assert name.endswith(".delta")
    with open_adapter(path) as adapter:
        [layer] = adapter.layers.values()
        delta = oracle.unfolded(materialise(layer))
    u, s, vt = np.linalg.svd(delta, full_matrices=False)
    count = entry["n_components"]
    np.testing.assert_allclose(entry["singular_values"], s[:count], rtol=1e-6)
    np.testing.assert_allclose(entry["explained_variance_ratio"], s[:count] ** 2 / np.sum(s**2), rtol=1e-6)
    rebuilt = entry["transformed_data"] @ entry["components"]
    np.testing.assert_allclose(rebuilt, u[:, :count] * s[:count] @ vt[:count], atol=1e-6 * s[0])


def test_vectors_and_opaque_layers_are_skipped_with_the_reason(tmp_path, demo_library):
    path = save(tmp_path / "a.safetensors", adapters.lora(1) | {"unet.norm.w_norm": normal(1, 5)})
    assert [(one["code"], one["is_error"]) for one in analyse(path)["skipped"]] == [("vector", False)]
    found = analyse(demo_library / "llama-ia3-peft")
    assert {one["code"] for one in found["skipped"]} == {"opaque"}


# -- interface -----------------------------------------------------------------------------------------


def test_without_arrays_the_numbers_are_the_same(tmp_path):
    path = save(tmp_path / "a.safetensors", adapters.lora(1))
    whole, bare = analyse(path), analyse(path, include_arrays=False)
    for name, entry in bare["pca_results"].items():
        assert (entry["components"], entry["transformed_data"]) == (None, None)
        np.testing.assert_allclose(entry["singular_values"], whole["pca_results"][name]["singular_values"])
    assert strict_json(json.dumps(bare)) == bare


def test_layers_are_chosen_by_name(tmp_path):
    path = save(tmp_path / "a.safetensors", adapters.lora(1) | adapters.conv_lora(2))
    assert {name.rpartition(".")[0] for name in analyse(path, layers="*conv1")["pca_results"]} == {CONV}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"n_components": 0}, "option"),
        ({"n_components": 1.5}, "option"),
        ({"n_components": True}, "option"),
        ({"target": "weights"}, "option"),
        ({"layers": "nothing"}, "option"),
        ({"path": "missing.safetensors"}, "file-access"),
    ],
)
def test_bad_input_is_an_answer_and_no_exception(options, code, tmp_path, caplog):
    path = save(tmp_path / "a.safetensors", adapters.lora(1))
    found = analyse(**{"path": path, "n_components": 2, **options})
    assert (found["success"], found["error"]["code"]) == (False, code)
    assert found["pca_results"] == {}
    assert found["error"]["message"] in caplog.text


def test_without_scikit_learn_the_answer_names_the_install_line(tmp_path, monkeypatch):
    path = save(tmp_path / "a.safetensors", adapters.lora(1))
    monkeypatch.setattr("lora_analysis.pca.find_spec", lambda name: None)
    found = analyse(path)
    assert found["success"] is False
    assert found["error"]["type"] == "MissingExtraError"
    assert found["error"]["install"] == "pip install 'lora-analysis[pca]'"
    assert analyse(path, target="delta")["success"], "deltas need no scikit-learn"
    with pytest.raises(MissingExtraError):
        analyze_pca(path, 2)


def test_scikit_learn_is_looked_for_and_not_loaded(tmp_path):
    import subprocess

    path = save(tmp_path / "a.safetensors", adapters.lora(1))
    code = (
        "import sys; from lora_analysis.pca import analyze_pca; analyze_pca(sys.argv[1], 2); "
        "assert not {'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    path = save(tmp_path / "a.safetensors", adapters.lora(1) | adapters.conv_lora(2) | adapters.loha(3, "lora_unet_x"))
    seen: list[tuple[int, int]] = []
    one = analyse(path, workers=1, progress=lambda done, total: seen.append((done, total)))
    three = analyse(path, workers=3)
    assert list(one["pca_results"]) == list(three["pca_results"])
    for name, entry in one["pca_results"].items():
        np.testing.assert_array_equal(entry["components"], three["pca_results"][name]["components"])
    assert seen == [(1, 3), (2, 3), (3, 3)]


# -- export --------------------------------------------------------------------------------------------


def export(result, path) -> bool:
    return asyncio.run(LoraPcaAnalyzer().export_pca_results(result, path))


def test_json_csv_and_npz_hold_the_results(tmp_path):
    found = analyse(save(tmp_path / "a.safetensors", adapters.lora(1, "lora_unet_mid/../x", rank=4)), 3)
    [a, _] = found["pca_results"]
    for suffix in ("json", "csv", "npz"):
        assert export(found, tmp_path / f"out.{suffix}")
    document = strict_json((tmp_path / "out.json").read_text())
    assert document["pca_results"][a]["components"] == found["pca_results"][a]["components"].tolist()
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    assert [float(cell) for cell in lines[1].split(",")[2:]] == [
        found["pca_results"][a][measure][0]
        for measure in ("singular_values", "explained_variance_ratio", "cumulative_variance")
    ]
    with np.load(tmp_path / "out.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 2 * 5
        assert all(name.count("/") == 1 for name in arrays.files)
        name = f"{a.replace('/', '|')}/components"
        np.testing.assert_array_equal(arrays[name], found["pca_results"][a]["components"])
    first = (tmp_path / "out.npz").read_bytes()
    assert export(found, tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_bytes() == first


def test_what_cannot_be_exported_is_false_and_logged(tmp_path, caplog):
    found = analyse(save(tmp_path / "a.safetensors", adapters.lora(1)))
    assert not export(found, tmp_path / "out.xlsx")
    assert not export(found, tmp_path / "missing" / "out.json")
    assert not export({"success": False}, tmp_path / "out.json")
    assert len(caplog.records) == 3
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.safetensors"]
    with pytest.raises(OptionError):
        write_results(found, tmp_path / "out.txt")
