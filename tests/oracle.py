"""What an update means, written the slow and obvious way: plain numpy, float64, one loop per index.

Takes plain arrays and never imports the package, so that it cannot share its mistakes.
"""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np


def low_rank(up, down, scale=1.0, kernel=(), core=None):
    """(out, in, *kernel) from up (out, rank) and down (rank, in * k), or down (rank, in) with a core."""
    up, down = np.asarray(up, dtype=np.float64), np.asarray(down, dtype=np.float64)
    if core is None:
        width = down.shape[1] // prod(kernel)
        down = down.reshape(down.shape[0], width, *kernel)
        return scale * np.einsum("or,r...->o...", up, down)
    return scale * np.einsum("om,mn...,ni->oi...", up, np.asarray(core, dtype=np.float64), down)


def dense(values, scale=1.0):
    return scale * np.asarray(values, dtype=np.float64)


def hadamard(first, second, scale=1.0):
    return scale * first * second


def kronecker(first, second, scale=1.0):
    """delta[o1 * out2 + o2, i1 * in2 + i2, x] = first[o1, i1] * second[o2, i2, x]"""
    (out1, in1), (out2, in2, *kernel) = first.shape, second.shape
    delta = np.zeros((out1 * out2, in1 * in2, *kernel))
    for o1, i1, o2, i2 in product(range(out1), range(in1), range(out2), range(in2)):
        delta[o1 * out2 + o2, i1 * in2 + i2] = scale * first[o1, i1] * second[o2, i2]
    return delta


def unfolded(delta):
    """(out, in * k)"""
    return delta.reshape(delta.shape[0], -1)


def singular_values(delta):
    """Of the unfolded delta, largest first, by a dense SVD."""
    return np.linalg.svd(unfolded(delta), compute_uv=False)


def best_error(delta, rank):
    """Frobenius norm of the error of the best approximation of that rank (Eckart-Young)."""
    return float(np.sqrt(np.sum(singular_values(delta)[rank:] ** 2)))
