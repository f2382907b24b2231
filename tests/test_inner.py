"""Inner products of updates of any two kinds are those of their dense deltas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from lora_analysis.adapter import Dense, Hadamard, Kronecker, LowRank, Opaque, Stacked, Vector
from lora_analysis.errors import NonFiniteError, OpaqueUpdateError, ShapeError
from lora_analysis.linalg.inner import inner_product

RNG = np.random.default_rng(3)
OUT, IN, KERNEL = 12, 10, (2, 2)  # 12 = 3 * 4 = 2 * 6, 10 = 2 * 5 = 5 * 2


def normal(*shape):
    return RNG.standard_normal(shape)


def low_rank(out=OUT, columns=IN * 4, rank=3, scale=-0.5, kernel=KERNEL):
    return LowRank(normal(out, rank), normal(rank, columns), scale, kernel)


UPDATES = {
    "factors": low_rank(),
    "factors, flat": low_rank(kernel=(), rank=5),
    "tucker": LowRank(normal(OUT, 3), normal(2, IN), 0.25, KERNEL, normal(3, 2, *KERNEL)),
    "dense": Dense(normal(OUT, IN, *KERNEL), 1.5),
    "loha": Hadamard(low_rank(rank=2, scale=1.0), low_rank(rank=2, scale=1.0), 0.7),
    "loha, full rank": Hadamard(low_rank(rank=4, scale=1.0), low_rank(rank=4, scale=1.0), 0.7),
    "lokr": Kronecker(Dense(normal(3, 2)), Dense(normal(4, 5, *KERNEL)), 2.0),
    "lokr, other sizes": Kronecker(Dense(normal(2, 5)), low_rank(6, 2 * 4, 2, 1.0), -1.0),
    "lokr, factored": Kronecker(low_rank(3, 2, 1, 3.0, ()), low_rank(4, 5 * 4, 2, 1.0), 0.5),
}


@pytest.mark.parametrize("second", UPDATES)
@pytest.mark.parametrize("first", UPDATES)
def test_every_pair_of_kinds_agrees_with_the_dense_deltas(first, second):
    a, b = UPDATES[first], UPDATES[second]
    expected = float(np.vdot(strategies.delta(a), strategies.delta(b)))
    norms = np.linalg.norm(strategies.delta(a)) * np.linalg.norm(strategies.delta(b))
    assert inner_product(a, b) == pytest.approx(expected, abs=1e-12 * norms)


@given(st.one_of(*strategies.KINDS.values()))
def test_the_product_with_itself_is_the_energy(update):
    expected = float(np.sum(np.square(strategies.delta(update))))
    assert inner_product(update, update) == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_experts_add_up():
    parts = tuple(LowRank(normal(4, 2), normal(2, 5), 0.5) for _ in range(6))
    first, second = Stacked(parts[:3]), Stacked(parts[3:])
    expected = np.vdot(strategies.delta(first), strategies.delta(second))
    assert inner_product(first, second) == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("other", "error"),
    [
        (Dense(normal(3, 4)), ShapeError),
        (Vector(normal(12)), ShapeError),
        (Stacked((LowRank(normal(4, 2), normal(2, 5)),)), ShapeError),
        (Opaque("rotates the base weight"), OpaqueUpdateError),
    ],
)
def test_what_does_not_fit_is_an_error(other, error):
    with pytest.raises(error):
        inner_product(UPDATES["factors"], other)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_product_that_is_no_number_is_an_error(value):
    broken = Dense(np.full((2, 2), value))
    with pytest.raises(NonFiniteError):
        inner_product(broken, broken)
