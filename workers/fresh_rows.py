"""Small random rows, drawn by several threads at once."""

# mypy: allow-untyped-defs

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from workers.cores import available_cores
from workers.counters import FRESH_ROWS, random_bits, stream_key
from workers.jit import kernel
from workers.rows import dim_of, pack, row_dtype_of

_BLOCK_ROWS = 4096  # drawn by one thread, one after the other
_HALF_WIDTH_PER_DEVIATION = 3**0.5  # of a uniform distribution
_TWO_31, _THIRTY_TWO = 2.0**31, np.uint64(32)


def fill_rows(
    rows_NS: np.ndarray, deviation: float, seed: int, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Draw every element uniformly, with mean 0; equal seeds give equal rows, on any machine.

    Uniform numbers take a fraction of the time of normal ones, and a million rows are a good part of a start. What a
    row does depends on sums over many elements, which are normal either way.

    Args:
        rows_NS: as `workers.rows` stores them; written in place.
        deviation: standard deviation of each element.
        seed: 0 to 2**64 - 1.
        should_stop: asked before each block; True leaves the rest as it is.

    Concurrency: blocks are disjoint; an element depends on its place alone, and kernels run without the interpreter's
    lock.
    """
    key, scale = stream_key(seed, 0, 0, FRESH_ROWS), np.float32(_HALF_WIDTH_PER_DEVIATION * deviation / _TWO_31)
    dim, row_dtype, is_float32 = dim_of(rows_NS), row_dtype_of(rows_NS), rows_NS.dtype == np.float32

    def fill(start: int) -> None:
        if should_stop():
            return
        block_nS = rows_NS[start : start + _BLOCK_ROWS]
        drawn_nD = block_nS if is_float32 else np.empty((len(block_nS), dim), np.float32)
        _draw(key, start * dim // 2, scale, drawn_nD.reshape(-1))
        if not is_float32:
            block_nS[:] = pack(drawn_nD, row_dtype)

    with ThreadPoolExecutor(available_cores(), "fresh-rows") as threads:
        list(threads.map(fill, range(0, len(rows_NS), _BLOCK_ROWS)))


@kernel
def _draw(key, first_counter, scale, values):
    """Uniform on [-2**31, 2**31) times the scale: an even number of values, two from each 64 random bits."""
    for i in range(len(values) // 2):
        bits = random_bits(key, np.uint64(first_counter + i))
        values[2 * i] = np.float32(np.int32(bits)) * scale
        values[2 * i + 1] = np.float32(np.int32(bits >> _THIRTY_TWO)) * scale
