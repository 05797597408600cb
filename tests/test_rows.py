"""The two forms of rows: what bfloat16 keeps of a value, and that rounding at random has no drift."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays

from workers.errors import DataError
from workers.rounding import NOISE_WORDS, rounding_noise
from workers.rows import BFLOAT16, FLOAT32, dim_of, pack, row_dtype_of, stored_form, unpack
from workers.vectors_uncompiled import high, low, put, zeros
from workers.widths import vector_widths

FINITE = strategies.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays.arrays(np.float32, (3, 16), elements=FINITE))
def test_packing_rounds_as_torch_does(values_XD):
    expected = torch.from_numpy(values_XD).to(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(unpack(pack(values_XD, BFLOAT16)), expected)


@given(arrays.arrays(np.float32, (2, 8), elements=FINITE))
def test_packed_values_come_back_unchanged(values_XD):
    packed = pack(values_XD, BFLOAT16)
    np.testing.assert_array_equal(pack(unpack(packed), BFLOAT16), packed)


def test_float32_rows_are_not_copied():
    values = np.ones((2, 4), np.float32)
    assert pack(values, FLOAT32) is values
    assert unpack(values) is values


def test_columns_keep_their_places():
    """Column j lies in the low, column j + D/2 in the high half of word j."""
    values = np.arange(8, dtype=np.float32)[None]
    words = pack(values, BFLOAT16)
    assert words.shape == (1, 4)
    assert (low(words[0], 1, zeros(2)) == [1, 2]).all()
    assert (high(words[0], 1, 4, zeros(2)) == [5, 6]).all()
    assert dim_of(words) == dim_of(values) == 8
    assert (row_dtype_of(words), row_dtype_of(values)) == (BFLOAT16, FLOAT32)


@pytest.mark.parametrize(("row_dtype", "dim"), [(FLOAT32, 2), (FLOAT32, 30), (BFLOAT16, 4), (BFLOAT16, 60)])
def test_dims_that_a_form_cannot_hold(row_dtype, dim):
    with pytest.raises(DataError, match=f"{dim} cannot be {row_dtype}"):
        stored_form(10, dim, row_dtype)


@pytest.mark.parametrize(
    ("dim", "widths"),
    [
        *((4, (2, 2)), (8, (4, 4)), (12, (4, 2)), (16, (8, 8)), (24, (8, 4)), (100, (16, 2)), (128, (16, 16))),
        *((200, (16, 4)), (256, (16, 16)), (300, (16, 2)), (304, (16, 8))),
    ],
)
def test_vectors_go_through_half_a_row_and_through_a_row(dim, widths):
    assert vector_widths(dim) == widths
    for count in (dim // 2, dim):
        assert count % widths[0] % widths[1] == 0


def test_noise_is_evenly_spread():
    words = rounding_noise(64)
    assert len(words) == NOISE_WORDS + 32
    assert (words[NOISE_WORDS:] == words[:32]).all()
    for numbers in (words[:NOISE_WORDS] & 0xFFFF, words[:NOISE_WORDS] >> 16):
        assert numbers.mean() == 2**15
        assert len(np.unique(numbers // (2**16 // NOISE_WORDS))) == NOISE_WORDS


@pytest.mark.parametrize("value", [1.0, 1.001, -3.33, 1e-30, -7e20, 255.4, 0.0])
def test_rounding_at_random_keeps_the_mean(value):
    """Over all places of the noise a value's mean is itself, and each result is one of its two neighbours."""
    noise, row = rounding_noise(8), np.zeros(4, np.uint32)
    vector, results = np.full(4, value, np.float32), []
    for start in range(NOISE_WORDS):
        put(row, 0, 4, vector, vector, noise, start)
        results.append(unpack(row[None])[0, [0, 4]])
    below, step = np.abs(np.float32(value)), 2.0**-7 * np.abs(value)
    np.testing.assert_allclose(np.mean(results, axis=0, dtype=np.float64), np.float32(value), atol=step / NOISE_WORDS)
    assert len(np.unique(results)) <= 2
    assert np.abs(np.abs(results) - below).max() <= step
