"""Working memory: the same from chunk to chunk, new only where it must be."""

import numba
import numpy as np

from workers.scratch import HUGE_PAGE_BYTES, LINE_BYTES, Scratch, roomy


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

    asked = [(1, 5), (1, 4), (2, 3), (1, 5), (2, 5), (0, 6)]
    assert [scratch.grown("a", sizes, make) for sizes in asked] == [(1, 5), (1, 5), (2, 5), (2, 5), (2, 5), (2, 6)]
    assert made == [(1, 5), (2, 5), (2, 6)]


def test_a_roomy_size_is_the_next_power_of_two_and_never_tiny():
    assert [roomy(size) for size in (0, 1, 16, 17, 32, 33, 1000)] == [16, 16, 16, 32, 32, 64, 1024]
