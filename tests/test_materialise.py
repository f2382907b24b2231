"""The dense delta agrees with the plain definition, for every kind of update."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import strategies
from lora_analysis.adapter import Dense, Kronecker, LowRank, Opaque
from lora_analysis.errors import OpaqueUpdateError
from lora_analysis.linalg import floats
from lora_analysis.linalg.dense import materialise
from lora_analysis.linalg.floats import widen


@pytest.mark.parametrize("kind", strategies.KINDS)
@given(data=st.data())
def test_the_delta_of_every_kind_is_its_definition(kind, data):
    update = data.draw(strategies.KINDS[kind])
    expected = strategies.delta(update)
    found = materialise(update)
    assert found.shape == update.shape == expected.shape
    assert found.dtype == np.float64
    # Sums of at most 9 * 9 products of numbers around 1: a hundred roundings of float64.
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", strategies.KINDS)
@given(data=st.data())
def test_float32_is_the_same_delta_with_float32_roundings(kind, data):
    update = data.draw(strategies.KINDS[kind])
    found = materialise(update, "float32")
    expected = strategies.delta(update)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_a_kronecker_kernel_stays_behind_both_input_indices():
    first = np.array([[1.0, 10.0]])
    second = np.arange(6.0).reshape(1, 2, 3)
    update = Kronecker(Dense(first), Dense(second))
    expected = [[[0, 1, 2], [3, 4, 5], [0, 10, 20], [30, 40, 50]]]
    np.testing.assert_array_equal(materialise(update), expected)


def test_an_update_that_needs_the_base_is_refused_with_its_reason():
    with pytest.raises(OpaqueUpdateError, match="OFT rotates"):
        materialise(Opaque("OFT rotates the base weight"))


def test_the_result_is_never_the_stored_array():
    values = np.ones((2, 2))
    materialise(Dense(values))[:] = 7
    np.testing.assert_array_equal(values, 1)


def test_a_value_that_is_not_a_number_is_left_visible():
    update = LowRank(np.array([[np.nan]]), np.array([[1.0]]))
    assert np.isnan(materialise(update)).all()


EVERY_BYTE = np.arange(256, dtype=np.uint8)
EVERY_HALF = np.arange(65536, dtype=np.uint16)


@pytest.mark.parametrize(
    "stored",
    [
        EVERY_HALF.view(np.float16),
        EVERY_HALF.view(ml_dtypes.bfloat16),
        EVERY_BYTE.view(ml_dtypes.float8_e4m3fn),
        EVERY_BYTE.view(ml_dtypes.float8_e5m2),
        EVERY_BYTE.view(ml_dtypes.float8_e4m3fnuz),
    ],
    ids=lambda array: array.dtype.name,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_stored_number_is_widened_exactly(stored, dtype):
    with np.errstate(invalid="ignore"):  # signalling NaNs are among the bit patterns
        expected = stored.astype(np.float32).astype(dtype)
        found = widen(stored.reshape(-1, 16), dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.ravel(), expected)


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.float8_e5m2], ids=["float16", "float8_e5m2"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arrays_are_widened_whole_in_either_order(stored, order, dtype):
    array = np.random.default_rng(0).standard_normal((600, 401)).astype(stored).copy(order)
    assert array.size > 3 * floats._LOOKED_UP
    for part in (array, array.T, array[:, 17:350], array[::2]):
        expected = part.astype(np.float32).astype(dtype)
        np.testing.assert_array_equal(widen(part, dtype), expected)
        room = np.full(part.shape, np.nan, dtype, order=order)
        assert widen(part, dtype, out=room) is room
        np.testing.assert_array_equal(room, expected)


def test_threads_widen_side_by_side():
    arrays = [np.full((200, 500), float(value), np.float16) for value in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for value, found in zip(range(8), pool.map(widen, arrays), strict=True):
            assert (found == value).all()


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan, np.copysign(np.nan, -1.0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_single_special_half_is_noticed(special, dtype):
    stored = np.array([[1.0, -2.0], [special, 0.5]], np.float16)
    np.testing.assert_array_equal(widen(stored, dtype), stored.astype(dtype))
    np.testing.assert_array_equal(np.signbit(widen(stored.T, dtype)), np.signbit(stored.T))
