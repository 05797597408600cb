"""Kernels that are called without a look at the types of their arguments."""

import numpy as np
import pytest

from workers.jit import JIT_ENABLED, Entry, kernel


@kernel
def add_to_all(values, addend, writes):
    total = values[0]
    for i in range(len(values)):
        if writes:
            values[i] += addend
        total += values[i]
    return total, len(values)


def test_every_call_gives_what_the_kernel_gives():
    entry = Entry(add_to_all)
    for size in (3, 5, 1):
        values = np.arange(size, dtype=np.float32)
        expected = values + 2
        assert entry.call(values, np.float32(2), True) == (expected.sum(), size)
        np.testing.assert_array_equal(values, expected)


@pytest.mark.skipif(not JIT_ENABLED, reason="plain Python takes everything")
def test_later_calls_compile_nothing_and_take_no_list_for_an_array():
    entry = Entry(add_to_all)
    entry.call(np.zeros(4, np.float32), np.float32(1), True)
    num_compiled = len(add_to_all.signatures)
    assert entry.call(np.zeros(4, np.float32), 1, 0) == (0.0, 4), "numbers are converted"
    with pytest.raises(TypeError):
        entry.call([1.0, 2.0], np.float32(1), True)
    assert len(add_to_all.signatures) == num_compiled
