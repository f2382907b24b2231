"""The measures of a spectrum have their textbook values and bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_analysis.linalg.spectrum import summarise

POSITIVE = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20).map(lambda v: np.sort(np.array(v))[::-1])
RANKS = ("effective_rank", "energy_effective_rank", "stable_rank", "participation_ratio")


@pytest.mark.parametrize("count", [1, 2, 16])
def test_equal_values_have_every_rank_equal_to_their_number(count):
    found = summarise(np.full(count, 0.25))
    assert [getattr(found, name) for name in RANKS] == pytest.approx([count] * 4)
    assert found.numerical_rank == found.count == count
    assert found.smallest_relative == 1.0
    assert (found.rank_90, found.rank_99) == (int(np.ceil(0.9 * count)), int(np.ceil(0.99 * count)))


def test_a_worked_example():
    found = summarise(np.array([3.0, 1.0, 0.0]))
    p = np.array([0.75, 0.25])
    q = np.array([0.9, 0.1])
    assert found.effective_rank == pytest.approx(np.prod(p**-p))
    assert found.energy_effective_rank == pytest.approx(np.prod(q**-q))
    assert found.stable_rank == pytest.approx(10 / 9)
    assert found.participation_ratio == pytest.approx(100 / 82)
    assert found.frobenius_norm == pytest.approx(10**0.5)
    assert (found.largest, found.smallest_relative, found.nuclear_norm) == (3.0, 0.0, 4.0)
    assert (found.count, found.numerical_rank) == (3, 2)
    assert (found.rank_90, found.rank_95, found.rank_99) == (1, 2, 2)


@given(POSITIVE, st.integers(-900, 900))
def test_ranks_do_not_depend_on_the_scale_and_lie_between_one_and_the_count(spectrum, exponent):
    found, scaled = summarise(spectrum), summarise(np.ldexp(spectrum, exponent))
    for name in RANKS:
        value = getattr(found, name)
        assert 1 - 1e-12 <= value <= found.count + 1e-9
        assert getattr(scaled, name) == pytest.approx(value, rel=1e-12)
    assert found.participation_ratio <= found.energy_effective_rank * (1 + 1e-12)  # Rényi entropies fall with order
    assert found.energy_effective_rank <= found.effective_rank * (1 + 1e-12)
    assert found.rank_90 <= found.rank_95 <= found.rank_99 <= found.numerical_rank


@pytest.mark.parametrize("spectrum", [np.zeros(4), np.zeros(0)])
def test_a_layer_of_zeros_has_no_rank_at_all(spectrum):
    found = summarise(spectrum).to_dict()
    assert found.pop("count") == len(spectrum)
    assert set(found.values()) == {0}
