"""Factors, spectra and truncations of every kind of update agree with its dense delta."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from lora_analysis.adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Vector
from lora_analysis.errors import NonFiniteError, OpaqueUpdateError, OptionError, ShapeError
from lora_analysis.linalg import products
from test_svd import assert_contract

EVERY_MATRIX = pytest.mark.parametrize("kind", strategies.MATRIX_KINDS)
# What float64 loses when a few dozen numbers of at most this size are multiplied and added; the factors may be
# much larger than a delta in which they cancel.
NOISE = 1e-12


def size(update):
    """A bound for the intermediate results: the norms of all factors, multiplied."""
    match update:
        case LowRank():
            parts = [update.up, update.down] + ([] if update.core is None else [update.core])
            return abs(update.scale) * np.prod([np.linalg.norm(part.astype(np.float64)) for part in parts])
        case Dense():
            return abs(update.scale) * np.linalg.norm(update.values.astype(np.float64))
    return abs(update.scale) * size(update.first) * size(update.second)


@EVERY_MATRIX
@given(data=st.data())
def test_factors_multiply_to_the_delta(kind, data):
    update = data.draw(strategies.MATRIX_KINDS[kind])
    found = products.factors(update)
    assert found.core is None
    assert found.shape == update.shape
    np.testing.assert_allclose(strategies.delta(found), strategies.delta(update), atol=NOISE * size(update))


@EVERY_MATRIX
@given(data=st.data())
def test_singular_values_are_those_of_the_dense_delta(kind, data):
    update = data.draw(strategies.MATRIX_KINDS[kind])
    expected = oracle.singular_values(strategies.delta(update))
    assert_contract(products.singular_values(update), expected, NOISE * size(update))


@EVERY_MATRIX
@given(data=st.data(), rank=st.integers(1, 12))
def test_the_error_of_a_truncation_is_the_dropped_tail(kind, data, rank):
    update = data.draw(strategies.MATRIX_KINDS[kind])
    delta = strategies.delta(update)
    found = products.truncate(update, rank)
    tolerance = 1e-6 * np.linalg.norm(delta) + NOISE * size(update)
    best = oracle.best_error(delta, rank)
    assert found.factors.shape == update.shape
    assert found.factors.rank <= rank
    assert np.linalg.norm(strategies.delta(found.factors) - delta) == pytest.approx(best, abs=tolerance)
    assert found.error == pytest.approx(best, abs=tolerance)
    assert_contract(found.singular_values, oracle.singular_values(delta), NOISE * size(update))


def test_a_plain_low_rank_update_is_returned_as_it_is():
    update = LowRank(np.ones((2, 1), np.float16), np.ones((1, 3), np.float16))
    assert products.factors(update) is update


def test_the_product_of_two_small_ranks_stays_small():
    rng = np.random.default_rng(0)
    first, second = (LowRank(rng.standard_normal((64, rank)), rng.standard_normal((rank, 48))) for rank in (3, 4))
    found = products.factors(Hadamard(first, second, 0.5))
    assert found.rank == 12
    expected = 0.5 * (first.up @ first.down) * (second.up @ second.down)
    np.testing.assert_allclose(strategies.delta(found), expected, atol=1e-12)


def test_a_product_of_ranks_above_a_side_is_no_larger_than_the_delta():
    rng = np.random.default_rng(0)
    first, second = (LowRank(rng.standard_normal((64, 8)), rng.standard_normal((8, 48))) for _ in range(2))
    assert products.factors(Hadamard(first, second)).rank == 48


def test_a_large_kronecker_product_is_decomposed_by_its_sides():
    rng = np.random.default_rng(1)
    first, second = Dense(rng.standard_normal((16, 16))), Dense(rng.standard_normal((320, 320, 3, 3)))
    update = Kronecker(first, second, 0.25)  # the delta would have 236 million values
    found = products.truncate(update, 10)
    sides = (oracle.singular_values(side.values) for side in (first, second))
    expected = np.sort(0.25 * np.outer(*sides).ravel())[::-1]
    np.testing.assert_allclose(products.singular_values(update), expected, rtol=1e-9)
    assert found.factors.shape == (5120, 5120, 3, 3)
    np.testing.assert_allclose(np.sum(found.factors.up**2, axis=0), expected[:10], rtol=1e-9)


@pytest.mark.parametrize("function", [products.factors, products.singular_values, lambda u: products.truncate(u, 1)])
class TestWhatIsNoMatrix:
    def test_an_opaque_update_says_why(self, function):
        with pytest.raises(OpaqueUpdateError, match="IA3 multiplies"):
            function(Opaque("IA3 multiplies the base weight"))

    def test_a_vector_has_no_singular_values(self, function):
        with pytest.raises(ShapeError, match=r"vector of shape \(3,\)"):
            function(Vector(np.ones(3)))

    def test_a_stored_delta_of_one_dimension_has_none_either(self, function):
        with pytest.raises(ShapeError, match=r"shape \(3,\) is no matrix"):
            function(Dense(np.ones(3)))

    def test_experts_are_decomposed_one_by_one(self, function):
        part = LowRank(np.ones((2, 1)), np.ones((1, 2)))
        with pytest.raises(ShapeError, match="2 experts are 2 matrices"):
            function(Stacked((part, part)))


ONE = LowRank(np.ones((3, 1)), np.ones((1, 3)))
NOT_A_NUMBER = LowRank(np.ones((3, 1)), np.array([[1.0, np.nan, 1.0]]))


@pytest.mark.parametrize(
    "update",
    [
        NOT_A_NUMBER,
        Dense(np.full((2, 2), np.inf)),
        Hadamard(ONE, NOT_A_NUMBER),
        Kronecker(ONE, NOT_A_NUMBER),
        Kronecker(Dense(np.full((2, 2), np.nan)), ONE),
        Kronecker(ONE, ONE, float("inf")),
        Kronecker(LowRank(np.full((2, 1), 1e300), np.ones((1, 2))), LowRank(np.full((2, 1), 1e300), np.ones((1, 2)))),
    ],
    ids=["low-rank", "dense", "hadamard", "kronecker second", "kronecker first", "kronecker scale", "overflow"],
)
@pytest.mark.parametrize("function", [products.singular_values, lambda u: products.truncate(u, 1)])
def test_what_is_no_number_is_a_typed_error(update, function):
    with pytest.raises(NonFiniteError):
        function(update)


@pytest.mark.parametrize("update", [ONE, Kronecker(ONE, ONE)], ids=["low-rank", "kronecker"])
def test_a_rank_below_one_is_refused(update):
    with pytest.raises(OptionError, match="rank 0 was asked for"):
        products.truncate(update, 0)
