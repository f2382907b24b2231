"""Every merge method written the slow and obvious way: dense float64 matrices, one ``numpy.linalg.svd`` at a time.

Takes ``deltas``, full matrices ``(out, columns)``, and ``weights``; never imports the package.
"""

from __future__ import annotations

from math import prod, sqrt
from zlib import crc32

import numpy as np

TOLERANCE = 1e-11


def weighted(deltas, weights):
    return [weight * delta for delta, weight in zip(deltas, weights, strict=True)]


def weighted_sum(deltas, weights, **_):
    return np.sum(weighted(deltas, weights), axis=0)


def truncated(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def nonzero_svd(matrix, scale=None):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    kept = s > TOLERANCE * (s[0] if scale is None else scale)
    return u[:, kept], s[kept], vt[kept]


def cosine(a, b):
    return np.sum(a * b) / (np.linalg.norm(a) * np.linalg.norm(b))


# -- coefficients ------------------------------------------------------------------------------------


def slerp(deltas, weights, **_):
    if len(deltas) == 1:
        return weights[0] * deltas[0]
    a, b = (np.sign(weight) * delta for delta, weight in zip(deltas, weights, strict=True))
    total = abs(weights[0]) + abs(weights[1])
    t = abs(weights[1]) / total
    theta = np.arccos(cosine(a, b))
    return total * (np.sin((1 - t) * theta) * a + np.sin(t * theta) * b) / np.sin(theta)


def karcher(deltas, weights, **_):
    """Gradient steps on the sphere of flattened matrices."""
    points = [np.sign(w) * d.ravel() / np.linalg.norm(d) for d, w in zip(deltas, weights, strict=True)]
    shares = np.abs(weights) / np.sum(np.abs(weights))
    x = sum(share * point for share, point in zip(shares, points, strict=True))
    x /= np.linalg.norm(x)
    for _ in range(2000):
        step = np.zeros_like(x)
        for share, point in zip(shares, points, strict=True):
            angle = np.arccos(np.clip(x @ point, -1, 1))
            if angle > 1e-9:
                step += share * angle / np.sin(angle) * (point - np.cos(angle) * x)
        length = np.linalg.norm(step)
        if length < 1e-14:
            break
        x = np.cos(length) * x + np.sin(length) * step / length
    norm = np.sum(np.abs(weights)) * sum(s * np.linalg.norm(d) for s, d in zip(shares, deltas, strict=True))
    return norm * x.reshape(deltas[0].shape)


def model_stock(deltas, weights, **_):
    count = len(deltas)
    if count == 1:
        return weights[0] * deltas[0]
    signed = [np.sign(w) * d for d, w in zip(deltas, weights, strict=True)]
    pairs = [cosine(signed[i], signed[j]) for i in range(count) for j in range(i)]
    c = np.mean(pairs)
    return count * c / (1 + (count - 1) * c) * weighted_sum(deltas, weights)


# -- singular vectors --------------------------------------------------------------------------------


def mean_norm(deltas, weights):
    return sum(abs(weight) * np.linalg.norm(delta) for delta, weight in zip(deltas, weights, strict=True))


def at_scale(raw, deltas, weights, alpha):
    return raw * (mean_norm(deltas, weights) / np.linalg.norm(raw) if alpha is None else alpha)


def polar(matrix):
    p, _, qt = nonzero_svd(matrix)
    return p @ qt


def tsv(deltas, weights, alpha=None, **_):
    found = [nonzero_svd(one) for one in weighted(deltas, weights)]
    u = polar(np.concatenate([u for u, _, _ in found], axis=1))
    v = polar(np.concatenate([vt.T for _, _, vt in found], axis=1))
    return at_scale(u @ np.diag(np.concatenate([s for _, s, _ in found])) @ v.T, deltas, weights, alpha)


def iso_c(deltas, weights, alpha=None, beta=1.0, **_):
    if len(deltas) == 1:
        return weights[0] * deltas[0]
    u, s, vt = nonzero_svd(weighted_sum(deltas, weights))
    return at_scale(u @ np.diag((1 - beta) * s + beta * np.mean(s)) @ vt, deltas, weights, alpha)


def iso_cts(deltas, weights, alpha=None, common=0.8, **_):
    if len(deltas) == 1:
        return weights[0] * deltas[0]
    xs = weighted(deltas, weights)
    rank = min(np.linalg.matrix_rank(np.concatenate(xs, axis=1)), np.linalg.matrix_rank(np.concatenate(xs, axis=0)))
    k = max(1, round(common * rank))
    s_each = (rank - k) // len(xs)
    u, s, vt = nonzero_svd(sum(xs))
    us, ss, vs = [u[:, :k]], [s[:k]], [vt[:k].T]
    project = np.eye(len(u)) - us[0] @ us[0].T
    for x in xs:
        ut, st, vtt = nonzero_svd(project @ x, np.linalg.norm(x))
        us.append(ut[:, :s_each])
        ss.append(st[:s_each])
        vs.append(vtt[:s_each].T)
    raw = np.mean(np.concatenate(ss)) * polar(np.concatenate(us, axis=1)) @ polar(np.concatenate(vs, axis=1)).T
    return at_scale(raw, deltas, weights, alpha)


# -- trimming and electing ---------------------------------------------------------------------------


def keep(density, total):
    return max(1, int(density * total + 1e-9))


def threshold_of(arrays, density):
    """The magnitude of the last entry that stays, of all arrays together."""
    magnitudes = np.sort(np.abs(np.concatenate([array.ravel() for array in arrays])))[::-1]
    return 0.0 if density == 1 else magnitudes[keep(density, len(magnitudes)) - 1]


def trim(array, threshold):
    return array * (np.abs(array) >= threshold)


def elect(xs, weights):
    """Entry by entry, in a loop."""
    merged = np.zeros(xs[0].shape)
    for place in np.ndindex(merged.shape):
        total = sum(x[place] for x in xs)
        sign = 1 if total >= 0 else -1
        agreeing = [(x[place], abs(w)) for x, w in zip(xs, weights, strict=True) if x[place] * sign > 0]
        if agreeing:
            merged[place] = sum(np.abs(weights)) * sum(x for x, _ in agreeing) / sum(w for _, w in agreeing)
    return merged


def random_of(seed, name, number, shape):
    return np.random.default_rng([seed, crc32(name.encode()), 0, number]).random(shape)


def drop(x, density, random):
    return np.where(random < density, x / density, 0)


def thresholds(xs, density, given):
    return [threshold_of([x], density) for x in xs] if given is None else given


def ties(deltas, weights, density=0.5, given=None, **_):
    if len(deltas) == 1:
        return weights[0] * deltas[0]
    xs = weighted(deltas, weights)
    limits = thresholds(xs, density, given)
    return elect([trim(x, limit) for x, limit in zip(xs, limits, strict=True)], weights)


def magnitude_prune(deltas, weights, density=0.5, given=None, **_):
    xs = weighted(deltas, weights)
    limits = thresholds(xs, density, given)
    return sum(trim(x, limit) for x, limit in zip(xs, limits, strict=True))


def dropped(deltas, weights, density, seed, name, numbers):
    return [
        drop(x, density, random_of(seed, name, number, x.shape))
        for x, number in zip(weighted(deltas, weights), numbers, strict=True)
    ]


def dare_linear(deltas, weights, density=0.5, seed=0, name="", numbers=(), **_):
    return sum(dropped(deltas, weights, density, seed, name, numbers))


def dare_ties(deltas, weights, density=0.5, seed=0, name="", numbers=(), **_):
    return elect(dropped(deltas, weights, density, seed, name, numbers), weights)


def della(deltas, weights, density=0.5, epsilon=0.15, seed=0, name="", numbers=(), **_):
    found = []
    for x, number in zip(weighted(deltas, weights), numbers, strict=True):
        random = random_of(seed, name, number, x.shape)
        new = np.zeros_like(x)
        for i, row in enumerate(x):
            for position, j in enumerate(sorted(range(len(row)), key=lambda j: (abs(row[j]), j))):
                chance = density - epsilon + 2 * epsilon * (position / (len(row) - 1) if len(row) > 1 else 0.5)
                if random[i, j] < chance:
                    new[i, j] = row[j] / chance
        found.append(new)
    return elect(found, weights)


# -- common bases ------------------------------------------------------------------------------------


def bases(xs):
    u = nonzero_svd(np.concatenate(xs, axis=1))[0]
    v = nonzero_svd(np.concatenate(xs, axis=0))[2].T
    return u, v


def knots_coordinates(deltas, weights):
    xs = weighted(deltas, weights)
    u, s, vt = nonzero_svd(np.concatenate(xs, axis=1))
    columns = xs[0].shape[1]
    return u, [np.diag(s) @ vt[:, t * columns : (t + 1) * columns] for t in range(len(xs))]


def knots_ties(deltas, weights, density=0.5, given=None, **_):
    if len(deltas) == 1:
        return weights[0] * deltas[0]
    u, reps = knots_coordinates(deltas, weights)
    limits = thresholds(reps, density, given)
    return u @ elect([trim(rep, limit) for rep, limit in zip(reps, limits, strict=True)], weights)


def core_ties(deltas, weights, density=0.5, **_):
    if len(deltas) == 1:
        return weights[0] * deltas[0]
    xs = weighted(deltas, weights)
    u, v = bases(xs)
    cores = [u.T @ x @ v for x in xs]
    return u @ elect([trim(core, threshold_of([core], density)) for core in cores], weights) @ v.T


def core_dare(deltas, weights, density=0.5, seed=0, name="", numbers=(), **_):
    xs = weighted(deltas, weights)
    u, v = bases(xs)
    cores = [u.T @ x @ v for x in xs]
    randoms = [random_of(seed, name, number, cores[0].shape) for number in numbers]
    return u @ sum(drop(core, density, random) for core, random in zip(cores, randoms, strict=True)) @ v.T


def leading(matrices, rank):
    return np.linalg.svd(np.concatenate(matrices, axis=1), full_matrices=False)[0][:, :rank]


def shared_bases(matrices, rank):
    """Plain HOOI until nothing turns any more, and the number of its steps."""
    v, turn, steps = leading([x.T for x in matrices], rank), 1.0, 0
    while turn > 1e-12:
        u = leading([x @ v for x in matrices], rank)
        before, v = v, leading([x.T @ u for x in matrices], rank)
        turn, steps = np.linalg.norm(v - before @ before.T @ v), steps + 1
    return (u, v), steps


def ctm(deltas, weights, rank, beta=0.5, core_rule="ties", density=0.5, seed=0, name="", numbers=(), **_):
    """Dense HOOI on the whole matrices."""
    if len(deltas) == 1:
        return truncated(weights[0] * deltas[0], rank)
    xs = weighted(deltas, weights)
    norms = [np.linalg.norm(x) for x in xs]
    scaled = [x / n * (beta * n + (1 - beta) * np.mean(norms)) for x, n in zip(xs, norms, strict=True)]
    u, v = shared_bases(scaled, rank)[0]
    coordinates = [u.T @ x @ v for x in xs]
    if core_rule == "ties":
        merged = elect([trim(c, threshold_of([c], density)) for c in coordinates], weights)
    elif core_rule == "dare_linear":
        randoms = [random_of(seed, name, number, (rank, rank)) for number in numbers]
        merged = sum(drop(c, density, random) for c, random in zip(coordinates, randoms, strict=True))
    else:
        merged = sum(coordinates)
    return u @ merged @ v.T


# -- steps around a method ---------------------------------------------------------------------------


def pico(deltas, weights, merge):
    """``merge`` of the calibrated deltas, at the inputs' mean norm."""
    xs = weighted(deltas, weights)
    u, s, _ = nonzero_svd(np.concatenate(xs, axis=1))
    shares = s**2 / np.sum(s**2)
    factors = 1 / (1 + (len(xs) - 1) * shares)
    new = [x + u @ np.diag(factors - 1) @ u.T @ x for x in xs]
    merged = merge([x / abs(w) for x, w in zip(new, weights, strict=True)], [abs(w) for w in weights])
    return merged * mean_norm(deltas, weights) / np.linalg.norm(merged)


def svc(deltas, weights, merged, floor=0.1):
    u, s, vt = nonzero_svd(merged)
    new = np.zeros_like(s)
    for r in range(len(s)):
        shares = 0.0
        for x in weighted(deltas, weights):
            a = u[:, r] @ x
            shares += max(floor, (s[r] * vt[r]) @ a / (a @ a))
        new[r] = s[r] * len(deltas) / shares
    return u @ np.diag(new) @ vt


# -- other tools -------------------------------------------------------------------------------------


def sd_scripts(factors, weights):
    """``factors``: (up, down, alpha) per adapter. Sums of scaled ups and downs."""
    first = factors[0][2]
    up = sum(u * abs(w) * sqrt(alpha / first) for (u, _, alpha), w in zip(factors, weights, strict=True))
    down = sum(d * w * sqrt(alpha / first) for (_, d, alpha), w in zip(factors, weights, strict=True))
    return first / up.shape[1] * up @ down.reshape(len(down), prod(down.shape[1:]))


def sd_scripts_concat(factors, weights):
    first = factors[0][2]
    up = np.concatenate(
        [u * abs(w) * sqrt(alpha / first) for (u, _, alpha), w in zip(factors, weights, strict=True)], axis=1
    )
    down = np.concatenate([d * w * sqrt(alpha / first) for (_, d, alpha), w in zip(factors, weights, strict=True)])
    return first / up.shape[1] * up @ down
