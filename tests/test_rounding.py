"""What storing new factors costs: from lengths alone, with one product, or from all products; always within 1e-6."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from lora_analysis.adapter import LowRank
from lora_analysis.formats.encoding import encode_measured
from lora_analysis.linalg.decomposition import decompose
from lora_analysis.linalg.gram import FactorGrams
from lora_analysis.resizing import rounding
from lora_analysis.resizing.rounding import Loss, distance

OUT, WIDTH, RANK, KEPT = 160, 200, 24, 8


def delta_of(factors: LowRank) -> np.ndarray:
    return factors.scale * (factors.up.astype(np.float64) @ factors.down.astype(np.float64))


def with_spectrum(values: np.ndarray, seed: int, scale: float) -> LowRank:
    chance = np.random.default_rng(seed)
    u = np.linalg.qr(chance.standard_normal((OUT, RANK)))[0]
    v = np.linalg.qr(chance.standard_normal((WIDTH, RANK)))[0]
    mixing = np.linalg.qr(chance.standard_normal((RANK, RANK)))[0]
    up, down = u * values @ mixing, mixing.T @ v.T
    return LowRank(up.astype(np.float32), down.astype(np.float32), scale)


@pytest.mark.parametrize(
    ("tail", "stored", "way"),
    [
        (0.3, np.float16, "lengths"),
        (3e-3, np.float16, "one product"),
        (1e-5, np.float16, "all products"),
        (0.3, ml_dtypes.bfloat16, "all products"),
        (0.3, ml_dtypes.float8_e4m3fn, "all products"),
        (0.0, np.float16, "all products"),
    ],
)
@pytest.mark.parametrize("scale", [1.0, -0.4])
def test_every_way_agrees_with_the_dense_matrices(
    tail: float, stored: type, way: str, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = []
    products = rounding._products
    crossed = rounding._sum

    def seen_sum(left: np.ndarray, right: np.ndarray) -> float:
        ways.append("one product")
        return crossed(left, right)

    def seen_products(found: rounding._Rounding, grams: FactorGrams | None) -> rounding._Products:
        ways.append("all products")
        return products(found, grams)

    monkeypatch.setattr(rounding, "_sum", seen_sum)
    monkeypatch.setattr(rounding, "_products", seen_products)
    for seed in range(4):
        values = np.concatenate([np.linspace(2.0, 1.0, KEPT), np.full(RANK - KEPT, max(tail, 1e-4 * (tail == 0.0)))])
        update = with_spectrum(values, seed, scale)
        found = decompose(update, KEPT)
        assert found is not None
        exact = found.truncate(update, KEPT, (1.0, 0.25, -0.3, 2.0)[seed])
        s = found.singular_values
        norm, loss = float(np.linalg.norm(s)), Loss(dropped=float(np.linalg.norm(s[KEPT:])), kept=s[:KEPT])
        if tail == 0.0:
            update, norm, loss = exact, float(np.linalg.norm(s[:KEPT])), Loss()
        written = LowRank(exact.up.astype(stored), exact.down.astype(stored), exact.scale)
        ways.clear()
        told = distance(update, norm, exact, written, loss)
        assert (ways[0] if ways else "lengths") == way
        true = float(np.linalg.norm(delta_of(update) - delta_of(written)))
        assert abs(told - true) <= 1e-6 * norm
        if stored is np.float16:
            seen = encode_measured(exact.up, "F16", "up"), encode_measured(exact.down, "F16", "down")
            again = distance(update, norm, exact, written, loss, encoded=seen)
            assert abs(again - true) <= 1e-6 * norm
            assert again == pytest.approx(told, rel=1e-6)


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.float8_e4m3fn])
def test_gram_matrices_that_are_known_change_nothing(stored: type) -> None:
    whole = with_spectrum(np.linspace(2.0, 1.0, RANK), 1, -0.4)
    written = LowRank(whole.up.astype(stored), whole.down.astype(stored), whole.scale)
    up, down = whole.up.astype(np.float64), whole.down.astype(np.float64)
    norm = float(np.linalg.norm(delta_of(whole)))
    told = distance(whole, norm, whole, written, Loss(), FactorGrams(up.T @ up, down @ down.T))
    assert told == pytest.approx(distance(whole, norm, whole, written, Loss()), rel=1e-4)
    assert abs(told - float(np.linalg.norm(delta_of(whole) - delta_of(written)))) <= 1e-6 * norm
