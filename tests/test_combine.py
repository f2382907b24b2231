"""Weighted sums of updates: the factors side by side make the sum of the deltas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
from lora_analysis.adapter import Dense, LowRank, Opaque, Stacked, Vector
from lora_analysis.errors import OpaqueUpdateError, ShapeError
from lora_analysis.linalg.combine import Term, factored_rank, weighted_sum, weighted_sum_of_elements
from lora_analysis.linalg.dense import materialise
from lora_analysis.linalg.products import factors

WEIGHTS = st.sampled_from([1.0, 0.5, 0.3, -0.7, 2.0, 0.0])


@st.composite
def terms_of_one_shape(draw):
    """One update of any kind that is a matrix, and LoRA and stored differences of the same shape."""
    first = draw(st.one_of(*strategies.MATRIX_KINDS.values()))
    out, width, *kernel = first.shape
    others = draw(st.lists(strategies.low_ranks(out, width, tuple(kernel)), max_size=2))
    dense = draw(st.booleans())
    extra = [Dense(draw(strategies.arrays(first.shape)), draw(strategies.SCALES))] if dense else []
    updates = draw(st.permutations([first, *others, *extra]))
    return [Term(draw(WEIGHTS), update) for update in updates]


def expected(terms):
    return sum(term.weight * strategies.delta(term.update) for term in terms)


def magnitude(terms):
    """What rounding errors are relative to: terms may cancel."""
    norms = (np.linalg.norm(strategies.delta(term.update)) for term in terms)
    return max(1.0, sum(abs(term.weight) * norm for term, norm in zip(terms, norms, strict=True)))


@given(terms_of_one_shape())
def test_the_factored_sum_is_the_sum_of_the_deltas(terms):
    kernel = tuple(terms[0].update.shape[2:])
    found = materialise(weighted_sum(terms, kernel))
    assert found.shape == terms[0].update.shape
    np.testing.assert_allclose(found, expected(terms), rtol=0, atol=1e-11 * magnitude(terms))


@given(terms_of_one_shape())
def test_the_rank_is_the_sum_of_the_ranks(terms):
    assert weighted_sum(terms).rank == sum(factored_rank(term.update) for term in terms)


@given(st.one_of(*strategies.MATRIX_KINDS.values()))
def test_the_factored_rank_is_that_of_the_factors(update):
    assert factored_rank(update) == factors(update).rank


@given(strategies.stacks(), WEIGHTS, WEIGHTS)
def test_experts_are_summed_one_by_one(stack, a, b):
    found = weighted_sum([Term(a, stack), Term(b, stack)])
    assert isinstance(found, Stacked)
    delta = strategies.delta(stack)
    np.testing.assert_allclose(materialise(found), (a + b) * delta, rtol=0, atol=1e-11 * max(1.0, np.abs(delta).max()))
    assert factored_rank(stack) == max(part.rank for part in stack.parts)


@given(strategies.vectors(), WEIGHTS, WEIGHTS)
def test_vectors_are_summed_element_by_element(vector, a, b):
    found = weighted_sum_of_elements([Term(a, vector), Term(b, vector)])
    delta = oracle.dense(vector.values, vector.scale)
    np.testing.assert_allclose(found, (a + b) * delta, rtol=0, atol=1e-12 * max(1.0, np.abs(delta).max()))


def test_a_coefficient_that_is_a_power_of_two_rounds_nothing_when_stored():
    rng = np.random.default_rng(0)
    update = LowRank(*(rng.standard_normal(shape).astype(np.float16) for shape in ((7, 3), (3, 5))), scale=0.5)
    made = weighted_sum([Term(0.25, update)])
    for factor in (made.up, made.down):
        np.testing.assert_array_equal(factor.astype(np.float16), factor)


def test_factors_come_out_of_about_equal_norm():
    rng = np.random.default_rng(0)
    update = LowRank(1e-4 * rng.standard_normal((40, 4)), 10 * rng.standard_normal((4, 30)))
    made = weighted_sum([Term(0.01, update)])
    assert 0.5 <= np.linalg.norm(made.up) / np.linalg.norm(made.down) <= 2.0


def test_values_that_are_no_numbers_stay_in_the_sum():
    broken = LowRank(np.full((2, 1), np.nan), np.ones((1, 2)))
    assert np.isnan(materialise(weighted_sum([Term(1.0, broken)]))).all()


SQUARE, WIDE = Dense(np.ones((2, 2))), Dense(np.ones((2, 3)))
EXPERTS = [Stacked((LowRank(np.ones((2, 1)), np.ones((1, 2))),) * count) for count in (1, 2)]


@pytest.mark.parametrize(
    ("combine", "updates", "error", "message"),
    [
        (weighted_sum, [], ShapeError, "no updates"),
        (weighted_sum_of_elements, [], ShapeError, "no updates"),
        (weighted_sum, [SQUARE, WIDE], ShapeError, r"\(2, 2\), \(2, 3\)"),
        (weighted_sum_of_elements, [Vector(np.ones(2)), Vector(np.ones(3))], ShapeError, r"\(2,\), \(3,\)"),
        (weighted_sum, EXPERTS, ShapeError, "experts differ: 1, 2"),
        (weighted_sum, [EXPERTS[0], SQUARE], ShapeError, "experts differ: 0, 1"),
        (weighted_sum, [Opaque("it rotates")], OpaqueUpdateError, "it rotates"),
        (weighted_sum, [Vector(np.ones(2))], ShapeError, "vector"),
    ],
)
def test_what_cannot_be_added_is_refused(combine, updates, error, message):
    with pytest.raises(error, match=message):
        combine([Term(1.0, update) for update in updates])


@pytest.mark.parametrize(("update", "error"), [(Vector(np.ones(2)), ShapeError), (Opaque("x"), OpaqueUpdateError)])
def test_what_is_no_matrix_has_no_factored_rank(update, error):
    with pytest.raises(error):
        factored_rank(update)
