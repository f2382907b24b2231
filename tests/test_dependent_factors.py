"""Factors that depend on each other: truncated by the fast route, held against the dense SVD."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

import lora_analysis as la
import oracle
import strategies
from lora_analysis.adapter import Dense, LowRank
from lora_analysis.linalg import gram, svd
from lora_analysis.linalg.decomposition import decompose
from resizable import KOHYA, Case, Work, alpha, lora

OUT, WIDTH, RANK = 120, 90, 24


def trained(rng: np.random.Generator, rank: int = RANK, decay: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Factors with singular values that fall as those of trained adapters do, mixed by a rotation."""
    rotation = np.linalg.qr(rng.standard_normal((rank, rank)))[0]
    up = rng.standard_normal((OUT, rank)) * np.arange(1, rank + 1) ** -decay
    return up @ rotation, rotation.T @ rng.standard_normal((rank, WIDTH))


def with_own_copy(seed: int, kept: int = 8) -> LowRank:
    """The sum of an update and its own best approximation of rank ``kept``, factors side by side."""
    up, down = trained(np.random.default_rng(seed))
    u, s, vt = np.linalg.svd(up @ down)
    root = np.sqrt(s[:kept])
    return LowRank(
        np.concatenate([0.7 * up, 0.3 * u[:, :kept] * root], axis=1),
        np.concatenate([down, root[:, None] * vt[:kept]]),
    )


def with_a_repeated_row(seed: int) -> LowRank:
    up, down = trained(np.random.default_rng(seed))
    down[-1] = down[0]
    return LowRank(up, down)


def stored(update: LowRank, dtype: str) -> LowRank:
    found = np.dtype(getattr(ml_dtypes, dtype, dtype))
    return LowRank(update.up.astype(found), update.down.astype(found), update.scale)


def only_delta(adapter: la.Adapter) -> np.ndarray:
    (layer,) = adapter.layers.values()
    return la.materialise(layer)


DEPENDENT = {"own copy": with_own_copy, "repeated row": with_a_repeated_row}


@pytest.fixture
def only_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Householder's route, which takes every input, is closed."""

    def closed(*arguments: object) -> None:
        pytest.fail("took the slow route")

    monkeypatch.setattr(svd, "_householder_svd", closed)
    monkeypatch.setattr(svd, "_householder_values", closed)


