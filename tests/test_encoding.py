"""Rounding to stored types."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lora_analysis.errors import NonFiniteError
from lora_analysis.formats.encoding import buffer_of, encode, encode_measured

LARGEST = {"F16": 65504.0, "F8_E4M3": 448.0, "F8_E5M2": 57344.0, "BF16": 3.3895314e38}


@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(-65504, 65504, width=32)))
def test_fp16_is_what_numpys_cast_gives_to_the_bit(values: np.ndarray) -> None:
    np.testing.assert_array_equal(encode(values, "F16", "x").view(np.uint16), values.astype(np.float16).view(np.uint16))


def test_fp16_agrees_around_every_value_it_has() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = (halves[1:] + halves[:-1]) / 2
    values = np.concatenate([halves, middles, np.nextafter(middles, 0), np.nextafter(middles, np.float32(1e9))])
    values = np.concatenate([values, -values])
    np.testing.assert_array_equal(encode(values, "F16", "x").view(np.uint16), values.astype(np.float16).view(np.uint16))


def test_fp16_agrees_on_arrays_larger_than_a_block_of_any_order() -> None:
    values = (np.random.default_rng(0).standard_normal((300, 500)) * 1e-4).astype(np.float32)
    for array in (values, values.T, values[::2, ::3]):
        found = encode(array, "F16", "x")
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array.astype(np.float16))


def test_what_rounding_moves_is_measured_on_the_way() -> None:
    chance = np.random.default_rng(1)
    values = (chance.standard_normal((300, 500)) * 10.0 ** chance.integers(-8, 4, (300, 500))).astype(np.float32)
    for array in (values, values.T, values[::2, ::3], np.zeros((0, 3), np.float32)):
        found = encode_measured(array, "F16", "x")
        assert found.moved is not None
        np.testing.assert_array_equal(found.values, encode(array, "F16", "x"))
        np.testing.assert_array_equal(np.abs(found.moved), np.abs(found.values.astype(np.float32) - array))
        assert found.largest == (np.abs(array).max() if array.size else 0.0)
    for array, dtype in ((values, "BF16"), (values.astype(np.float64), "F16"), (values, "F32")):
        assert encode_measured(array, dtype, "x").moved is None


@pytest.mark.parametrize("dtype", LARGEST)
def test_a_value_too_large_for_the_type_is_an_error_that_names_the_tensor(dtype: str) -> None:
    largest = LARGEST[dtype]
    assert float(encode(np.array([-largest]), dtype, "x").astype(np.float64)[0]) == pytest.approx(-largest)
    for value in (largest * 1.01, -largest * 1.01, np.nan, np.inf):
        with pytest.raises(NonFiniteError, match=r"some\.tensor"):
            encode(np.array([0.0, value]), dtype, "some.tensor")


def test_buffers_of_types_that_export_none() -> None:
    assert bytes(buffer_of(encode(np.array([1.0, 2.0]), "BF16", "x"))) == b"\x80\x3f\x00\x40"
    assert bytes(buffer_of(encode(np.array([[1.0]]), "F8_E4M3", "x"))) == b"\x38"
