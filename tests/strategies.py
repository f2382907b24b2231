"""Hypothesis strategies: small updates of every kind, the awkward ones included.

Values come from a seeded generator, so that shrinking works on shapes and kinds, not on single numbers.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

import oracle
from lora_analysis.adapter import Dense, Hadamard, Kronecker, LowRank, Stacked, Vector

SIDES = st.integers(1, 7)
RANKS = st.integers(1, 9)  # may exceed both sides
KERNELS = st.sampled_from([(), (1,), (3,), (1, 1), (2, 3), (3, 3), (2, 1, 2)])
SCALES = st.sampled_from([1.0, 0.5, -2.0, 0.0, 1 / 3])
DTYPES = st.sampled_from([np.dtype(d) for d in ("float16", "float32", "float64", ml_dtypes.bfloat16)])
FLAWS = st.sampled_from(["none", "none", "none", "zero", "duplicate column", "zero column", "graded"])


@st.composite
def arrays(draw, shape, dtype=None):
    """Normal values with a flaw along the second axis, rounded to a stored dtype."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = rng.standard_normal(shape)
    flaw = draw(FLAWS)
    if flaw == "zero":
        values[:] = 0
    elif flaw == "duplicate column":
        values[:, -1] = values[:, 0]
    elif flaw == "zero column":
        values[:, 0] = 0
    elif flaw == "graded":
        steps = np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))
        values *= 4.0**-steps
    return values.astype(draw(DTYPES) if dtype is None else dtype)


@st.composite
def low_ranks(draw, out=None, width=None, kernel=None, dtype=None, scale=None, cores=True):
    """A LowRank; with ``cores``, sometimes in Tucker form."""
    out, width = out or draw(SIDES), width or draw(SIDES)
    kernel = draw(KERNELS) if kernel is None else kernel
    rank = draw(RANKS)
    scale = draw(SCALES) if scale is None else scale
    if cores and kernel and draw(st.booleans()):
        inner = draw(RANKS)
        return LowRank(
            draw(arrays((out, rank), dtype)),
            draw(arrays((inner, width), dtype)),
            scale,
            kernel,
            draw(arrays((rank, inner, *kernel), dtype)),
        )
    columns = width * int(np.prod(kernel, dtype=int))
    return LowRank(draw(arrays((out, rank), dtype)), draw(arrays((rank, columns), dtype)), scale, kernel)


@st.composite
def denses(draw, kernel=None):
    kernel = draw(KERNELS) if kernel is None else kernel
    return Dense(draw(arrays((draw(SIDES), draw(SIDES), *kernel))), draw(SCALES))


@st.composite
def hadamards(draw):
    out, width, kernel = draw(SIDES), draw(SIDES), draw(KERNELS)
    sides = [draw(low_ranks(out, width, kernel, scale=1.0)) for _ in range(2)]
    return Hadamard(sides[0], sides[1], draw(SCALES))


@st.composite
def kroneckers(draw):
    first = draw(low_ranks(kernel=(), scale=1.0) | denses(kernel=()))
    second = draw(low_ranks(scale=1.0) | denses())
    return Kronecker(first, second, draw(SCALES))


@st.composite
def stacks(draw):
    out, width, experts = draw(SIDES), draw(SIDES), draw(st.integers(1, 3))
    return Stacked(tuple(draw(low_ranks(out, width, kernel=())) for _ in range(experts)))


@st.composite
def vectors(draw):
    values = draw(arrays((draw(SIDES), 1)))
    return Vector(values[:, 0], draw(SCALES))


MATRIX_KINDS = {"low-rank": low_ranks(), "dense": denses(), "hadamard": hadamards(), "kronecker": kroneckers()}
KINDS = {**MATRIX_KINDS, "stacked": stacks(), "vector": vectors()}


def delta(update):
    """The update's delta by the oracle."""
    match update:
        case LowRank():
            return oracle.low_rank(update.up, update.down, update.scale, update.kernel, update.core)
        case Dense() | Vector():
            return oracle.dense(update.values, update.scale)
        case Hadamard():
            return oracle.hadamard(delta(update.first), delta(update.second), update.scale)
        case Kronecker():
            return oracle.kronecker(delta(update.first), delta(update.second), update.scale)
        case Stacked():
            return np.stack([delta(part) for part in update.parts])
    raise AssertionError(f"no oracle for {update!r}")
