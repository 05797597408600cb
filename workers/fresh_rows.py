"""Small random rows, drawn by several threads at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from workers.cores import available_cores
from workers.rows import dim_of, pack, row_dtype_of

_BLOCK_ROWS = 16_384  # a block has a generator of its own, so that rows do not depend on the number of threads
_MAX_THREADS = 8


def fill_rows(
    rows_NS: np.ndarray, deviation: float, seed: int, should_stop: Callable[[], bool] = lambda: False
) -> None:
    """Draw every row from normal(0, deviation); equal seeds give equal rows, on any machine.

    Args:
        rows_NS: as `workers.rows` stores them; written in place.
        deviation: of each element.
        seed: any integer that is not negative.
        should_stop: asked before each block; True leaves the rest as it is.

    Concurrency: blocks are disjoint; NumPy draws without the interpreter's lock.
    """

    def fill(start: int) -> None:
        if should_stop():
            return
        rng = np.random.Generator(np.random.SFC64([seed, start]))
        block_nS = rows_NS[start : start + _BLOCK_ROWS]
        is_float32 = block_nS.dtype == np.float32
        drawn_nD = block_nS if is_float32 else np.empty((len(block_nS), dim_of(block_nS)), np.float32)
        rng.standard_normal(out=drawn_nD, dtype=np.float32)
        drawn_nD *= np.float32(deviation)
        if not is_float32:
            block_nS[:] = pack(drawn_nD, row_dtype_of(block_nS))

    with ThreadPoolExecutor(min(available_cores(), _MAX_THREADS), thread_name_prefix="fresh-rows") as threads:
        list(threads.map(fill, range(0, len(rows_NS), _BLOCK_ROWS)))
