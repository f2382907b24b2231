"""Every rank rule gives the smallest rank that satisfies its definition; budgets are spent as well as can be."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_analysis.errors import OptionError
from lora_analysis.linalg.budget import Bidder, RankBounds, ranks_within_cost, ranks_within_error
from lora_analysis.linalg.rank import RULES, RankChoice, select_rank

FRACTIONS = st.floats(0.01, 1.0)
VALUES = st.one_of(st.floats(1e-3, 100.0), st.sampled_from([0.0, 1.0, 2.0, 3.0]))
SPECTRA = st.lists(VALUES, min_size=1, max_size=12).map(lambda values: np.sort(np.array(values))[::-1])

# The definitions of the documentation, as conditions on (spectrum, k, value). Sums are compared with a slack
# of a few roundings in favour of and against the condition: where the two disagree, either answer is right.
CONDITIONS = {
    "fixed": (lambda s, k, v, slack: k >= min(v, len(s)), st.integers(1, 15)),
    "energy": (lambda s, k, v, slack: np.sum(s[:k] ** 2) >= v * np.sum(s**2) * slack, FRACTIONS),
    "norm": (lambda s, k, v, slack: np.linalg.norm(s[:k]) >= v * np.linalg.norm(s) * slack, FRACTIONS),
    "sum": (lambda s, k, v, slack: np.sum(s[:k]) >= v * np.sum(s) * slack, FRACTIONS),
    "error": (lambda s, k, v, slack: np.linalg.norm(s[k:]) * slack <= v * np.linalg.norm(s), st.floats(0.0, 0.99)),
    "ratio": (lambda s, k, v, slack: not np.any(s[k:] > s[0] / v), st.floats(1.0, 1000.0)),
    "absolute": (lambda s, k, v, slack: not np.any(s[k:] >= v), st.floats(1e-3, 200.0)),
}


@pytest.mark.parametrize("rule", CONDITIONS)
@given(data=st.data(), spectrum=SPECTRA)
def test_the_rank_is_the_smallest_that_satisfies_the_definition(rule, data, spectrum):
    condition, values = CONDITIONS[rule]
    value = data.draw(values)

    def smallest(slack):
        return next((k for k in range(1, len(spectrum)) if condition(spectrum, k, value, slack)), len(spectrum))

    found = select_rank(spectrum, rule, value)
    if spectrum[0] == 0:
        assert found == 1
    else:
        assert smallest(1 - 1e-12) <= found <= smallest(1 + 1e-12)


EIGHT = [10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05]


@pytest.mark.parametrize(
    ("spectrum", "rule", "value", "rank"),
    [
        ([4, 3, 2, 1], "sum", 0.65, 2),
        ([4, 3, 2, 1], "sum", 0.7, 2),  # exactly met
        ([3, 1], "energy", 0.9, 1),  # exactly met
        ([4, 3], "norm", 0.8, 1),  # exactly met
        ([4, 3], "error", 0.6, 1),  # exactly met
        ([4, 3], "energy", 1.0, 2),
        ([4, 3, 0, 0], "energy", 1.0, 2),
        ([4, 3, 0, 0], "error", 0.0, 2),
        ([1, 1e-9], "error", 0.0, 2),
        (EIGHT, "norm", 0.9, 2),
        (EIGHT, "sum", 0.9, 3),
        (EIGHT, "ratio", 10, 3),  # 1 is not above 10 / 10
        ([5, 5, 5], "ratio", 1, 1),  # nothing is above the largest value, and 1 is the smallest rank
        ([5, 2], "absolute", 2, 2),
        ([5, 2], "absolute", 6, 1),
        ([5, 2, 1], "fixed", 2, 2),
        ([5, 2, 1], "fixed", 9, 3),
        ([10, 9, 1, 1, 1], "knee", 0, 3),
        ([10, 1, 1, 1], "knee", 0, 2),
        ([4, 3, 2, 1], "knee", 0, 4),  # a straight line has no knee
        ([10, 9.5, 8, 1], "knee", 0, 4),  # nor has a curve above its chord
        ([2, 2, 2], "knee", 0, 3),
        ([7], "knee", 0, 1),
    ],
)
def test_worked_examples(spectrum, rule, value, rank):
    assert select_rank(np.array(spectrum, dtype=np.float64), rule, value) == rank


@pytest.mark.parametrize(
    ("rule", "value", "rank"),
    [("sd_scripts:sv_ratio", 10, 4), ("sd_scripts:sv_fro", 0.9, 3), ("sd_scripts:sv_cumulative", 0.9, 4)],
)
def test_sd_scripts_keeps_one_component_more_than_its_target_needs(rule, value, rank):
    assert select_rank(np.array(EIGHT), rule, value) == rank


@given(st.data(), SPECTRA)
def test_sd_scripts_ranks_are_the_minimal_ones_plus_one(data, spectrum):
    for theirs, ours in (("sv_ratio", "ratio"), ("sv_fro", "norm"), ("sv_cumulative", "sum")):
        value = data.draw(CONDITIONS[ours][1])
        found = select_rank(spectrum, f"sd_scripts:{theirs}", value)
        minimal = select_rank(spectrum, ours, value)
        assert found == (1 if spectrum[0] <= 1e-6 else min(minimal + 1, len(spectrum)))


def value_for(rule, data):
    known = {**CONDITIONS, "knee": (None, st.just(0.0))}
    ours = {"sv_ratio": "ratio", "sv_fro": "norm", "sv_cumulative": "sum"}.get(rule.partition(":")[2], rule)
    return data.draw(known[ours][1])


@pytest.mark.parametrize("rule", RULES)
class TestEveryRule:
    @given(data=st.data(), spectrum=SPECTRA)
    def test_the_answer_is_a_rank_within_the_bounds(self, rule, data, spectrum):
        floor = data.draw(st.integers(1, 14))
        cap = data.draw(st.none() | st.integers(floor, 14))
        rank = RankChoice(rule, value_for(rule, data), floor, cap).of(spectrum)
        assert type(rank) is int
        assert min(floor, len(spectrum)) <= rank <= min(cap or len(spectrum), len(spectrum))

    @given(data=st.data())
    def test_a_layer_of_zeros_gets_rank_one(self, rule, data):
        assert RankChoice(rule, value_for(rule, data)).of(np.zeros(5)) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
    def test_a_value_out_of_range_is_refused(self, rule, value):
        with pytest.raises(OptionError, match=f"rank rule {rule} got {value}; it needs "):
            RankChoice(rule, value)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "absolute" and ":" not in rule])
@given(data=st.data(), spectrum=SPECTRA.filter(lambda s: s[0] > 0), exponent=st.integers(-600, 600))
def test_rules_without_a_threshold_in_weight_units_do_not_depend_on_the_scale(rule, data, spectrum, exponent):
    value = value_for(rule, data)
    assert select_rank(np.ldexp(spectrum, exponent), rule, value) == select_rank(spectrum, rule, value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("median", 1), "no rank rule is named 'median'; there are fixed, energy"),
        (("fixed", 0), "whole number"),
        (("fixed", 2.5), "whole number"),
        (("energy", 1.1), "at most 1"),
        (("energy", 95), "at most 1"),
        (("ratio", 0.5), "at least 1"),
        (("energy", 0.5, 0), "smallest rank asked for is 0"),
        (("energy", 0.5, 8, 4), "largest rank asked for is 4, the smallest 8"),
    ],
)
def test_a_choice_that_cannot_be_met_is_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        RankChoice(*arguments)


# -- budgets -----------------------------------------------------------------------------------------

COSTS = st.integers(1, 9)
BIDDERS = st.lists(
    st.builds(
        Bidder,
        st.lists(st.integers(0, 6), min_size=1, max_size=4).map(sorted).map(lambda v: np.array(v[::-1], dtype=float)),
        COSTS,
    ),
    min_size=1,
    max_size=3,
)


def cost(bidders, ranks):
    return sum(bidder.cost * rank for bidder, rank in zip(bidders, ranks, strict=True))


def dropped(bidders, ranks):
    return sum(float(np.sum(b.singular_values[rank:] ** 2)) for b, rank in zip(bidders, ranks, strict=True))


def every_allocation(bidders, bounds):
    """All rank vectors within the bounds, tried one by one."""
    choices = []
    for bidder in bidders:
        length = len(bidder.singular_values)
        floor = min(bounds.floor, length)
        choices.append(range(floor, max(floor, min(bounds.cap or length, length)) + 1))
    return list(product(*choices))


BOUNDS = st.builds(RankBounds, st.integers(1, 2), st.none() | st.integers(2, 4))


@given(BIDDERS, st.integers(0, 80), BOUNDS)
def test_a_budget_is_kept_and_missed_by_less_than_one_component(bidders, budget, bounds):
    allocations = every_allocation(bidders, bounds)
    least = min(cost(bidders, ranks) for ranks in allocations)
    if budget < least:
        with pytest.raises(OptionError, match=f"costs {least}"):
            ranks_within_cost(bidders, budget, bounds)
        return
    found = ranks_within_cost(bidders, budget, bounds)
    assert found in allocations
    assert cost(bidders, found) <= budget
    best = min(dropped(bidders, ranks) for ranks in allocations if cost(bidders, ranks) <= budget)
    assert dropped(bidders, found) <= best + largest_next_component(bidders, found, bounds) + 1e-9


@given(BIDDERS, st.integers(0, 80), BOUNDS)
def test_no_allocation_of_the_same_cost_keeps_more(bidders, budget, bounds):
    allocations = every_allocation(bidders, bounds)
    if budget < min(cost(bidders, ranks) for ranks in allocations):
        return
    found = ranks_within_cost(bidders, budget, bounds)
    same = [ranks for ranks in allocations if cost(bidders, ranks) <= cost(bidders, found)]
    assert dropped(bidders, found) <= min(dropped(bidders, ranks) for ranks in same) + 1e-9


def largest_next_component(bidders, ranks, bounds):
    """σ² of the component the greedy order would have taken next: the best gain per cost still to be had."""
    offers = [
        (b.singular_values[rank] ** 2 / b.cost, b.singular_values[rank] ** 2)
        for b, rank in zip(bidders, ranks, strict=True)
        if rank < min(bounds.cap or len(b.singular_values), len(b.singular_values))
    ]
    best = max((rate for rate, _ in offers), default=0.0)
    return max((energy for rate, energy in offers if rate >= best - 1e-12), default=0.0)


@given(BIDDERS, BOUNDS)
def test_more_budget_never_takes_a_component_away(bidders, bounds):
    least = min(cost(bidders, ranks) for ranks in every_allocation(bidders, bounds))
    found = [ranks_within_cost(bidders, budget, bounds) for budget in range(least, least + 60)]
    for less, more in pairwise(found):
        assert all(a <= b for a, b in zip(less, more, strict=True))


@given(BIDDERS, st.floats(0.0, 1.0), BOUNDS)
def test_an_error_is_kept_for_a_cost_within_one_component_of_the_least(bidders, error, bounds):
    allocations = every_allocation(bidders, bounds)
    total = dropped(bidders, [0] * len(bidders))
    allowed = error**2 * total
    if min(dropped(bidders, ranks) for ranks in allocations) > allowed * (1 + 1e-9) + 1e-12:
        with pytest.raises(OptionError, match=f"ranks up to {bounds.cap} leave"):
            ranks_within_error(bidders, error, bounds)
        return
    found = ranks_within_error(bidders, error, bounds)
    assert found in allocations
    assert dropped(bidders, found) <= allowed * (1 + 1e-9) + 1e-12
    least = min(cost(bidders, ranks) for ranks in allocations if dropped(bidders, ranks) <= allowed)
    assert cost(bidders, found) <= least + max(bidder.cost for bidder in bidders)


def test_the_budget_goes_where_a_byte_buys_most():
    wide = Bidder(np.array([3.0, 2.9, 2.8]), 100.0)
    narrow = Bidder(np.array([3.0, 2.0, 1.0]), 10.0)
    assert ranks_within_cost([wide, narrow], 130) == (1, 3)
    assert ranks_within_cost([wide, narrow], 229) == (1, 3)
    assert ranks_within_cost([wide, narrow], 230) == (2, 3)


def test_components_that_are_zero_are_not_bought():
    assert ranks_within_cost([Bidder(np.array([1.0, 0.0]), 1.0), Bidder(np.zeros(3), 1.0)], 100) == (1, 1)


def test_an_error_of_zero_keeps_everything_that_is_not_zero():
    assert ranks_within_error([Bidder(np.array([1.0, 1e-9, 0.0]), 1.0), Bidder(np.zeros(3), 1.0)], 0.0) == (2, 1)


def test_an_error_that_is_met_exactly_needs_no_further_component():
    assert ranks_within_error([Bidder(np.array([4.0, 3.0]), 1.0)], 0.6) == (1,)


def test_no_layers_need_no_ranks():
    assert ranks_within_cost([], 0) == ()
    assert ranks_within_error([], 0.1) == ()


@pytest.mark.parametrize("exponent", [-500, 500])
def test_extreme_magnitudes_are_shared_out_alike(exponent):
    spectra = [np.array([3.0, 2.0, 1.0]), np.array([4.0, 0.5])]
    bidders = [Bidder(spectrum, 2.0) for spectrum in spectra]
    scaled = [Bidder(np.ldexp(spectrum, exponent), 2.0) for spectrum in spectra]
    assert ranks_within_cost(scaled, 6) == ranks_within_cost(bidders, 6) == (2, 1)
    assert ranks_within_error(scaled, 0.3) == ranks_within_error(bidders, 0.3)


@pytest.mark.parametrize("error", [-0.1, 1.5, float("nan")])
def test_an_error_outside_its_range_is_refused(error):
    with pytest.raises(OptionError, match="between 0 and 1"):
        ranks_within_error([Bidder(np.ones(2), 1.0)], error)


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cost_that_is_none_is_refused(wrong):
    with pytest.raises(OptionError, match="layer 1 costs"):
        ranks_within_cost([Bidder(np.ones(2), 1.0), Bidder(np.ones(2), wrong)], 9)


@pytest.mark.parametrize(("floor", "cap"), [(0, None), (4, 3)])
def test_bounds_that_exclude_one_another_are_refused(floor, cap):
    with pytest.raises(OptionError, match=f"ranks from {floor} to {cap}"):
        RankBounds(floor, cap)
