"""Working memory: the same from chunk to chunk, new only where it must be."""

import numba
import numpy as np

from workers.memory_units import HUGE_PAGE_BYTES, LINE_BYTES
from workers.scratch import Scratch, roomy


def test_arrays_of_a_name_share_their_memory():
    scratch = Scratch()
    large, small = scratch.array("a", (4, 5), np.float32), scratch.array("a", 3, np.float32)
    assert large.shape == (4, 5) and small.shape == (3,)
    assert np.shares_memory(large, small)
    assert not np.shares_memory(small, scratch.array("b", 3, np.float32))


def test_memory_begins_with_a_cache_line_and_is_what_kernels_were_compiled_for():
    scratch = Scratch()
    for size in (1, 3, 17, 1000, 100_000):
        for array in (scratch.empty((size, 3), np.float32), scratch.array("a", (size, 3), np.float32)):
            assert array.ctypes.data % LINE_BYTES == 0 and array.shape == (size, 3) and array.dtype == np.float32
            assert array.flags.carray and numba.typeof(array) == numba.typeof(np.empty((1, 1), np.float32))


def test_new_memory_is_zeroed_and_nobody_elses():
    scratch, arrays = Scratch(), []
    for size in (1, 100, HUGE_PAGE_BYTES - 6400, 5000, HUGE_PAGE_BYTES + 1, 7):
        arrays.append(scratch.empty(size, np.uint8))
        assert not arrays[-1].any()
        arrays[-1][:] = len(arrays)
    assert [np.unique(array).tolist() for array in arrays] == [[i + 1] for i in range(len(arrays))]


def test_what_is_kept_is_made_again_only_for_other_sizes():
    scratch, made = Scratch(), []

    def make():
        made.append(len(made))
        return made[-1]

    assert [scratch.kept("a", size, make) for size in (1, 1, 2, 2, 1)] == [0, 0, 1, 1, 2]
    assert scratch.kept("b", 1, make) == 3


def test_what_has_grown_serves_smaller_sizes():
    scratch, made = Scratch(), []

    def make(sizes):
        made.append(sizes)
        return sizes

    asked = [(16, 75), (16, 80), (32, 3), (16, 80), (25, 5), (0, 81)]
    got = [scratch.grown("a", sizes, make) for sizes in asked]
    assert got == [(16, 80), (16, 80), (32, 80), (32, 80), (32, 80), (32, 96)]
    assert made == [(16, 80), (32, 80), (32, 96)]


def test_a_roomy_size_is_the_next_multiple_of_16_or_an_eighth_larger_at_most():
    sizes = (0, 1, 16, 17, 33, 128, 129, 1000, 1024, 1025, 100_000)
    assert [roomy(size) for size in sizes] == [16, 16, 16, 32, 48, 128, 144, 1024, 1024, 1152, 106_496]
