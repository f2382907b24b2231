"""Subspaces, angles and overlaps equal those of dense float64 singular vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
import strategies
from lora_analysis.adapter import Dense, Hadamard, Kronecker, LowRank
from lora_analysis.errors import NonFiniteError
from lora_analysis.linalg.angles import angles_of, chance_angles, principal_angles, summarise_angles
from lora_analysis.linalg.subspace import (
    crossing,
    energy_beyond,
    energy_within,
    overlap_grid,
    span,
    span_product,
    stacked_spans,
)

OUT, IN = 30, 24


def graded(rng, *shape):
    """Normal values whose columns fall off, so that no two singular values of a product are close."""
    return rng.standard_normal(shape) / np.arange(1, shape[1] + 1)


def low_rank(rng, out=OUT, columns=IN, rank=4, scale=-0.5):
    return LowRank(graded(rng, out, rank), graded(rng, columns, rank).T, scale)


def update(kind, seed):
    rng = np.random.default_rng([seed, *kind.encode()])
    match kind:
        case "factors":
            return low_rank(rng)
        case "fp16":
            made = low_rank(rng, rank=5)
            return LowRank(made.up.astype(np.float16), made.down.astype(np.float16), 2.0)
        case "tucker":
            core = rng.standard_normal((3, 3, 2, 2))
            return LowRank(graded(rng, OUT, 3), graded(rng, IN // 4, 3).T, 0.5, (2, 2), core)
        case "ill-conditioned":
            made = low_rank(rng, rank=3)
            nearly = made.up[:, :1] + 1e-5 * made.up[:, 1:2]
            return LowRank(np.concatenate([made.up[:, :1], nearly, made.up[:, 2:]], axis=1), made.down)
        case "dependent":
            made = low_rank(rng, rank=3)
            twice = np.concatenate([made.up, made.up[:, :1]], axis=1)
            return LowRank(twice, np.concatenate([made.down, graded(rng, IN, 1).T]))
        case "dense":
            return Dense(strategies.delta(low_rank(rng, rank=7)), 1.5)
        case "loha":
            return Hadamard(low_rank(rng, rank=2, scale=1.0), low_rank(rng, rank=2, scale=1.0), 3.0)
        case "lokr":
            return Kronecker(Dense(graded(rng, 5, 4)[:, :3]), low_rank(rng, 6, 8, 2, 1.0), 0.5)
    raise AssertionError(kind)


KINDS = ("factors", "fp16", "tucker", "ill-conditioned", "dependent", "dense", "loha", "lokr")


def dense_span(update, limit=None):
    u, s, vt = np.linalg.svd(oracle.unfolded(strategies.delta(update)), full_matrices=False)
    kept = s > 1e-9 * s[0]
    return u[:, kept][:, :limit], s[kept][:limit], vt[kept][:limit].T


@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("first", KINDS)
def test_figures_of_every_pair_of_kinds_equal_the_dense_ones(first, second):
    a, b = update(first, 1), update(second, 2)
    ours = span(a), span(b)
    (u1, s1, v1), (u2, s2, v2) = dense_span(a), dense_span(b)
    assert [one.rank for one in ours] == [len(s1), len(s2)]
    cross = crossing(*ours)
    da, db = strategies.delta(a).ravel(), strategies.delta(b).ravel()
    norms = np.linalg.norm(da) * np.linalg.norm(db)
    assert span_product(*ours, cross) == pytest.approx(float(da @ db), abs=1e-10 * norms)
    for found, dense, bases in (
        (cross.left, u1.T @ u2, lambda: (ours[0].u()[None], ours[1].u()[None])),
        (cross.right, v1.T @ v2, lambda: (ours[0].v()[None], ours[1].v()[None])),
    ):
        rows, columns = tuple(range(1, len(s1) + 1)), tuple(range(1, len(s2) + 1))
        sums = np.cumsum(np.cumsum(dense**2, axis=0), axis=1) / np.minimum.outer(rows, columns)
        np.testing.assert_allclose(overlap_grid(found, rows, columns), sums, atol=1e-8)
        cosines = np.linalg.svd(dense, compute_uv=False)
        np.testing.assert_allclose(np.cos(angles_of(found[None], bases)[0]), np.minimum(cosines, 1), atol=1e-8)
    within = np.linalg.norm(u1.T @ oracle.unfolded(strategies.delta(b)) @ v1) ** 2 / np.sum(s2**2)
    assert energy_within(ours[1], cross) == pytest.approx(within, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_span_is_the_delta_in_orthonormal_bases(kind):
    made = update(kind, 4)
    found = span(made)
    np.testing.assert_allclose(found.u().T @ found.u(), np.eye(found.rank), atol=1e-8)
    np.testing.assert_allclose(found.v().T @ found.v(), np.eye(found.rank), atol=1e-8)
    delta = oracle.unfolded(strategies.delta(made))
    np.testing.assert_allclose(found.u() * found.s @ found.v().T, delta, atol=1e-9 * np.linalg.norm(delta))
    assert found.energy == pytest.approx(np.sum(delta**2), rel=1e-10)
    assert found.is_whole


@given(st.one_of(*strategies.MATRIX_KINDS.values()))
@settings(max_examples=60)
def test_a_span_reproduces_any_delta(made):
    delta = oracle.unfolded(strategies.delta(made))
    found = span(made)
    rebuilt = found.u() * found.s @ found.v().T if found.rank else np.zeros(delta.shape)
    np.testing.assert_allclose(rebuilt, delta, atol=1e-6 * max(np.linalg.norm(delta), 1e-300))


def test_directions_beyond_the_limit_are_left_out_and_said_so():
    made = update("dense", 6)
    found = span(made, limit=3)
    assert (found.rank, found.is_whole) == (3, False)
    assert found.energy == pytest.approx(np.sum(strategies.delta(made) ** 2))


def test_small_angles_keep_their_digits():
    rng = np.random.default_rng(8)
    basis = np.linalg.qr(rng.standard_normal((40, 6)))[0]
    tilts = np.array([1e-12, 1e-9, 1e-6, 1e-3])
    tilted = basis[:, :4] * np.cos(tilts)
    tilted[:, :2] += basis[:, 4:6] * np.sin(tilts[:2])
    other = np.linalg.qr(np.concatenate([basis, rng.standard_normal((40, 2))], axis=1))[0][:, 6:]
    tilted[:, 2:] += other * np.sin(tilts[2:])
    np.testing.assert_allclose(principal_angles(basis[:, :4], tilted), tilts, rtol=1e-3, atol=1e-14)


@pytest.mark.parametrize(("p", "q", "n"), [(8, 8, 160), (4, 24, 200), (30, 30, 100), (60, 70, 100), (100, 20, 100)])
def test_chance_lines_are_what_random_subspaces_show(p, q, n):
    rng = np.random.default_rng(5)
    shown = [
        principal_angles(*(np.linalg.qr(rng.standard_normal((n, k)))[0][:, :k] for k in (p, q))) for _ in range(40)
    ]
    chance = summarise_angles(shown[0][None], p, q, n)[0]
    assert chance.chance_squared_cosine == pytest.approx(np.mean(np.cos(shown) ** 2), abs=0.01)
    assert chance.chance_chordal == pytest.approx(
        np.mean([np.linalg.norm(np.sin(a)) for a in shown]), rel=0.02, abs=1e-6
    )
    assert chance.chance_grassmann == pytest.approx(np.mean([np.linalg.norm(a) for a in shown]), rel=0.03, abs=1e-6)
    # The edges are limits: at these sizes random subspaces stay inside them by a few hundredths of a radian.
    assert chance.chance_smallest == pytest.approx(np.mean([a[0] for a in shown]), abs=0.08)
    assert chance.chance_largest == pytest.approx(np.mean([a[-1] for a in shown]), abs=0.08)
    assert len(chance_angles(p, q, n)) == len(shown[0])


@pytest.mark.parametrize("factor", ["up", "down"])
def test_nan_is_named(factor):
    made = low_rank(np.random.default_rng(1))
    broken = np.array(getattr(made, factor))
    broken[0, 0] = np.nan
    parts = {"up": made.up, "down": made.down, factor: broken}
    with pytest.raises(NonFiniteError, match=factor):
        span(LowRank(**parts))


def test_a_stack_of_spans_is_the_spans_one_by_one_and_says_which_it_has_not():
    rng = np.random.default_rng(9)
    made = [low_rank(rng, rank=4, scale=scale) for scale in (1.0, -0.5, 3.0)]
    dependent, unfinished = low_rank(rng), low_rank(rng)
    dependent.up[:, 3] = dependent.up[:, 0]
    unfinished.down[2, 5] = np.inf
    zero = LowRank(np.zeros((OUT, 4)), graded(rng, IN, 4).T)
    stack, good = stacked_spans([made[0], dependent, made[1], unfinished, zero, made[2]])
    assert good.tolist() == [True, False, True, False, False, True]
    others = [span(low_rank(rng, rank=3, scale=2.0)) for _ in made]
    crosses = crossing(stack.at([0, 2, 5]), stacked_spans([low_rank(rng, rank=3) for _ in made])[0])
    assert crosses.left.shape == (3, 4, 3)
    for number, (one, other) in zip((0, 2, 5), zip(made, others, strict=True), strict=True):
        ours, alone = stack.at(number), span(one)
        np.testing.assert_allclose(ours.s, np.linalg.svd(strategies.delta(one), compute_uv=False)[:4], rtol=1e-9)
        assert ours.energy == pytest.approx(np.sum(strategies.delta(one) ** 2), rel=1e-10)
        cross, expected = crossing(ours, other), crossing(alone, other)
        np.testing.assert_allclose(np.abs(cross.left), np.abs(expected.left), atol=1e-10)
        assert energy_within(ours, cross.back) == pytest.approx(float(energy_within(alone, expected.back)), abs=1e-10)
        np.testing.assert_allclose(ours.u() * ours.s @ ours.v().T, strategies.delta(one), atol=1e-10)


def test_figures_of_a_stack_are_those_of_each_layer():
    rng = np.random.default_rng(10)
    pairs = [(low_rank(rng, rank=5), low_rank(rng, rank=3)) for _ in range(4)]
    pairs.append((pairs[0][0], LowRank(pairs[0][0].up[:, :3], pairs[0][0].down[:3])))  # nearly parallel to the first
    first, second = (stacked_spans(side)[0] for side in zip(*pairs, strict=True))
    cross = crossing(first, second)
    products = span_product(first, second, cross)
    grids = overlap_grid(cross.right, (1, 5), (1, 2, 3))
    angles = angles_of(cross.left, lambda: (first.u(), second.u()))
    shares, tails = energy_within(second, cross), energy_beyond(first, 3)
    for number, (a, b) in enumerate(pairs):
        da, db = strategies.delta(a), strategies.delta(b)
        (u1, s1, v1), (u2, _, v2) = dense_span(a), dense_span(b)
        assert products[number] == pytest.approx(float(np.vdot(da, db)), abs=1e-10)
        assert shares[number] == pytest.approx(np.linalg.norm(u1.T @ db @ v1) ** 2 / np.sum(db**2), abs=1e-8)
        assert tails[number] == pytest.approx(np.sum(s1[3:] ** 2) / np.sum(s1**2), abs=1e-12)
        assert grids[number, 1, 2] == pytest.approx(np.linalg.norm(v1.T @ v2) ** 2 / 3, abs=1e-8)
        np.testing.assert_allclose(angles[number], principal_angles(u1, u2), atol=1e-7)