@pytest.mark.parametrize("rank", [1, 5, 8, 16, 20])
@pytest.mark.parametrize("kind", DEPENDENT)
@pytest.mark.usefixtures("only_fast")
def test_a_truncation_in_float64_is_that_of_the_dense_delta(kind: str, rank: int) -> None:
    update = DEPENDENT[kind](rank)
    assert gram.gram_basis(update.up, update.down) is None  # not all of its values can be trusted
    delta = oracle.low_rank(update.up, update.down)
    norm, expected = np.linalg.norm(delta), oracle.singular_values(delta)
    found = svd.truncate(update, rank)
    u, s, vt = np.linalg.svd(delta)
    best = u[:, :rank] * s[:rank] @ vt[:rank]
    assert np.linalg.norm(found.factors.up @ found.factors.down - best) <= 1e-9 * norm
    assert abs(found.error - np.linalg.norm(expected[rank:])) <= 1e-7 * norm
    np.testing.assert_allclose(found.singular_values[:rank], expected[:rank], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("rank", [1, 8, 20])
def test_a_decomposition_of_stored_factors_is_good_for_its_rank(rank: int, dtype: str) -> None:
    update = stored(with_a_repeated_row(rank), dtype)
    assert decompose(update) is None
    found = decompose(update, rank)
    assert found is not None
    delta = oracle.low_rank(update.up.astype(np.float64), update.down.astype(np.float64))
    made = found.truncate(update, rank)
    u, s, vt = np.linalg.svd(delta)
    best = u[:, :rank] * s[:rank] @ vt[:rank]
    assert np.linalg.norm(made.up.astype(np.float64) @ made.down - best) <= 1e-6 * np.linalg.norm(delta)
    dropped = np.linalg.norm(found.singular_values[rank:])
    assert abs(dropped - np.linalg.norm(s[rank:])) <= 1e-6 * np.linalg.norm(delta)


def test_what_is_kept_has_to_be_there() -> None:
    """Beyond the rank that the delta has, its vectors are noise: that is the slow route's."""
    update = with_own_copy(0)
    assert decompose(stored(update, "float32"), RANK + 4) is None
    found = svd.truncate(update, RANK + 4)
    delta = oracle.low_rank(update.up, update.down)
    assert np.linalg.norm(found.factors.up @ found.factors.down - delta) <= 1e-12 * np.linalg.norm(delta)


def test_a_decomposition_for_a_rank_has_the_same_bits_as_one_for_all() -> None:
    update = stored(LowRank(*trained(np.random.default_rng(1))), "float16")
    whole, part = decompose(update), decompose(update, 5)
    assert whole is not None
    assert part is not None
    for name in ("singular_values", "left", "right"):
        assert getattr(whole, name).tobytes() == getattr(part, name).tobytes()


@pytest.mark.parametrize("shape", [(90, 70), (70, 90)])
@pytest.mark.usefixtures("only_fast")
def test_a_low_rank_difference_in_fp16_is_truncated_by_the_fast_route(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((shape[0], 6)) @ rng.standard_normal((6, shape[1]))).astype(np.float16)
    found = svd.truncate(Dense(values), 4)
    delta = values.astype(np.float64)
    assert np.linalg.norm(found.factors.up @ found.factors.down - delta) == pytest.approx(
        oracle.best_error(delta, 4), abs=1e-8 * np.linalg.norm(delta)
    )


@given(strategies.low_ranks(cores=False))
def test_the_norm_is_that_of_the_dense_delta(update: LowRank) -> None:
    delta = strategies.delta(update)
    sizes = [np.linalg.norm(factor.astype(np.float64)) for factor in (update.up, update.down)]
    noise = 1e-13 * abs(update.scale) * np.prod(sizes)
    assert svd.frobenius_norm(update) == pytest.approx(np.linalg.norm(delta), rel=1e-7, abs=noise)


def test_the_norm_of_a_sum_that_cancels_is_not_noise() -> None:
    up, down = trained(np.random.default_rng(2))
    update = LowRank(np.concatenate([up, -up + 1e-9], axis=1), np.concatenate([down, down]))
    assert gram.squared_norm(update.up, update.down) is None
    assert svd.frobenius_norm(update) == pytest.approx(np.linalg.norm(update.up @ update.down), rel=1e-5)


@pytest.mark.parametrize("rank", [None, 8, 20])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_merging_with_an_own_resized_copy_reports_the_error_it_has(rank: int | None, dtype: str, work: Work) -> None:
    up, down = (values.astype(np.float32) for values in trained(np.random.default_rng(3)))
    arrays = lora(KOHYA, OUT, WIDTH, RANK) | alpha(KOHYA, RANK)
    arrays |= {f"{KOHYA}.lora_up.weight": up, f"{KOHYA}.lora_down.weight": down}
    first = work.save(Case(arrays))
    second = work.resize(first, "copy.safetensors", rank=8).written.path
    target = work.folder / "merged.safetensors"
    report = la.merge([first, second], [0.7, 0.3], target, rank=rank, dtype=dtype)
    deltas = [
        next(iter(la.materialise(layer) for layer in work.open(path).layers.values())) for path in (first, second)
    ]
    exact = 0.7 * deltas[0] + 0.3 * deltas[1]
    (made,) = (la.materialise(layer) for layer in work.open(target).layers.values())
    error = np.linalg.norm(made - exact) / np.linalg.norm(exact)
    assert abs(report.relative_error - error) <= 1e-6


@pytest.mark.parametrize("size", [1e-22, 1.0, 1e12])
def test_rounding_is_measured_whatever_the_size_of_float32_factors(size: float, work: Work) -> None:
    arrays = lora(KOHYA, 30, 20, 6) | alpha(KOHYA, 6)
    arrays = {key: value * np.float32(size) if "lora_" in key else value for key, value in arrays.items()}
    old, new, report = work.resized(Case(arrays), rank=6, dtype="bf16")
    before, after = only_delta(old), only_delta(new)
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert error > 1e-3
    assert abs(report.relative_error - error) <= 1e-6
