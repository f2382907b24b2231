"""The SVD of a factored product agrees with the dense float64 SVD, to the engine's contract."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from lora_analysis.adapter import LowRank
from lora_analysis.errors import NonFiniteError, OptionError, ShapeError
from lora_analysis.linalg import gram, svd

EPSILON = np.finfo(np.float64).eps
RELATIVE = 1e-5  # the contract, for singular values of at least...
FLOOR = 1e-6  # ...this times the largest one


def rounding(factors):
    """What float64 itself loses when the factors are multiplied, in the units of the delta."""
    up, down = factors.up.astype(np.float64), factors.down.astype(np.float64)
    core = 1.0 if factors.core is None else np.linalg.norm(factors.core.astype(np.float64))
    return 100 * EPSILON * abs(factors.scale) * np.linalg.norm(up) * np.linalg.norm(down) * core


def assert_contract(found, expected, noise=0.0):
    """``found`` has the values of ``expected`` that are not exactly zero for lack of rank."""
    assert found.dtype == np.float64
    assert np.all(np.diff(found) <= 0)
    expected, beyond = expected[: len(found)], expected[len(found) :]
    largest = expected[0] if len(expected) else 0.0
    assert np.all(beyond <= noise + 1e-12 * largest)
    counted = expected >= FLOOR * largest
    np.testing.assert_allclose(found[counted], expected[counted], rtol=RELATIVE, atol=noise)
    assert np.all(found[~counted] <= FLOOR * largest * (1 + RELATIVE) + noise)


@given(strategies.low_ranks())
def test_singular_values_are_those_of_the_dense_delta(factors):
    expected = oracle.singular_values(strategies.delta(factors))
    found = svd.singular_values(factors)
    assert found.shape == (min(factors.shape[0], factors.rank, int(np.prod(factors.shape[1:]))),)
    assert_contract(found, expected, rounding(factors))


@given(strategies.low_ranks())
def test_the_thin_svd_is_orthonormal_and_gives_the_delta_back(factors):
    u, s, vt = svd.thin_svd(factors)
    delta = oracle.unfolded(strategies.delta(factors))
    # 1e-6: the fast route's rows are orthonormal to the root of its trusted condition number times epsilon.
    np.testing.assert_allclose(u.T @ u, np.eye(len(s)), atol=1e-6)
    np.testing.assert_allclose(vt @ vt.T, np.eye(len(s)), atol=1e-6)
    np.testing.assert_allclose(u * s @ vt, delta, atol=rounding(factors) + 1e-9 * np.linalg.norm(delta))
    np.testing.assert_allclose(s, svd.singular_values(factors), rtol=1e-6, atol=rounding(factors))


@given(strategies.low_ranks(), st.integers(1, 12))
def test_the_error_of_a_truncation_is_the_dropped_tail(factors, rank):
    delta = strategies.delta(factors)
    found = svd.truncate(factors, rank)
    error = np.linalg.norm(strategies.delta(found.factors) - delta)
    best = oracle.best_error(delta, rank)
    tolerance = 1e-6 * np.linalg.norm(delta) + rounding(factors)
    assert error == pytest.approx(best, abs=tolerance)
    assert found.error == pytest.approx(best, abs=tolerance)
    assert found.factors.scale == 1.0
    assert found.factors.shape == factors.shape
    assert found.factors.rank <= rank


@given(strategies.low_ranks(), st.integers(1, 12))
def test_truncated_factors_are_balanced(factors, rank):
    found = svd.truncate(factors, rank)
    squares = np.sum(found.factors.up**2, axis=0), np.sum(found.factors.down**2, axis=1)
    np.testing.assert_allclose(*squares, rtol=1e-5, atol=rounding(factors))
    kept = found.singular_values[: found.factors.rank]
    np.testing.assert_allclose(squares[0], kept, rtol=1e-5, atol=rounding(factors))


def graded(rng, exponent, shape=(40, 30), rank=12):
    """Factors whose product has singular values from 1 down to 10**-exponent, known in advance."""
    (out, width), values = shape, np.logspace(0, -exponent, rank)
    u = np.linalg.qr(rng.standard_normal((out, rank)))[0]
    v = np.linalg.qr(rng.standard_normal((width, rank)))[0]
    return u, values, v.T


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 4.25, 4.5, 4.75, 5, 6, 9, 14])
@pytest.mark.parametrize("split", [0.0, 0.5, 1.0], ids=["on down", "on both", "on up"])
@pytest.mark.parametrize("mixed", [False, True])
def test_graded_spectra_hold_the_contract_on_either_side_of_the_switch(exponent, split, mixed):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        u, values, vt = graded(rng, exponent)
        mix = rng.standard_normal((12, 12)) if mixed else np.eye(12)
        up = u * values**split @ mix
        down = np.linalg.solve(mix, values[:, None] ** (1 - split) * vt)
        expected = oracle.singular_values(oracle.low_rank(up, down, 3.0))
        assert_contract(svd.singular_values(LowRank(up, down, 3.0)), expected)
        assert_contract(svd.thin_svd(LowRank(up, down, 3.0)).s, expected)


def test_both_routes_are_exercised():
    rng = np.random.default_rng(0)
    for exponent, trusted in ((3, True), (6, False)):
        u, values, vt = graded(rng, exponent)
        assert (gram.squared_singular_values(u * values, vt) is not None) is trusted
        assert (gram.gram_basis(u * values, vt) is not None) is trusted


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float32", "float64"])
def test_every_stored_dtype_and_memory_order_gives_the_same_values(dtype):
    rng = np.random.default_rng(3)
    stored = np.dtype(getattr(ml_dtypes, dtype, dtype))
    up = rng.standard_normal((1500, 4)).astype(stored)
    down = rng.standard_normal((4, 2100)).astype(stored)
    expected = np.linalg.svd(
        np.linalg.qr(up.astype(np.float64), mode="r") @ np.linalg.qr(down.astype(np.float64).T, mode="r").T,
        compute_uv=False,
    )
    for order in "CF":
        factors = LowRank(up.copy(order), down.copy(order))
        np.testing.assert_allclose(svd.singular_values(factors), expected, rtol=1e-10)
        product = svd.truncate(factors, 4).factors
        np.testing.assert_allclose(
            product.up[::50] @ product.down, up[::50].astype(np.float64) @ down.astype(np.float64), atol=1e-10
        )


@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3fn", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_gram_matrix_sums_over_all_its_blocks(dtype, order):
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((200, 1700)).astype(getattr(ml_dtypes, dtype, dtype)).copy(order)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(gram.gram(rows), exact @ exact.T, atol=1e-10)


@pytest.mark.parametrize("magnitude", [1e-200, 1e-90, 1e-30, 1e30, 1e90])
def test_extreme_magnitudes_keep_their_relative_precision(magnitude):
    rng = np.random.default_rng(5)
    up, down = rng.standard_normal((9, 3)), rng.standard_normal((3, 8))
    expected = oracle.singular_values(up @ down)[:3]
    found = svd.singular_values(LowRank(up * magnitude, down))
    np.testing.assert_allclose(found / magnitude, expected, rtol=1e-9)


@pytest.mark.parametrize("function", [svd.singular_values, svd.thin_svd, lambda f: svd.truncate(f, 1)])
class TestBadInput:
    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e5m2", "float32", "float64"])
    @pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("side", ["up", "down"])
    def test_a_value_that_is_no_number_is_named(self, function, dtype, wrong, side):
        arrays = {"up": np.ones((5, 2)), "down": np.ones((2, 6))}
        arrays[side][1, 1] = wrong
        stored = {name: array.astype(getattr(ml_dtypes, dtype, dtype)) for name, array in arrays.items()}
        with pytest.raises(NonFiniteError, match=rf"{side} holds 1 NaN or infinite of 1\d values"):
            function(LowRank(**stored))

    @pytest.mark.parametrize("scale", [np.nan, np.inf])
    def test_a_scale_that_is_no_number_is_named(self, function, scale):
        with pytest.raises(NonFiniteError, match="the scale is"):
            function(LowRank(np.ones((2, 1)), np.ones((1, 2)), scale))

    @pytest.mark.parametrize("rank", [1, 4])
    def test_a_product_beyond_float64_is_an_error(self, function, rank):
        with pytest.raises(NonFiniteError, match="overflows"):
            function(LowRank(np.full((3, rank), 1e200), np.full((rank, 3), 1e200)))

    def test_an_empty_factor_is_an_error(self, function):
        with pytest.raises(ShapeError, match=r"empty factor: up is \(3, 0\)"):
            function(LowRank(np.ones((3, 0)), np.ones((0, 3))))


@pytest.mark.parametrize("rank", [0, -3])
def test_a_rank_below_one_is_refused(rank):
    with pytest.raises(OptionError, match=f"rank {rank} was asked for"):
        svd.truncate(LowRank(np.ones((2, 1)), np.ones((1, 2))), rank)


def test_the_same_input_gives_the_same_bits():
    rng = np.random.default_rng(6)
    factors = LowRank(rng.standard_normal((300, 16)).astype(np.float16), rng.standard_normal((16, 200)), 0.5)
    first, second = (svd.truncate(factors, 4) for _ in range(2))
    assert first.singular_values.tobytes() == second.singular_values.tobytes()
    assert first.factors.up.tobytes() == second.factors.up.tobytes()
    assert first.factors.down.tobytes() == second.factors.down.tobytes()
