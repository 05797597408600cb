"""Kernels that are called without a look at the types of their arguments, and kernels that take one list of types."""

import numba
import numpy as np
import pytest

from workers.jit import JIT_ENABLED, Entry, ExactEntry, kernel


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


@kernel
def add_up(values, addend):
    total = addend
    for i in range(len(values)):
        total += values[i]
    return total


exact = ExactEntry(add_up, numba.float32[::1], numba.float64)


def read_only(values):
    values.flags.writeable = False
    return values


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(4, np.float64),
        np.zeros(4, np.int32),
        np.zeros((2, 2), np.float32),
        np.zeros(8, np.float32)[::2],
        read_only(np.zeros(4, np.float32)),
        [0.0, 0.0],
        None,
    ],
    ids=["float64", "int32", "two dimensions", "strided", "read-only", "list", "none"],
)
def test_an_exact_entry_takes_arrays_of_its_type_alone_and_compiles_once(values):
    assert exact.call(np.ones(3, np.float32), 1.5) == exact.call(np.ones(3, np.float32), 1.5) == 4.5
    assert exact.call(np.ones(2, np.float32), 1) == 3.0, "numbers are converted"
    with pytest.raises((TypeError, ValueError)):
        exact.call(values, 1.5)
    assert len(getattr(add_up, "signatures", [0])) == 1
