"""The error of a whole adapter: relative to the norm of all its deltas, those that stay as they are included."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lora_analysis as la
from lora_analysis.errors import NonFiniteError
from lora_analysis.linalg.budget import Bidder, ranks_within_error
from lora_analysis.linalg.products import frobenius_norm
from resizable import KOHYA, Case, Work, alpha, lora, save, values
from strategies import delta, denses, hadamards, kroneckers, low_ranks, stacks, vectors


def everything(strength: float = 1.0) -> dict[str, np.ndarray]:
    """Layers of all the reasons to stay as they are, beside one that any rank below 8 changes."""
    n = KOHYA
    grouped = {f"{n}_g.lora_down.weight": values(4, 3, 3, 3), f"{n}_g.lora_up.weight": values(12, 1, 1, 1, seed=2)}
    loha = {
        f"{n}_h.hada_w1_a": values(20, 4, seed=8),
        f"{n}_h.hada_w1_b": values(4, 24, seed=9),
        f"{n}_h.hada_w2_a": values(20, 4, seed=10),
        f"{n}_h.hada_w2_b": values(4, 24, seed=11),
    }
    arrays = {
        **lora(n, 20, 24, 8),
        **lora(f"{n}_small", 30, 16, 2),
        **lora(f"{n}_off", 20, 24, 8),
        **grouped,
        **loha,
        f"{n}_norm.w_norm": 9 * values(40),
        f"{n}_norm.b_norm": values(40, seed=3),
        f"{n}.diff_b": 3 * values(20, seed=4),
        f"{n}_alone.diff_b": 5 * values(20),
        f"{n}_other.oft_blocks": values(4, 5, 5),
    }
    scaled = {key: np.asarray(strength * array, np.float32) for key, array in arrays.items() if "hada" not in key}
    alphas = {**alpha(n, 4), **alpha(f"{n}_small", 1), **alpha(f"{n}_off", 0), **alpha(f"{n}_h", 2)}
    return arrays | scaled | alphas


def deltas(adapter: la.Adapter) -> dict[str, np.ndarray]:
    """Of weights, and of the biases beside them."""
    found = {name: la.materialise(layer) for name, layer in adapter.layers.items() if layer.opaque is None}
    biases = {f"{name}.bias": layer.bias() for name, layer in adapter.layers.items()}
    return found | {name: bias.scale * bias.values for name, bias in biases.items() if bias is not None}


def error_of(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> float:
    lost = sum(np.sum((after[name].reshape(whole.shape) - whole) ** 2) for name, whole in before.items())
    return float(np.sqrt(lost / sum(np.sum(whole**2) for whole in before.values())))


UNMERGED = re.compile("oft|_g[.]")  # no delta without the base, block-diagonal factors

ASKED: dict[str, dict[str, Any]] = {
    "rank": {"rank": 3},
    "rank 2, which one has already": {"rank": 2},
    "structure kept": {"rank": 2, "keep_structure": True},
    "cut": {"rank": 3, "method": "pad_truncate"},
    "energy": {"energy": 0.9},
    "error": {"error": 0.1},
    "size": {"size": 8_500},
    "parameters": {"parameters": 1_500},
    "recipe": {"recipe": "spn_lora=1,thr=-0.5"},
}


@pytest.mark.parametrize("dtype", ["keep", "bf16"])
@pytest.mark.parametrize("asked", ASKED.values(), ids=list(ASKED))
def test_a_resize_counts_every_layer_that_has_a_delta(asked: dict[str, Any], dtype: str, work: Work) -> None:
    old, new, report = work.resized(Case(everything()), dtype=dtype, **asked)
    assert {layer.action for layer in report.layers.values()} >= {"keep"}
    assert report.relative_error == pytest.approx(error_of(deltas(old), deltas(new)), abs=1e-6)
    plan = la.plan_resize(old, dtype=dtype, **asked)
    assert plan.relative_error == pytest.approx(report.relative_error_before_rounding, abs=1e-6)


@pytest.mark.parametrize("asked", ASKED.values(), ids=list(ASKED))
def test_layers_that_stay_lose_nothing_and_their_norms_are_stated(asked: dict[str, Any], work: Work) -> None:
    old, _, report = work.resized(Case(everything()), **asked)
    for name, layer in report.layers.items():
        if layer.action == "keep":
            assert layer.relative_error == 0.0, name
            if old.layers[name].opaque is None:
                assert layer.norm == pytest.approx(np.linalg.norm(la.materialise(old.layers[name])), rel=1e-6), name
            else:
                assert layer.norm is None


def test_an_error_budget_is_of_the_whole_adapter(work: Work) -> None:
    """Of the layers that can change alone, the same ranks lose more."""
    old, new, report = work.resized(Case(everything()), error=0.1, keep_structure=True)
    changed = [name for name, layer in report.layers.items() if layer.is_changed]
    before, after = deltas(old), deltas(new)
    own = error_of({name: before[name] for name in changed}, after)
    assert error_of(before, after) <= 0.1 + 1e-6 < own


def test_a_comparison_says_the_same(work: Work) -> None:
    _, _, report = work.resized(Case(everything()), energy=0.8)
    found = la.compare([work.folder / "adapter.safetensors", report.written.path])
    assert found.pairs[0].relative_difference == pytest.approx(report.relative_error, rel=1e-5)


def test_a_spectrum_knows_the_norm_of_what_has_none(work: Work) -> None:
    path = work.save(Case(everything()))
    found = la.spectrum(path)
    vectors = [name for name in deltas(work.open(path)) if "norm" in name or "alone" in name or name.endswith("bias")]
    of = {name: np.linalg.norm(delta) for name, delta in deltas(work.open(path)).items()}
    assert len(vectors) == 4
    assert found.vector_norm == pytest.approx(np.linalg.norm([of[name] for name in vectors]), rel=1e-6)
    assert np.hypot(found.frobenius_norm, found.vector_norm) == pytest.approx(np.linalg.norm([*of.values()]), rel=1e-6)


@pytest.mark.parametrize("key", [f"{KOHYA}_norm.w_norm", f"{KOHYA}.diff_b"])
def test_a_spectrum_says_which_vector_holds_no_numbers(key: str, work: Work) -> None:
    arrays = everything()
    arrays[key][3] = np.nan
    found = la.spectrum(work.save(Case(arrays)))
    (error,) = found.errors
    assert (error.name, error.code) == (key.rpartition(".")[0], "non-finite")
    assert found.vector_norm > 0


def test_a_vector_that_holds_no_numbers_is_refused(work: Work) -> None:
    arrays = everything()
    arrays[f"{KOHYA}_norm.w_norm"][3] = np.nan
    path = work.save(Case(arrays))
    for name in ("plan", "write"):
        with pytest.raises(NonFiniteError, match=f"{KOHYA}_norm"):
            la.plan_resize(work.open(path), rank=2) if name == "plan" else work.resize(path, rank=2)
    assert work.names == [path.name]


@pytest.mark.parametrize("asked", [{"rank": 3}, {"energy": 0.8}, {"error": 0.2}], ids=str)
@pytest.mark.parametrize("method", ["svd", "slerp", "tsv"])
def test_a_merge_counts_vectors_and_biases(method: str, asked: dict[str, Any], tmp_path: Path) -> None:
    paths = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        arrays = {key: array for key, array in everything(1 + number).items() if not UNMERGED.search(key)}
        paths.append(save(Case(arrays), tmp_path / str(number)))
    options = {"method": method, "dtype": "bf16"}
    with la.open(paths[0]) as first, la.open(paths[1]) as second:
        plan = la.plan_merge([first, second], **options, **asked)
        sums = deltas(la.plan_merge([first, second], method=method).rewriting.adapter)
        before = deltas(first)
        for name in (f"{KOHYA}_norm", f"{KOHYA}_norm.bias", f"{KOHYA}.bias", f"{KOHYA}_alone"):
            # Twice as large in the other, and parallel: every method makes their mean.
            np.testing.assert_allclose(sums[name], 1.5 * before[name], rtol=1e-6)
        report = la.merge(paths, None, tmp_path / "out.safetensors", **options, **asked)
        assert plan.relative_error == pytest.approx(report.relative_error_before_rounding, rel=1e-5)
    with la.open(report.written.path) as merged:
        assert report.relative_error == pytest.approx(error_of(sums, deltas(merged)), abs=2e-6)
    assert report.relative_error_before_rounding <= report.relative_error


# -- the parts ---------------------------------------------------------------------------------------


@given(st.one_of(low_ranks(), denses(), hadamards(), kroneckers(), stacks(), vectors()))
def test_a_norm_is_that_of_the_dense_delta(update: Any) -> None:
    dense = delta(update)
    assert frobenius_norm(update) == pytest.approx(np.linalg.norm(dense), rel=1e-6, abs=1e-12)


@given(
    st.lists(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.floats(0.0, 20.0), max_size=3),
    st.floats(0.0, 1.0),
)
def test_norms_of_others_leave_more_to_drop(spectra: list[list[float]], kept: list[float], error: float) -> None:
    """Layers that drop nothing are as layers whose floor holds all they have."""
    bidders = [Bidder(np.sort(values)[::-1], 1.0) for values in spectra]
    ranks = ranks_within_error(bidders, error, kept=kept)
    whole = sum(np.sum(one.singular_values**2) for one in bidders) + sum(norm**2 for norm in kept)
    tails = [one.singular_values[rank:] for one, rank in zip(bidders, ranks, strict=True)]
    allowed = error**2 * whole
    lost = sum(np.sum(tail**2) for tail in tails)
    assert lost <= allowed * (1 + 1e-9)
    bought = [one.singular_values[rank - 1] for one, rank in zip(bidders, ranks, strict=True) if rank > 1]
    if bought:  # the last one bought, which is the smallest, was needed
        assert lost + min(bought) ** 2 > allowed * (1 - 1e-9)
